//! The start, the stop and the loss of workers.

use super::{operators::Waiter, spawns::Starting, *};
use crate::{
    cluster::{WorkerState, WorkerView},
    error::{ErrorKind, Result},
    worker::Capabilities,
};

/// A hive whose disk is full of models in use is asked again with the delay of this many failed tries: 8 to 16 s.
const MAX_TRIES: u32 = 5;

impl Engine {
    /// Starts a worker, as the policy decided. If the model is not on the hive's disk, it is fetched first, and the
    /// policy is asked again when its size is known. Returns true if a worker is being started already.
    pub(super) fn spawn(
        &mut self,
        now: Now,
        hive: HiveId,
        spec: WorkerSpec,
        evict: Vec<WorkerId>,
        out: &mut Out,
    ) -> bool {
        let on_disk =
            self.view.hive(&hive).is_some_and(|view| view.models.contains_key(&spec.model));
        if on_disk {
            let worker = WorkerId::from_random_bits(self.random.rng.bits128());
            self.start_worker(now, worker, hive, spec, false, evict, out);
            return true;
        }
        self.download(now, hive, spec.model, Waiter::Jobs(spec.slots), out);
        false
    }

    /// Starts one more worker of a model, without an eviction. `None` if the model is fetched first.
    pub(super) fn start_replica(
        &mut self,
        now: Now,
        hive: HiveId,
        spec: WorkerSpec,
        out: &mut Out,
    ) -> Option<WorkerId> {
        if self.operators.is_removing(&hive, &spec.model) {
            return None;
        }
        let on_disk = self.view.hive(&hive)?.models.contains_key(&spec.model);
        if !on_disk {
            self.spawn(now, hive, spec, Vec::new(), out);
            return None;
        }
        let worker = WorkerId::from_random_bits(self.random.rng.bits128());
        self.start_worker(now, worker, hive, spec, false, Vec::new(), out);
        self.autoscaler.is_replica(worker);
        let mark = self.set_flags(worker, |mark| mark.replica = true);
        out.extend(mark.map(|change| Effect::Record { n: None, changes: vec![change] }));
        Some(worker)
    }

    /// It has just become ready, and may be evicted for another model only after a minimum time.
    pub(super) fn settle_later(&mut self, now: Now, worker: WorkerId) {
        let min_loaded = self.config.settings.min_loaded;
        if !min_loaded.is_zero()
            && self.view.edit_worker(worker, |view| view.min_loaded_elapsed = false)
        {
            self.timers.arm(now.at + min_loaded, Timer::Settle(worker));
        }
    }

