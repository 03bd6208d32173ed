//! The [`Scheduler`] trait: where a job goes, now.

use std::{fmt, sync::Arc};

use crate::{cluster::ClusterView, error::Result};

#[cfg(feature = "rhai")]
mod capability;
mod decision;
mod function;
mod info;
mod least_loaded;
mod platform;
#[cfg(feature = "rhai")]
mod rhai;
#[cfg(feature = "rules")]
mod rules;
mod spawn;
#[cfg(feature = "rhai")]
mod time_of_day;
mod trace;

pub use decision::{Admission, Ask, Candidate, Explanation, Placement, Verdict};
pub use function::FnScheduler;
pub use info::SchedulerInfo;
pub use least_loaded::LeastLoaded;
pub use platform::PlatformPolicy;
#[cfg(feature = "rhai")]
pub use rhai::{RhaiScheduler, scheduler_reference};
#[cfg(feature = "rules")]
pub use rules::{rules_schema, rules_to_rhai};
pub(crate) use spawn::place_replica;

pub use crate::policy_source::{PolicyLanguage, PolicySource};
pub use crate::sizing::{DeviceEstimate, Fit, Sizing, plan_eviction};

/// Where a job goes, now. It sees the whole cluster, and has no clock, no randomness and no input or output of its own:
/// all it may use comes with the question.
///
/// Only [`place`](Self::place) has to be written. A function will do: [`FnScheduler`]. Implementations are proved by
/// [`conformance::scheduler`](crate::conformance::scheduler) (feature `conformance`).
pub trait Scheduler: fmt::Debug + Send + Sync + 'static {
    /// Decides where a job goes.
    ///
    /// # Errors
    /// A policy that cannot decide returns the reason; the built-in one, [`LeastLoaded`], decides that job instead, and
    /// the fault is counted. The same happens if it panics.
    fn place(&self, ask: &Ask, cluster: &ClusterView) -> Result<Placement>;

    /// Decides, with the reasons. It must come to the same decision as [`place`](Self::place).
    fn explain(&self, ask: &Ask, cluster: &ClusterView) -> Explanation {
        Explanation {
            placement: self.place(ask, cluster),
            steps: Vec::new(),
            candidates: Vec::new(),
        }
    }

    /// Decides whether a job may join the queue, and at which rank. Called after the queen's own limits, before
    /// anything of the job is recorded, and only if [`SchedulerInfo::admits`] is set.
    ///
    /// # Errors
    /// A policy that cannot decide returns the reason; the job is admitted at rank 0 then, and the fault is counted.
    fn admit(&self, _ask: &Ask, _cluster: &ClusterView) -> Result<Admission> {
        Ok(Admission::default())
    }

    /// The scheduler that a replay asks instead; `None` if it is this one. Its answers must follow from the questions
    /// alone, however busy the machine is: a policy that limits its decisions by the clock limits them by their work
    /// here.
    fn for_replay(&self) -> Option<Arc<dyn Scheduler>> {
        None
    }

    /// Its name, and how it wants to be called; by default the name of its type, cheap, and without admission.
    ///
    /// It is read when the scheduler comes into force, and when people look at it, never for a decision. So it may
    /// allocate, and must always be the same.
    fn info(&self) -> SchedulerInfo {
        SchedulerInfo::of::<Self>()
    }
}

/// A shared scheduler is a scheduler.
#[deny(clippy::missing_trait_methods)]
impl<S: Scheduler + ?Sized> Scheduler for Arc<S> {
    fn place(&self, ask: &Ask, cluster: &ClusterView) -> Result<Placement> {
        (**self).place(ask, cluster)
    }
    fn explain(&self, ask: &Ask, cluster: &ClusterView) -> Explanation {
        (**self).explain(ask, cluster)
    }
    fn admit(&self, ask: &Ask, cluster: &ClusterView) -> Result<Admission> {
        (**self).admit(ask, cluster)
    }
    fn for_replay(&self) -> Option<Arc<dyn Scheduler>> {
        (**self).for_replay()
    }
    fn info(&self) -> SchedulerInfo {
        (**self).info()
    }
}

impl PolicyLanguage {
    /// A JSON schema with which an editor completes and checks a policy in this language; `None` if there is none.
    pub fn schema(self) -> Option<serde_json::Value> {
        match self {
            #[cfg(feature = "rules")]
            Self::Yaml => Some(rules_schema()),
            _ => None,
        }
    }
}
