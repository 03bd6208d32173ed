//! Asks the scheduler: in the driver's own loop if it is cheap, on separate threads if it sets a time limit.
//!
//! The engine decides whether an answer is usable, and when a policy is no longer asked.

mod threads;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    cluster::ClusterView,
    engine::{Advice, PolicyHealth, Question},
    error::Result,
    scheduler::{Ask, LeastLoaded, Scheduler},
};

pub(super) use crate::engine::guarded;
use threads::Threads;

/// The active policy, as visible to all.
#[derive(Clone, Debug)]
pub(super) struct InForce {
    pub(super) scheduler: Arc<dyn Scheduler>,
    /// Its version, if it is a recorded one.
    pub(super) version: Option<u64>,
    pub(super) health: PolicyHealth,
}

/// The active policy, shared between the driver and its readers.
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

    pub(super) fn set_health(&self, health: PolicyHealth) {
        self.lock().health = health;
    }

    fn lock(&self) -> MutexGuard<'_, InForce> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A scheduler, with the threads that it needs.
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

    /// True if it must be asked which jobs may join the queue.
    pub(super) fn admits(&self) -> bool {
        self.admits
    }
}

#[derive(Debug)]
pub(super) struct Policy {
    ready: Ready,
    version: Option<u64>,
    built_in: LeastLoaded,
    reign: Reign,
}

impl Policy {
    pub(super) fn new(ready: Ready, version: Option<u64>, built_in: LeastLoaded) -> Self {
        let reign = Reign::new(ready.scheduler.clone(), version);
        Self { ready, version, built_in, reign }
    }

    pub(super) fn reign(&self) -> &Reign {
        &self.reign
    }

    pub(super) fn scheduler(&self) -> &Arc<dyn Scheduler> {
        &self.ready.scheduler
    }

    pub(super) fn built_in(&self) -> &LeastLoaded {
        &self.built_in
    }

    pub(super) fn version(&self) -> Option<u64> {
        self.version
    }

    /// Activates another policy. Questions to the old one are still answered by it.
    pub(super) fn replace(&mut self, ready: Ready, version: Option<u64>) {
        let (scheduler, health) = (ready.scheduler.clone(), PolicyHealth::default());
        *self.reign.lock() = InForce { scheduler, version, health };
        (self.ready, self.version) = (ready, version);
    }

    /// Asks the active policy. An answer that is not available at once goes to `then`.
    pub(super) fn ask(
        &self,
        question: Question,
        ask: &Ask,
        view: &ClusterView,
        then: impl FnOnce(Advice) + Send + 'static,
    ) -> Option<Advice> {
        let Some(threads) = &self.ready.threads else {
            return Some(question.put_to(&*self.ready.scheduler, ask, view));
        };
        let (ask, view) = (ask.clone(), view.clone());
        threads.ask(move |scheduler| question.put_to(scheduler, &ask, &view), then)
    }
}
