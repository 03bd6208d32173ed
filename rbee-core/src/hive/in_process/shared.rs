//! The state that a hive shares with its loads and subscriptions.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::sync::{broadcast, watch};

use super::{
    super::{Devices, HiveReport, WorkerReport},
    factory::WorkerFactory,
    link::{Link, LinkState},
    load::Load,
};
use crate::{
    error::Error,
    id::WorkerId,
    model_on_disk::ModelOnDisk,
    model_ref::ModelRef,
    models::InUse,
    worker::{Worker, WorkerHealth, WorkerInfo},
};

/// The most queued notes of a subscriber; beyond it the subscriber gets a full report instead.
pub(super) const NOTES: usize = 256;
/// How long a worker may take to report its health before the report continues without it.
const HEALTH_LIMIT: Duration = Duration::from_secs(1);

/// The state of the hive that loads and subscriptions need.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) link: watch::Sender<Link>,
    pub(super) notes: broadcast::Sender<Note>,
    pub(super) devices: Devices,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) rev: u64,
    /// The factory of workers, if there is one.
    pub(super) factory: Option<Arc<dyn WorkerFactory>>,
    pub(super) workers: BTreeMap<WorkerId, Arc<dyn Worker>>,
    pub(super) loads: BTreeMap<WorkerId, Load>,
    pub(super) models: BTreeMap<ModelRef, ModelOnDisk>,
    /// The models of the store that workers have loaded.
    pub(super) in_use: BTreeMap<WorkerId, InUse>,
    /// True if changes of the store are followed.
    pub(super) follows_store: bool,
}

/// A note to subscribers.
#[derive(Clone, Debug)]
pub(super) enum Note {
    /// The state has this revision now.
    Changed(u64),
    /// A worker ended that nobody asked to stop.
    Exited { worker: WorkerId, why: Error },
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            // A hive has a state from the start, so no report has the revision 0.
            state: Mutex::new(State { rev: 1, ..State::default() }),
            link: watch::Sender::new(Link::default()),
            notes: broadcast::Sender::new(NOTES),
            devices: Devices::new(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // No step under the lock can panic in the middle: every change is one call on one map.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state; if there was a difference, it gets a new revision and subscribers are notified.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> Option<T>) -> Option<T> {
        let mut state = self.state();
        let changed = change(&mut state)?;
        state.rev += 1;
        // An error means that there are no subscribers. Sent under the lock, so that revisions are sent in order.
        let _ = self.notes.send(Note::Changed(state.rev));
        Some(changed)
    }

    /// The full report. A worker that does not report its health in time is still listed, because it exists.
    pub(super) async fn report(&self) -> HiveReport {
        // Devices are what models can be loaded on; without a factory there are none to report.
        let factory = self.state().factory.clone();
        let devices = if factory.is_some() { self.devices.read().await } else { Vec::new() };
        let (rev, models, workers) = {
            let state = self.state();
            let models = state.models.values().cloned().map(|model| match &factory {
                Some(factory) => {
                    let limits = factory.limits(&model.model);
                    model.with_limits(limits)
                }
                None => model,
            });
            let workers: Vec<_> = state.workers.values().cloned().collect();
            (state.rev, models.collect(), workers)
        };
        let health = workers.iter().map(health);
        let health = join_all(health).await;
        let workers = workers.iter().zip(health).map(|(worker, health)| {
            let info = WorkerInfo::clone(worker.info());
            WorkerReport { info, health }
        });
        let engines = factory.and_then(|factory| factory.engines());
        HiveReport { rev, devices, engines, models, workers: workers.collect() }
    }

    /// Ends every subscription and drops every worker. Returns the loads that must still end.
    pub(super) fn end(&self) -> Vec<Load> {
        self.link.send_modify(|link| link.end(LinkState::Down));
        let (workers, loads) = {
            let mut state = self.state();
            state.rev += 1;
            state.loads.values_mut().for_each(|load| load.given_up = true);
            let loads = state.loads.values().cloned().collect();
            state.in_use.clear();
            (std::mem::take(&mut state.workers), loads)
        };
        // Outside the lock: the drop of a worker may run any code.
        drop(workers);
        loads
    }
}

async fn health(worker: &Arc<dyn Worker>) -> WorkerHealth {
    match tokio::time::timeout(HEALTH_LIMIT, worker.health()).await {
        Ok(Ok(health)) => health,
        Ok(Err(error)) => {
            tracing::warn!(worker = %worker.info().id, %error, "a worker failed to report its health");
            WorkerHealth::default()
        }
        Err(_) => {
            tracing::warn!(worker = %worker.info().id, "a worker did not report its health in time");
            WorkerHealth::default()
        }
    }
}
