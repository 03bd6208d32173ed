//! What the loads and the subscriptions of a hive share with it.

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

/// Notes that a subscriber may be behind before it gets a full report in their place.
pub(super) const NOTES: usize = 256;
/// How long a worker may take to say how it is before the report goes on without it.
const HEALTH_LIMIT: Duration = Duration::from_secs(1);

/// What loads and subscriptions need of the hive.
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
    /// Who makes workers here, where any can be made.
    pub(super) factory: Option<Arc<dyn WorkerFactory>>,
    pub(super) workers: BTreeMap<WorkerId, Arc<dyn Worker>>,
    pub(super) loads: BTreeMap<WorkerId, Load>,
    pub(super) models: BTreeMap<ModelRef, ModelOnDisk>,
    /// Models of the store that workers have loaded.
    pub(super) in_use: BTreeMap<WorkerId, InUse>,
    /// What the store has is followed.
    pub(super) follows_store: bool,
}

/// What subscribers are told.
#[derive(Clone, Debug)]
pub(super) enum Note {
    /// The state has this revision now.
    Changed(u64),
    /// A worker is gone that nobody asked to stop.
    Exited { worker: WorkerId, why: Error },
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            // A hive has a state from the start, so that no report has the revision 0.
            state: Mutex::new(State { rev: 1, ..State::default() }),
            link: watch::Sender::new(Link::default()),
            notes: broadcast::Sender::new(NOTES),
            devices: Devices::new(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // No step under the lock can panic half-way: every change is one call on one map.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state; where that made a difference, it has a new revision and subscribers hear of it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> Option<T>) -> Option<T> {
        let mut state = self.state();
        let changed = change(&mut state)?;
        state.rev += 1;
        // An error says that nobody listens. Sent under the lock, so that revisions are told in their order.
        let _ = self.notes.send(Note::Changed(state.rev));
        Some(changed)
    }

    /// The whole state. A worker that does not say how it is in time is listed all the same: it is there.
    pub(super) async fn report(&self) -> HiveReport {
        // Devices are what models can be loaded on; where none can be, there are none to tell of.
        let factory = self.state().factory.clone();
        let devices = if factory.is_some() { self.devices.read().await } else { Vec::new() };
        let (rev, models, workers) = {
            let state = self.state();
            let models = state.models.values().cloned().map(|model| match &factory {
                Some(factory) => ModelOnDisk { limits: factory.limits(&model.model), ..model },
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
        HiveReport { rev, devices, models, workers: workers.collect() }
    }

    /// Ends every subscription and lets go of every worker. Returns the loads that are still to end.
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
        // Outside the lock: what a worker does when it is dropped is not ours to know.
        drop(workers);
        loads
    }
}

async fn health(worker: &Arc<dyn Worker>) -> WorkerHealth {
    match tokio::time::timeout(HEALTH_LIMIT, worker.health()).await {
        Ok(Ok(health)) => health,
        Ok(Err(error)) => {
            tracing::warn!(worker = %worker.info().id, %error, "a worker cannot say how it is");
            WorkerHealth::default()
        }
        Err(_) => {
            tracing::warn!(worker = %worker.info().id, "a worker does not say how it is");
            WorkerHealth::default()
        }
    }
}