    pub(super) fn min_loaded_elapsed(&mut self, worker: WorkerId) {
        self.view.edit_worker(worker, |view| view.min_loaded_elapsed = true);
        let min_loaded_elapsed = self.view.worker(worker).filter(|view| view.is_evictable());
        if let Some(hive) = min_loaded_elapsed.map(|view| view.info.hive.clone()) {
            self.wake_starved(&hive);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one call that carries the whole of a plan")]
    pub(super) fn start_worker(
        &mut self,
        now: Now,
        worker: WorkerId,
        hive: HiveId,
        spec: WorkerSpec,
        pin: bool,
        evict: Vec<WorkerId>,
        out: &mut Out,
    ) {
        for victim in &evict {
            if let Some(view) = self.view.worker(*victim) {
                out.push(Effect::Note(Note::Evicted(*victim, view.info.model.clone())));
            }
            self.stop(now, *victim, out);
        }
        // What is known of the worker so far; the worker itself reports the rest.
        let mut info = WorkerInfo::named(worker, spec.model.clone(), "");
        info.hive = hive.clone();
        info.devices = spec.devices.clone();
        info.slots = spec.slots;
        info.capabilities = Capabilities::default();
        let mut view = WorkerView::ready(Arc::new(info), now.at);
        view.state = WorkerState::Loading;
        view.memory_bytes = spec.need_bytes;
        view.pinned = pin;
        let info = view.info.clone();
        self.view.put_worker(view);
        self.reserve(&info, spec.need_bytes);
        let waits_for = evict.into_iter().filter(|id| self.view.worker(*id).is_some()).collect();
        self.spawns.insert(worker, Starting { hive, spec, pin, waits_for, issued: false });
        self.timers.arm(now.at + self.config.settings.spawn_timeout, Timer::Spawn(worker));
        self.issue_spawn(now, worker, out);
    }

    /// Sends the order to start when the workers that must be gone first are gone.
    fn issue_spawn(&mut self, now: Now, worker: WorkerId, out: &mut Out) {
        if let Some((hive, spec)) = self.spawns.issue(worker) {
            self.timers.arm(now.at + self.config.settings.spawn_timeout, Timer::Spawn(worker));
            out.push(Effect::Note(Note::Spawning(worker, hive.clone(), spec.model.clone())));
            out.push(Effect::Spawn { worker, hive, spec });
        }
    }

    pub(super) fn is_stoppable(&self, worker: WorkerId, hive: &HiveId) -> bool {
        self.view
            .worker(worker)
            .is_some_and(|worker| worker.is_stoppable() && worker.info.hive == *hive)
    }

    pub(super) fn spawned(
        &mut self,
        now: Now,
        worker: WorkerId,
        result: Result<Arc<WorkerInfo>>,
        out: &mut Out,
    ) {
        self.timers.disarm(&Timer::Spawn(worker));
        let Some(starting) = self.spawns.remove(worker) else {
            // It was given up in the meantime, and must be stopped: a stop that arrived before the start found nothing.
            let is_wanted = self
                .view
                .worker(worker)
                .is_some_and(|view| view.state != WorkerState::Draining || view.leased > 0);
            if let (Ok(info), false) = (result, is_wanted) {
                out.push(Effect::Stop { worker, hive: info.hive.clone() });
            }
            return;
        };
        let model = starting.spec.model.clone();
        match result.and_then(|info| checked(worker, &starting, info)) {
            Ok(info) => {
                // While it was loading, the view held the time when that began.
                let begun = self.view.worker(worker).map(|view| view.ready_since);
                self.autoscaler.loaded(&model, now.at - begun.unwrap_or(now.at));
                self.autoscaler.look_again(&self.config.settings);
                let expected = self.loaded_expecting(&info, &starting.spec);
                let mut view = WorkerView::ready(info, now.at);
                view.pinned = starting.pin;
                view.memory_bytes = expected;
                view.reachable = self.view.hive(&starting.hive).is_some_and(|hive| hive.online);
                view.leased = self.leases.count(worker);
                self.view.put_worker(view);
                self.settle_later(now, worker);
                let hive = starting.hive.clone();
                out.push(Effect::Note(Note::WorkerReady(worker, hive, model.clone())));
                if let Some(queue) = self.lanes.model_mut(&model) {
                    queue.failed_starts.remove(&starting.hive);
                    Arc::make_mut(&mut queue.refused).remove(&starting.hive);
                }
                out.push(Effect::ReportHive { hive: starting.hive.clone() });
                let hive = self.view.hive(&starting.hive);
                let on_disk = hive.and_then(|hive| hive.models.get(&model).cloned());
                if let Some(on_disk) = on_disk {
                    self.record_model(now, &starting.hive, &on_disk, out);
                }
                self.wake_model(&model);
            }
            Err(error) => {
                self.gone(now, worker, &error, out);
                self.start_failed(now, &starting.hive, &model, error, out);
            }
        }
    }

    /// A start or a download failed. It is tried again if that may help, with growing delays; a hive that cannot do it
    /// is not asked again for the jobs that wait now. A hive whose disk is full of models in use is asked again as long
    /// as they wait.
    pub(super) fn start_failed(
        &mut self,
        now: Now,
        hive: &HiveId,
        model: &ModelRef,
        error: Error,
        out: &mut Out,
    ) {
        out.push(Effect::Note(Note::SpawnFailed(hive.clone(), model.clone(), error.clone())));
        let random = self.random.rng.next();
        let is_full = error.kind() == ErrorKind::DiskInUse;
        let short = error.short_bytes().filter(|_| is_full);
        let gets_room =
            short.is_some_and(|bytes| self.make_disk_room(now, hive, model, bytes, out));
        if let Some(queue) = self.lanes.model_mut(model) {
            let before = queue.failed_starts.get(hive).map_or(0, |(failures, _)| *failures);
            let failures = before + u32::from(!is_full);
            if !error.kind().is_retryable() || failures > self.config.settings.retries {
                Arc::make_mut(&mut queue.refused).insert(hive.clone(), error);
            } else {
                let tries = match (is_full, gets_room) {
                    (false, _) => failures,
                    (true, true) => 1,
                    (true, false) => MAX_TRIES,
                };
                let until = now.at + retry::delay(&self.config.settings, tries, random);
                queue.failed_starts.insert(hive.clone(), (failures, until));
                self.timers.arm(until, Timer::Respawn(model.clone()));
            }
        }
        self.wake_model(model);
    }

    pub(super) fn spawn_overdue(&mut self, now: Now, worker: WorkerId, out: &mut Out) {
        let Some(starting) = self.spawns.get(worker) else {
            return;
        };
        let message = format!(
            "worker {worker} with model {} on hive {} was not ready within {:?} (setting spawn_timeout)",
            starting.spec.model, starting.hive, self.config.settings.spawn_timeout
        );
        out.push(Effect::Stop { worker, hive: starting.hive.clone() });
        self.spawned(now, worker, Err(Error::new(ErrorKind::SpawnTimeout, message)), out);
    }

    /// Stops a worker that is being started. If the start succeeds later, the worker is stopped then.
    pub(super) fn give_up(&mut self, worker: WorkerId, out: &mut Out) {
        let Some(starting) = self.spawns.remove(worker) else {
            return;
        };
        self.timers.disarm(&Timer::Spawn(worker));
        self.view.edit_worker(worker, |view| view.state = WorkerState::Draining);
        out.push(Effect::Stop { worker, hive: starting.hive });
    }

    pub(super) fn stop(&mut self, _now: Now, worker: WorkerId, out: &mut Out) {
        let Some(hive) = self.view.worker(worker).map(|view| view.info.hive.clone()) else {
            return;
        };
        self.view.edit_worker(worker, |view| view.state = WorkerState::Draining);
        out.push(Effect::Stop { worker, hive });
    }

    pub(super) fn stopped(&mut self, now: Now, worker: WorkerId, out: &mut Out) {
        let hive = self.view.worker(worker).map(|view| view.info.hive.clone());
        let why = Error::new(ErrorKind::WorkerUnreachable, format!("worker {worker} was stopped"));
        self.gone(now, worker, &why, out);
        if let Some(hive) = hive {
            out.push(Effect::ReportHive { hive });
        }
    }

    /// The worker is gone: it leaves the view, its attempts go on elsewhere, and starts that waited for its memory
    /// begin.
    pub(super) fn gone(&mut self, now: Now, worker: WorkerId, why: &Error, out: &mut Out) {
        self.release_memory(worker);
        self.watch.probes.remove(&worker);
        self.watch.suspicions.forget(worker);
        self.autoscaler.gone(worker);
        self.timers.disarm(&Timer::Probe(worker));
        self.timers.disarm(&Timer::Spawn(worker));
        self.timers.disarm(&Timer::Settle(worker));
        if let Some(starting) = self.spawns.remove(worker) {
            self.wake_model(&starting.spec.model);
        }
        if let Some(view) = self.view.remove_worker(worker) {
            if view.state != WorkerState::Loading {
                let (hive, model) = (view.info.hive.clone(), view.info.model.clone());
                out.push(Effect::Note(Note::WorkerGone(worker, hive, model, why.clone())));
            }
            out.push(Effect::Forget { worker });
            self.wake_model(&view.info.model);
        }
        for (lease, job) in self.leases.of_worker(worker) {
            self.lose_attempt(now, lease, job, why, out);
        }
        for id in self.spawns.made_room(worker) {
            self.issue_spawn(now, id, out);
        }
    }

    /// A slot of this worker is free again.
    pub(super) fn slot_freed(&mut self, worker: WorkerId, out: &mut Out) {
        let Some(view) = self.view.worker(worker) else {
            return;
        };
        let (info, state, leased) = (view.info.clone(), view.state, view.leased);
        match state {
            WorkerState::Draining if leased == 0 => {
                out.push(Effect::Stop { worker, hive: info.hive.clone() })
            }
            WorkerState::Ready => {
                self.lanes.changed(&info.model);
                self.offer_slot(&info.model, None);
                if self.watch.suspicions.any_silent() {
                    // A silent stream may go on here.
                    self.lanes.wake.insert(info.model.clone());
                }
                if leased == 0 {
                    // It is idle, so it may be evicted: jobs that wait for memory are asked about again.
                    self.wake_starved(&info.hive);
                }
            }
            _ => {}
        }
    }
}

/// Checks that a hive started the worker it was asked to start.
fn checked(
    worker: WorkerId,
    starting: &Starting,
    info: Arc<WorkerInfo>,
) -> Result<Arc<WorkerInfo>> {
    if info.id != worker || info.model != starting.spec.model {
        let message = format!(
            "hive {} was asked to start worker {worker} with model {}, and started worker {} with model {}",
            starting.hive, starting.spec.model, info.id, info.model
        );
        return Err(Error::new(ErrorKind::WorkerFault, message));
    }
    if info.hive == starting.hive {
        return Ok(info);
    }
    let hive = starting.hive.clone();
    Ok(Arc::new(WorkerInfo { hive, ..(*info).clone() }))
}
