//! The autoscaler: starts replicas if queues build up, and stops unused ones.
//!
//! It never evicts, and it changes direction slowly: what it started stays until it has been idle for
//! `scale_back_after`, and a model that was scaled back is not scaled up again for as long.

use std::{cmp::Reverse, time::Duration};

use super::*;
use crate::{
    cluster::{WorkerState, WorkerView},
    scheduler::place_replica,
};

/// The most models whose load time is remembered.
const LEARNED: usize = 1_024;

/// The autoscaler's state.
#[derive(Debug, Default)]
pub(super) struct Autoscaler {
    /// Live workers that it started, in this run of the queen or a previous one.
    replicas: BTreeSet<WorkerId>,
    /// When a replica of a model was last stopped for being idle.
    scaled_back: BTreeMap<ModelRef, Time>,
    /// The smoothed load time of each model.
    loads: BTreeMap<ModelRef, Duration>,
    /// Models with a keep-alive time of their own, the longest reference first, because it is the most specific.
    keep_alive: Vec<(ModelRef, Duration)>,
    /// Some worker may have to be stopped for being idle.
    may_expire: bool,
}

impl Autoscaler {
    pub(super) fn new(settings: &Settings) -> Self {
        // The settings are checked, so every key is a valid reference.
        let named = settings.model_keep_alive.iter();
        let mut keep_alive: Vec<(ModelRef, _)> =
            named.filter_map(|(name, span)| Some((name.parse().ok()?, *span))).collect();
        keep_alive.sort_by_key(|(model, _)| Reverse(model.as_str().len()));
        Self { keep_alive, ..Self::default() }
    }

    /// The model's own keep-alive time: the one set for exactly this reference, or else for one that it belongs to.
    /// Workers carry the commit, people name the repository.
    fn keep_alive_of(&self, model: &ModelRef) -> Option<Duration> {
        let with_latest =
            |named: &ModelRef| named.without_latest().is_some_and(|bare| bare == *model);
        let exact = self.keep_alive.iter().find(|(named, _)| named == model);
        let exact = exact.or_else(|| self.keep_alive.iter().find(|(named, _)| with_latest(named)));
        let found = exact.or_else(|| self.keep_alive.iter().find(|(named, _)| model.is_of(named)));
        found.map(|(_, span)| *span)
    }

    /// True if there is something to scale back or to expire.
    pub(super) fn has_upkeep(&self) -> bool {
        self.may_expire || !self.replicas.is_empty()
    }

    pub(super) fn is_replica(&mut self, worker: WorkerId) {
        self.replicas.insert(worker);
    }

    /// Forgets a worker that is gone or no longer a replica.
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
    pub(super) fn autoscale(&mut self, now: Now, out: &mut Out) {
        self.stop_unused(now, out);
        let pause = self.config.settings.scale_back_after;
        self.autoscaler.scaled_back.retain(|_, at| now.at - *at < pause);
        if !self.is_draining() {
            let waiting: BTreeSet<_> =
                self.view.lanes().map(|(lane, _)| lane.model.clone()).collect();
            waiting.into_iter().for_each(|model| self.scale_up(now, &model, out));
        }
    }

    fn stop_unused(&mut self, now: Now, out: &mut Out) {
        let keep_alive = |worker: &WorkerView| {
            self.autoscaler.keep_alive_of(&worker.info.model).or(self.config.settings.keep_alive)
        };
        let mut expired = Vec::new();
        let mut may_expire = false;
        if self.autoscaler.may_expire {
            for worker in self.view.workers().filter(|worker| !worker.pinned) {
                let Some(limit) = keep_alive(worker) else { continue };
                if self.is_unused(worker) && now.at - worker.last_used >= limit {
                    expired.push(worker.info.id);
                } else {
                    may_expire |= worker.state != WorkerState::Draining;
                }
            }
        }
        self.autoscaler.may_expire = may_expire;
        for id in expired {
            if let Some(model) = self.model_of(id) {
                if self.autoscaler.replicas.contains(&id) {
                    self.autoscaler.scaled_back.insert(model.clone(), now.at);
                }
                out.push(Effect::Note(Note::Expired(id, model)));
                self.stop(now, id, out);
            }
        }
        for id in self.autoscaler.replicas.clone() {
            let Some(worker) = self.view.worker(id).cloned() else { continue };
            // It is needed while it is the only one that works. It stays a replica: the others may come back.
            let is_spare = self
                .view
                .with_model(&worker.info.model)
                .any(|other| other.info.id != id && is_usable(other));
            let idle = now.at - worker.last_used;
            if is_spare && self.is_unused(&worker) && idle >= self.config.settings.scale_back_after
            {
                let model = worker.info.model.clone();
                self.autoscaler.scaled_back.insert(model.clone(), now.at);
                out.push(Effect::Note(Note::ScaledBack(id, model)));
                self.stop(now, id, out);
            }
        }
    }

