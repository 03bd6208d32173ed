//! Asking the scheduler: in the driver's own loop where it is cheap, on threads of its own where it is not.
//!
//! Whatever the policy does, the queen goes on: a panic, an error or an answer that does not come in time is a fault
//! of the policy, and the built-in one decides that job. After several faults in a row the built-in one decides
//! everything, until the policy is changed. Where more questions come than the policy's threads can take, the built-in
//! one decides as well, and that is no fault.

mod threads;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::panic_message;
use crate::{
    Admission, Ask, ClusterView, Error, ErrorKind, LeastLoaded, Placement, Result, Scheduler,
    WallTime,
};

use threads::{Put, Threads};

/// Faults in a row of one [`Function`] after which the policy is not asked any more.
const MOST_FAULTS: u32 = 5;

/// How the policy fares, as its owner is to know it.
#[derive(Clone, Debug, Default)]
pub struct PolicyHealth {
    /// Decisions that it failed to make since it came into force.
    pub faults: u64,
    /// The last of them.
    pub last_fault: Option<(WallTime, Error)>,
    /// Decisions that the built-in policy made because too many questions waited for this one already: no faults of it.
    pub passed_over: u64,
    /// It failed too often in a row: the built-in policy decides everything until the policy is changed.
    pub is_suspended: bool,
}

/// The policy in force, as everybody sees it.
#[derive(Clone, Debug)]
pub(super) struct InForce {
    pub(super) scheduler: Arc<dyn Scheduler>,
    /// Its number, where it is a recorded one.
    pub(super) version: Option<u64>,
    pub(super) health: PolicyHealth,
}

/// The same, shared between the driver and those who ask.
#[derive(Clone, Debug)]
pub(super) struct Reign(Arc<Mutex<InForce>>);

impl Reign {
    pub(super) fn new(scheduler: Arc<dyn Scheduler>, version: Option<u64>) -> Self {
        let health = PolicyHealth::default();
        Self(Arc::new(Mutex::new(InForce { scheduler, version, health })))
    }

    pub(super) fn look(&self) -> InForce {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, InForce> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who answered, or is going to.
#[derive(Debug)]
pub(super) enum Asked<T> {
    /// The policy, at once.
    Policy(Result<T>),
    /// The built-in policy, at once.
    BuiltIn(Result<T>),
    /// The policy, later; or nobody, where the question did not get its turn.
    Later,
}

/// What a policy is asked for. The faults of each are counted apart: an answer to one says nothing of the other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Function {
    Place,
    Admit,
}

/// Which of the policies that were in force one after the other. What an old one still answers says nothing of its
/// successor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Term(u64);

/// A scheduler, with the threads that it wants.
#[derive(Debug)]
pub(super) struct Ready {
    scheduler: Arc<dyn Scheduler>,
    admits: bool,
    threads: Option<Threads>,
}

impl Ready {
    pub(super) fn new(scheduler: Arc<dyn Scheduler>) -> Result<Self> {
        let info = scheduler.info();
        Ok(Self { threads: Threads::of(&scheduler, &info)?, admits: info.admits, scheduler })
    }
}

#[derive(Debug)]
pub(super) struct Policy {
    ready: Ready,
    version: Option<u64>,
    fallback: LeastLoaded,
    reign: Reign,
    term: Term,
    /// Faults in a row, by function.
    faults: [u32; 2],
}

impl Policy {
    pub(super) fn new(ready: Ready, version: Option<u64>, fallback: LeastLoaded) -> Self {
        let reign = Reign::new(ready.scheduler.clone(), version);
        Self { ready, version, fallback, reign, term: Term::default(), faults: [0; 2] }
    }

    pub(super) fn reign(&self) -> &Reign {
        &self.reign
    }

    pub(super) fn scheduler(&self) -> &Arc<dyn Scheduler> {
        &self.ready.scheduler
    }

    pub(super) fn fallback(&self) -> &LeastLoaded {
        &self.fallback
    }

