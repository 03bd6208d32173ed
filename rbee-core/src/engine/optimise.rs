//! The optimiser: starts replicas where queues build up, and stops what is not used.
//!
//! It never evicts, and it turns around slowly: what it started stays until it has been idle for `scale_back_after`,
//! and a model that was scaled back is not scaled up again for as long.

use std::time::Duration;

use super::*;
use crate::{
    LeastLoaded, ModelOnDisk, WorkerState, WorkerView,
    scheduler::{known, shortfall},
};

/// Models whose load time is remembered.
const LEARNED: usize = 1_024;

/// What the optimiser remembers.
#[derive(Debug, Default)]
pub(super) struct Optimiser {
    /// Workers that it started and that live.
    replicas: BTreeSet<WorkerId>,
    /// When a replica of a model was stopped last.
    scaled_back: BTreeMap<ModelRef, Time>,
    /// How long the model took to load, smoothed.
    loads: BTreeMap<ModelRef, Duration>,
    /// Some worker may expire.
    may_expire: bool,
}

impl Optimiser {
    /// Is there something to scale back or to expire?
    pub(super) fn has_upkeep(&self) -> bool {
        self.may_expire || !self.replicas.is_empty()
    }

    pub(super) fn gone(&mut self, worker: WorkerId) {
        self.replicas.remove(&worker);
    }

    /// A worker takes jobs, or may be stopped from now on.
    pub(super) fn look_again(&mut self, settings: &Settings) {
        self.may_expire |= settings.keep_alive.is_some() || !settings.model_keep_alive.is_empty();
    }

    pub(super) fn loaded(&mut self, model: &ModelRef, took: Duration) {
        if let Some(known) = self.loads.get_mut(model) {
            *known = (*known * 3 + took) / 4;
        } else if self.loads.len() < LEARNED {
            self.loads.insert(model.clone(), took);
        }
    }
}

impl Engine {
    pub(super) fn optimise(&mut self, now: Now, out: &mut Out) {
        self.stop_unused(now, out);
        let pause = self.settings.scale_back_after;
        self.optimiser.scaled_back.retain(|_, at| now.at - *at < pause);
        if !self.draining {
            let waiting: BTreeSet<_> =
                self.view.lanes().map(|(lane, _)| lane.model.clone()).collect();
            waiting.into_iter().for_each(|model| self.scale_up(now, &model, out));
        }
    }

    fn stop_unused(&mut self, now: Now, out: &mut Out) {
        let keep_alive = |worker: &WorkerView| {
            let of_model = self.settings.model_keep_alive.get(worker.info.model.as_str());
            of_model.copied().or(self.settings.keep_alive)
        };
        let mut expired = Vec::new();
        let mut may_expire = false;
        if self.optimiser.may_expire {
            for worker in self.view.workers().filter(|worker| !worker.pinned) {
                let Some(limit) = keep_alive(worker) else { continue };
                if self.is_unused(worker) && now.at - worker.last_used >= limit {
                    expired.push(worker.info.id);
                } else {
                    may_expire |= worker.state != WorkerState::Draining;
                }
            }
        }
        self.optimiser.may_expire = may_expire;
        for id in expired {
            if let Some(model) = self.model_of(id) {
                out.push(Effect::Note(Note::Expired(id, model)));
                self.stop(now, id, out);
            }
        }
        for id in self.optimiser.replicas.clone() {
            let Some(worker) = self.view.worker(id).cloned() else { continue };
            let others = self.view.with_model(&worker.info.model).any(|other| {
                other.info.id != id && other.state == WorkerState::Ready && other.reachable
            });
            if !others || worker.pinned {
                // It is needed from now on, like any that the optimiser has not started.
                self.optimiser.replicas.remove(&id);
                continue;
            }
            let idle = now.at - worker.last_used;
            if self.is_unused(&worker) && idle >= self.settings.scale_back_after {
                let model = worker.info.model.clone();
                self.optimiser.scaled_back.insert(model.clone(), now.at);
                out.push(Effect::Note(Note::ScaledBack(id, model)));
                self.stop(now, id, out);
            }
        }
    }

    fn is_unused(&self, worker: &WorkerView) -> bool {
        worker.is_evictable()
            && worker.reachable
            && self.view.waiting_for(&worker.info.model).is_none()
    }

    fn model_of(&self, worker: WorkerId) -> Option<ModelRef> {
        self.view.worker(worker).map(|view| view.info.model.clone())
    }

    /// One more worker for a model whose jobs have waited for longer than a load takes: the queue outlasts it.
    fn scale_up(&mut self, now: Now, model: &ModelRef, out: &mut Out) {
        let Some(lane) = self.view.waiting_for(model) else { return };
        let load = self.optimiser.loads.get(model).copied().unwrap_or_default();
        let workers: Vec<_> = self.view.with_model(model).cloned().collect();
        let is_usable =
            |worker: &&Arc<WorkerView>| worker.state == WorkerState::Ready && worker.reachable;
        let Some(like) = workers.iter().find(is_usable) else {
            // Where it has none at all, starting the first is for the policy.
            return;
        };
        let slots: u32 = workers.iter().filter(is_usable).map(|worker| worker.info.slots).sum();
        let is_moving = workers
            .iter()
            .any(|worker| matches!(worker.state, WorkerState::Loading | WorkerState::Draining))
            || self.provisioning.keys().any(|(_, fetched)| fetched == model);
        if lane.oldest_wait(now.at) < self.settings.scale_up_after.max(load)
            || lane.depth <= slots as usize
            || is_moving
            || self.optimiser.scaled_back.contains_key(model)
        {
            return;
        }
        let Some((hive, device, need_bytes)) = self.room_for(now, model) else { return };
        let spec = WorkerSpec {
            model: model.clone(),
            slots: like.info.slots,
            devices: vec![device],
            need_bytes,
            path: None,
        };
        if let Some(worker) = self.start_replica(now, hive.clone(), spec, out) {
            self.optimiser.replicas.insert(worker);
            out.push(Effect::Note(Note::ScaledUp(worker, hive, model.clone())));
        }
    }

    /// The device with most room, of those that need no eviction; hives with the model on their disk first.
    fn room_for(&self, now: Now, model: &ModelRef) -> Option<(HiveId, u32, u64)> {
        let policy = LeastLoaded::default();
        let known: Option<&ModelOnDisk> = known(&self.view, model);
        let refused = self.lanes.model(model).map(|queue| queue.refused.clone());
        let hives = self.view.hives().filter(|hive| {
            hive.takes_workers()
                && !self.is_cooling(now, model, &hive.id)
                && refused.as_ref().is_none_or(|refused| !refused.contains_key(&hive.id))
        });
        let sites = hives.flat_map(|hive| hive.devices.iter().map(move |device| (hive, device)));
        let fitting = sites.filter_map(|(hive, device)| {
            let on_disk = hive.models.get(model);
            let need = policy.need(&self.view, model, on_disk.or(known), device.kind);
            let expected = need.expected;
            let fits = expected > 0 && shortfall(&self.view, hive, device, need.required).is_none();
            fits.then(|| {
                let rank = (on_disk.is_some(), hive.free_bytes(device));
                (rank, (hive.id.clone(), device.index, expected))
            })
        });
        // Of equals the first, by name.
        let best = fitting.reduce(|best, other| if other.0 > best.0 { other } else { best });
        best.map(|(_, site)| site)
    }
}