    fn is_unused(&self, worker: &WorkerView) -> bool {
        worker.is_evictable()
            && worker.reachable
            && !worker.suspected
            && self.view.waiting_for(&worker.info.model).is_none()
    }

    fn model_of(&self, worker: WorkerId) -> Option<ModelRef> {
        self.view.worker(worker).map(|view| view.info.model.clone())
    }

    /// Starts one more worker for a model whose jobs have waited for longer than a load takes.
    fn scale_up(&mut self, now: Now, model: &ModelRef, out: &mut Out) {
        let Some(lane) = self.view.waiting_for(model) else { return };
        let load = self.autoscaler.loads.get(model).copied().unwrap_or_default();
        let workers: Vec<_> = self.view.with_model(model).cloned().collect();
        let Some(like) = workers.iter().find(|worker| is_usable(worker)) else {
            // If the model has no worker at all, the policy starts the first.
            return;
        };
        let slots: u32 =
            workers.iter().filter(|worker| is_usable(worker)).map(|worker| worker.info.slots).sum();
        let is_moving = workers
            .iter()
            .any(|worker| matches!(worker.state, WorkerState::Loading | WorkerState::Draining))
            || self.downloads.is_fetching(model);
        if lane.oldest_wait(now.at) < self.config.settings.scale_up_after.max(load)
            || lane.depth <= slots as usize
            || is_moving
            || self.autoscaler.scaled_back.contains_key(model)
        {
            return;
        }
        let Some((hive, spec)) = self.room_for(now, &like.info) else { return };
        if let Some(worker) = self.start_replica(now, hive.clone(), spec, out) {
            out.push(Effect::Note(Note::ScaledUp(worker, hive, model.clone())));
        }
    }

    /// A place for one more worker like this one, without an eviction.
    fn room_for(&self, now: Now, like: &WorkerInfo) -> Option<(HiveId, WorkerSpec)> {
        let model = &like.model;
        // Its memory is estimated for the slots that it will have.
        let sizing = self.config.sizing.with_slots(like.slots);
        let queue = self.lanes.model(model);
        place_replica(&sizing, &self.view, model, |hive| {
            !self.is_cooling(now, model, &hive.id)
                && !self.operators.is_removing(&hive.id, model)
                && queue.is_none_or(|queue| !queue.refused.contains_key(&hive.id))
        })
    }
}

/// True if the worker takes jobs.
fn is_usable(worker: &WorkerView) -> bool {
    worker.state == WorkerState::Ready && worker.reachable && !worker.suspected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keep_alive_time_is_found_by_the_name_with_latest() {
        let second = Duration::from_secs;
        let named = [("org/bee:latest", 1), ("wasp", 2), ("wasp:latest", 3)];
        let named = named.map(|(name, span)| (name.to_owned(), second(span)));
        let settings = Settings { model_keep_alive: named.into(), ..Settings::default() };
        settings.validate().unwrap();
        let autoscaler = Autoscaler::new(&settings);
        let of = |name: &str| autoscaler.keep_alive_of(&name.parse().unwrap());
        assert_eq!(of("org/bee"), Some(second(1)));
        assert_eq!((of("wasp"), of("wasp:latest")), (Some(second(2)), Some(second(3))));
        assert_eq!(of("org/bee:3b"), None);
    }
}
