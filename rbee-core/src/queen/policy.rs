//! Asking the scheduler: in the driver's own loop where it is cheap, on threads of its own where it is not.
//!
//! Whatever the policy does, the queen goes on: a panic, an error or an answer that does not come in time is a fault
//! of the policy, and the built-in one decides that job. After several faults in a row the built-in one decides
//! everything, until the policy is changed.

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

use threads::Threads;

/// Faults in a row after which the policy is not asked any more.
const MOST_FAULTS: u32 = 5;

/// How the policy fares, as its owner is to know it.
#[derive(Clone, Debug, Default)]
pub struct PolicyHealth {
    /// Decisions that it failed to make since it came into force.
    pub faults: u64,
    /// The last of them.
    pub last_fault: Option<(WallTime, Error)>,
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
    /// The policy, later.
    Later,
}

#[derive(Debug)]
pub(super) struct Policy {
    scheduler: Arc<dyn Scheduler>,
    version: Option<u64>,
    fallback: LeastLoaded,
    threads: Option<Threads>,
    reign: Reign,
    faults_in_a_row: u32,
}

impl Policy {
    pub(super) fn new(
        scheduler: Arc<dyn Scheduler>,
        version: Option<u64>,
        fallback: LeastLoaded,
    ) -> Result<Self> {
        Ok(Self {
            threads: Threads::of(&scheduler)?,
            reign: Reign::new(scheduler.clone(), version),
            scheduler,
            version,
            fallback,
            faults_in_a_row: 0,
        })
    }

    pub(super) fn reign(&self) -> &Reign {
        &self.reign
    }

    pub(super) fn scheduler(&self) -> &Arc<dyn Scheduler> {
        &self.scheduler
    }

    pub(super) fn fallback(&self) -> &LeastLoaded {
        &self.fallback
    }

    pub(super) fn version(&self) -> Option<u64> {
        self.version
    }

    /// Puts another policy in force. Questions to the old one are still answered by it.
    pub(super) fn replace(
        &mut self,
        scheduler: Arc<dyn Scheduler>,
        version: Option<u64>,
    ) -> Result<()> {
        self.threads = Threads::of(&scheduler)?;
        self.faults_in_a_row = 0;
        *self.reign.lock() =
            InForce { scheduler: scheduler.clone(), version, health: PolicyHealth::default() };
        (self.scheduler, self.version) = (scheduler, version);
        Ok(())
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.faults_in_a_row >= MOST_FAULTS
    }

    /// Where the job goes; the answer that is not there at once goes to `then`.
    pub(super) fn place(
        &self,
        ask: Ask,
        fallback: bool,
        view: &ClusterView,
        then: impl FnOnce(Result<Placement>) + Send + 'static,
    ) -> Asked<Placement> {
        if fallback || self.is_suspended() {
            return Asked::BuiltIn(self.fallback.place(&ask, view));
        }
        let Some(threads) = &self.threads else {
            let placed = guarded(|| self.scheduler.place(&ask, view));
            return Asked::Policy(placed);
        };
        let view = view.clone();
        threads.ask(move |scheduler| scheduler.place(&ask, &view), then)
    }

    /// Whether [`admit`](Self::admit) is to be called at all.
    pub(super) fn admits(&self) -> bool {
        self.scheduler.admits() && !self.is_suspended()
    }

    /// Whether the job may join the queue; the answer that is not there at once goes to `then`.
    pub(super) fn admit(
        &self,
        ask: Ask,
        view: &ClusterView,
        then: impl FnOnce(Result<Admission>) + Send + 'static,
    ) -> Asked<Admission> {
        let Some(threads) = &self.threads else {
            return Asked::Policy(guarded(|| self.scheduler.admit(&ask, view)));
        };
        let view = view.clone();
        threads.ask(move |scheduler| scheduler.admit(&ask, &view), then)
    }

    /// It gave an answer that made sense.
    pub(super) fn did_well(&mut self) {
        if !self.is_suspended() {
            self.faults_in_a_row = 0;
        }
    }

    /// It gave none, or one that made none. Says whether this was once too often.
    pub(super) fn failed(&mut self, why: &Error) -> bool {
        let was_suspended = self.is_suspended();
        self.faults_in_a_row = self.faults_in_a_row.saturating_add(1);
        let health = &mut self.reign.lock().health;
        health.faults += 1;
        health.last_fault = Some((WallTime::now(), why.clone()));
        health.is_suspended = self.is_suspended();
        health.is_suspended && !was_suspended
    }
}

pub(super) fn guarded<T>(decide: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decide)).unwrap_or_else(|panic| {
        let message = format!("the scheduler panicked: {}", panic_message(&*panic));
        Err(Error::new(ErrorKind::Internal, message))
    })
}
