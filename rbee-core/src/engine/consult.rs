//! Questions to the policy, and its answers, as data: [`Effect::Consult`](super::Effect::Consult) and
//! [`Input::Advised`](super::Input::Advised).

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};

use crate::{
    cluster::ClusterView,
    error::{Error, ErrorKind, Result, panic_message},
    scheduler::{Admission, Ask, Placement, Scheduler},
};

/// What is asked about a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// May it join the queue, and where in it? Asked only of a policy that admits jobs.
    Admit,
    /// Where does it go?
    Place(Decider),
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decider {
    /// The policy in force.
    Policy,
    /// The built-in policy, because the one in force could not decide this job, or is suspended.
    BuiltIn,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Advice {
    /// The answer to [`Question::Admit`].
    Admission(Admission),
    /// The answer to [`Question::Place`].
    Placement(Placement),
    /// There is no answer: the policy failed, panicked or took too long. A fault of the policy.
    Failed(Error),
    /// Nobody had time for the question. No fault of the policy.
    NoTime,
}

impl Question {
    /// Puts the question to this scheduler. If it panics, it has failed.
    pub fn put_to(self, scheduler: &dyn Scheduler, ask: &Ask, cluster: &ClusterView) -> Advice {
        let answer = match self {
            Self::Admit => guarded(|| scheduler.admit(ask, cluster).map(Advice::Admission)),
            Self::Place(_) => guarded(|| scheduler.place(ask, cluster).map(Advice::Placement)),
        };
        answer.unwrap_or_else(Advice::Failed)
    }
}

/// Runs code of a policy. A panic is an error.
pub(crate) fn guarded<T>(decide: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decide)).unwrap_or_else(|panic| {
        let message = format!("the scheduler panicked: {}", panic_message(&*panic));
        Err(Error::new(ErrorKind::Internal, message))
    })
}
