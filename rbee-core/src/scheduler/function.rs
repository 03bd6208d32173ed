//! A scheduler that is a function.

use std::{fmt, time::Duration};

use super::{
    Scheduler,
    decision::{Ask, Placement},
    info::SchedulerInfo,
};
use crate::{cluster::ClusterView, error::Result};

/// A [`Scheduler`] that is a function of the question and the cluster.
///
/// ```
/// use rbee_core::{Ask, ClusterView, FnScheduler, Placement};
///
/// /// The first worker that has the model and a free slot, and never a new one.
/// let thrifty = FnScheduler::new("thrifty", |ask: &Ask, cluster: &ClusterView| {
///     let free = cluster.available(&ask.job.model).next();
///     Ok(free.map_or(Placement::Wait, |worker| Placement::Assign(worker.info.id)))
/// });
/// assert_eq!(format!("{thrifty:?}"), r#"FnScheduler("thrifty")"#);
/// ```
pub struct FnScheduler<F> {
    place: F,
    info: SchedulerInfo,
}

impl<F> FnScheduler<F>
where
    F: Fn(&Ask, &ClusterView) -> Result<Placement> + Send + Sync + 'static,
{
    /// Calls `place` for every decision, in the queen's own loop: it must be fast, and decide by its arguments alone.
    /// The name is for people.
    pub fn new(name: impl Into<String>, place: F) -> Self {
        let info = SchedulerInfo::new(name).with_description("a function of this application");
        Self { place, info }
    }

    /// Calls it on a thread of its own; the built-in policy decides what it does not decide in this time.
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.info.limit = Some(limit);
        self
    }
}

impl<F> fmt::Debug for FnScheduler<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FnScheduler").field(&self.info.name).finish()
    }
}

impl<F> Scheduler for FnScheduler<F>
where
    F: Fn(&Ask, &ClusterView) -> Result<Placement> + Send + Sync + 'static,
{
    fn place(&self, ask: &Ask, cluster: &ClusterView) -> Result<Placement> {
        (self.place)(ask, cluster)
    }

    fn info(&self) -> SchedulerInfo {
        self.info.clone()
    }
}
