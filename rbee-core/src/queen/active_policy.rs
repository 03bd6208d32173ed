//! The calls of the active policy: in the driver's own loop if it is cheap, on its own threads if it states a time
//! limit.
//!
//! The engine decides whether an answer is used, and when a policy is suspended.

mod threads;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    cluster::ClusterView,
    engine::{Advice, PolicyHealth, Question},
    error::Result,
    scheduler::{Ask, LeastLoaded, Scheduler},
};

use threads::Threads;

/// The active policy at one moment.
#[derive(Clone, Debug)]
pub(super) struct ActivePolicySnapshot {
    pub(super) scheduler: Arc<dyn Scheduler>,
    /// The number of the version; `None` if it is not recorded.
    pub(super) version: Option<u64>,
    pub(super) health: PolicyHealth,
}

/// The active policy, shared between the driver, which changes it, and the handles of the queen, which read it.
#[derive(Clone, Debug)]
pub(super) struct ActivePolicy(Arc<Mutex<ActivePolicySnapshot>>);

impl ActivePolicy {
    pub(super) fn new(scheduler: Arc<dyn Scheduler>, version: Option<u64>) -> Self {
        let health = PolicyHealth::default();
        Self(Arc::new(Mutex::new(ActivePolicySnapshot { scheduler, version, health })))
    }

    pub(super) fn snapshot(&self) -> ActivePolicySnapshot {
        self.lock().clone()
    }

    pub(super) fn set_health(&self, health: PolicyHealth) {
        self.lock().health = health;
    }

    fn lock(&self) -> MutexGuard<'_, ActivePolicySnapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A scheduler, with the threads that it needs.
#[derive(Debug)]
pub(super) struct PreparedPolicy {
    scheduler: Arc<dyn Scheduler>,
    admits: bool,
    threads: Option<Threads>,
}

impl PreparedPolicy {
    pub(super) fn new(scheduler: Arc<dyn Scheduler>) -> Result<Self> {
        let info = scheduler.info();
        Ok(Self { threads: Threads::of(&scheduler, &info)?, admits: info.admits, scheduler })
    }

    /// Returns true if the scheduler decides which jobs may join the queue.
    pub(super) fn admits(&self) -> bool {
        self.admits
    }
}

/// The policy as the driver calls it.
#[derive(Debug)]
pub(super) struct PolicyRunner {
    prepared: PreparedPolicy,
    version: Option<u64>,
    built_in: LeastLoaded,
    active: ActivePolicy,
}

impl PolicyRunner {
    pub(super) fn new(
        prepared: PreparedPolicy,
        version: Option<u64>,
        built_in: LeastLoaded,
    ) -> Self {
        let active = ActivePolicy::new(prepared.scheduler.clone(), version);
        Self { prepared, version, built_in, active }
    }

    pub(super) fn active(&self) -> &ActivePolicy {
        &self.active
    }

    pub(super) fn scheduler(&self) -> &Arc<dyn Scheduler> {
        &self.prepared.scheduler
    }

    pub(super) fn built_in(&self) -> &LeastLoaded {
        &self.built_in
    }

    pub(super) fn version(&self) -> Option<u64> {
        self.version
    }

    /// Activates another policy. The old one still answers the questions that it was asked.
    pub(super) fn replace(&mut self, prepared: PreparedPolicy, version: Option<u64>) {
        let (scheduler, health) = (prepared.scheduler.clone(), PolicyHealth::default());
        *self.active.lock() = ActivePolicySnapshot { scheduler, version, health };
        (self.prepared, self.version) = (prepared, version);
    }

    /// Puts a question to the active policy. `None` if the answer comes later; `then` gets it.
    pub(super) fn ask(
        &self,
        question: Question,
        ask: &Ask,
        view: &ClusterView,
        then: impl FnOnce(Advice) + Send + 'static,
    ) -> Option<Advice> {
        let Some(threads) = &self.prepared.threads else {
            return Some(question.put_to(&*self.prepared.scheduler, ask, view));
        };
        let (ask, view) = (ask.clone(), view.clone());
        threads.ask(move |scheduler| question.put_to(scheduler, &ask, &view), then)
    }
}
