//! Questions to the policy, and its answers, as data: [`Effect::Consult`](super::Effect::Consult) and
//! [`Input::Advised`](super::Input::Advised).

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};

use crate::{
    cluster::ClusterView,
    error::{Error, ErrorKind, Result, panic_message},
    scheduler::{Admission, Ask, Placement, Scheduler},
};

/// A question about a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether it may join the queue, and at which rank. Asked only of a policy that admits jobs.
    Admit,
    /// Where it goes.
    Place(Decider),
}

/// The policy that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decider {
    /// The active policy.
    Policy,
    /// The built-in policy, because the active one could not decide about this job, or is suspended.
    BuiltIn,
}

/// The result of a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Advice {
    /// The answer to [`Question::Admit`].
    Admission(Admission),
    /// The answer to [`Question::Place`].
    Placement(Placement),
    /// There is no answer: the policy failed, panicked or took too long. A fault of the policy.
    Failed(Error),
    /// The question was not asked because the policy was busy. Not a fault of the policy.
    NoTime,
}

impl Question {
    /// Asks this scheduler. A panic counts as a failure.
    pub fn put_to(self, scheduler: &dyn Scheduler, ask: &Ask, cluster: &ClusterView) -> Advice {
        let answer = match self {
            Self::Admit => guarded(|| scheduler.admit(ask, cluster).map(Advice::Admission)),
            Self::Place(_) => guarded(|| scheduler.place(ask, cluster).map(Advice::Placement)),
        };
        answer.unwrap_or_else(Advice::Failed)
    }
}

/// Runs code of a policy. A panic becomes an error.
pub(crate) fn guarded<T>(decide: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decide)).unwrap_or_else(|panic| {
        let message = format!("the scheduler panicked: {}", panic_message(&*panic));
        Err(Error::new(ErrorKind::Internal, message))
    })
}