    pub(super) fn version(&self) -> Option<u64> {
        self.version
    }

    pub(super) fn term(&self) -> Term {
        self.term
    }

    /// Puts another policy in force. Questions to the old one are still answered by it.
    pub(super) fn replace(&mut self, ready: Ready, version: Option<u64>) {
        let (scheduler, health) = (ready.scheduler.clone(), PolicyHealth::default());
        *self.reign.lock() = InForce { scheduler, version, health };
        (self.ready, self.version) = (ready, version);
        (self.term, self.faults) = (Term(self.term.0 + 1), [0; 2]);
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.faults.iter().any(|faults| *faults >= MOST_FAULTS)
    }

    /// Where the job goes; the answer that is not there at once goes to `then`, or nothing where the question did not
    /// get its turn.
    pub(super) fn place(
        &self,
        ask: Ask,
        fallback: bool,
        view: &ClusterView,
        then: impl FnOnce(Option<Result<Placement>>) + Send + 'static,
    ) -> Asked<Placement> {
        if fallback || self.is_suspended() {
            return Asked::BuiltIn(self.fallback.place(&ask, view));
        }
        let Some(threads) = &self.ready.threads else {
            return Asked::Policy(guarded(|| self.ready.scheduler.place(&ask, view)));
        };
        let (question, seen) = (ask.clone(), view.clone());
        match threads.ask(move |scheduler| scheduler.place(&question, &seen), then) {
            Put::Asked => Asked::Later,
            Put::Failed(error) => Asked::Policy(Err(error)),
            Put::Full => {
                self.passed_over(self.term);
                Asked::BuiltIn(self.fallback.place(&ask, view))
            }
        }
    }

    /// Whether [`admit`](Self::admit) is to be called at all.
    pub(super) fn admits(&self) -> bool {
        self.ready.admits && !self.is_suspended()
    }

    /// Whether the job may join the queue; the answer that is not there at once goes to `then`, or nothing where the
    /// question did not get its turn.
    pub(super) fn admit(
        &self,
        ask: Ask,
        view: &ClusterView,
        then: impl FnOnce(Option<Result<Admission>>) + Send + 'static,
    ) -> Asked<Admission> {
        let Some(threads) = &self.ready.threads else {
            return Asked::Policy(guarded(|| self.ready.scheduler.admit(&ask, view)));
        };
        let view = view.clone();
        match threads.ask(move |scheduler| scheduler.admit(&ask, &view), then) {
            Put::Asked => Asked::Later,
            Put::Failed(error) => Asked::Policy(Err(error)),
            Put::Full => {
                self.passed_over(self.term);
                Asked::BuiltIn(Ok(Admission::default()))
            }
        }
    }

    /// A question did not get its turn; the built-in policy decides.
    pub(super) fn passed_over(&self, asked: Term) {
        if asked == self.term {
            self.reign.lock().health.passed_over += 1;
        }
    }

    /// The policy of that term gave an answer that made sense.
    pub(super) fn did_well(&mut self, asked: Term, function: Function) {
        if asked == self.term && !self.is_suspended() {
            self.faults[function as usize] = 0;
        }
    }

    /// It gave none, or one that made none. Says whether this was once too often.
    pub(super) fn failed(&mut self, asked: Term, function: Function, why: &Error) -> bool {
        if asked != self.term {
            return false;
        }
        let was_suspended = self.is_suspended();
        let in_a_row = &mut self.faults[function as usize];
        *in_a_row = in_a_row.saturating_add(1);
        let is_suspended = self.is_suspended();
        let health = &mut self.reign.lock().health;
        health.faults += 1;
        health.last_fault = Some((WallTime::now(), why.clone()));
        health.is_suspended = is_suspended;
        is_suspended && !was_suspended
    }
}

pub(super) fn guarded<T>(decide: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decide)).unwrap_or_else(|panic| {
        let message = format!("the scheduler panicked: {}", panic_message(&*panic));
        Err(Error::new(ErrorKind::Internal, message))
    })
}
