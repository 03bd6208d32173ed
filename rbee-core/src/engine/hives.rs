//! Reports of hives, lost hives, and the health of workers.

use super::*;
use crate::{
    cluster::{HiveView, WorkerState, WorkerView},
    device::Device,
    error::{ErrorKind, Result},
    hive::{HiveInfo, HiveReport},
    registry::Change,
    worker::WorkerHealth,
};
use std::time::Duration;

/// The delay before the first probe of a failed worker; it doubles up to the cap.
const PROBE_DELAY: Duration = Duration::from_secs(1);
const MAX_PROBE_DELAY: Duration = Duration::from_secs(60);

impl Engine {
    pub(super) fn hive(&mut self, now: Now, hive: HiveId, fact: HiveFact, out: &mut Out) {
        match fact {
            HiveFact::Added(info) => self.add_hive(hive, *info),
            HiveFact::Report(report) => self.hive_report(now, hive, *report, out),
            HiveFact::WorkerExited { worker, why } => {
                if self.spawns.contains(worker) {
                    self.spawned(now, worker, Err(why), out);
                } else {
                    self.gone(now, worker, &why, out);
                }
            }
            HiveFact::Unreachable(why) => {
                if self.hives.is_heard(&hive) {
                    self.hive_unreachable(now, hive, why, out);
                }
            }
            HiveFact::Stopped => self.stop_hive(now, &hive, out),
            HiveFact::Started => {
                self.hives.started(&hive);
                if self.view.edit_hive(&hive, |view| view.draining = false) {
                    self.wake_all();
                }
            }
            HiveFact::Removed => {
                self.clear_hive(now, &hive, out);
                out.extend(self.hives.remove(&hive).map(record));
            }
        }
    }

    fn add_hive(&mut self, id: HiveId, info: HiveInfo) {
        let labels = info.labels.clone();
        if self.hives.add(&id, info) {
            self.put_new_hive(id, labels);
        }
    }

    /// Adds a hive of which only the labels are known.
    fn put_new_hive(&mut self, id: HiveId, labels: BTreeMap<String, String>) {
        let memory_budget = self.config.settings.hive_memory.get(id.as_str()).copied();
        self.view.put_hive(HiveView {
            id,
            online: false,
            draining: false,
            devices: Arc::from([]),
            memory_budget,
            labels: Arc::new(labels),
            models: Arc::default(),
            engines: None,
            reserved: BTreeMap::new(),
        });
    }

    fn hive_unreachable(&mut self, now: Now, hive: HiveId, why: Error, out: &mut Out) {
        out.extend(self.hives.is_away(&hive, now, why.clone()).map(record));
        let was_online = self.view.hive(&hive).is_some_and(|view| view.online);
        if was_online {
            out.push(Effect::Note(Note::HiveOffline(hive.clone(), why)));
            self.view.edit_hive(&hive, |view| view.online = false);
            self.set_reachable(&hive, false);
            self.give_hive_tries_back(&hive);
            self.timers.arm(now.at + self.config.settings.hive_lost_after, Timer::HiveLost(hive));
        }
    }

    /// Stops a hive. It stays in the fleet, without workers, until it is started again. Its jobs go on elsewhere.
    fn stop_hive(&mut self, now: Now, hive: &HiveId, out: &mut Out) {
        let Some(labels) = self.view.hive(hive).map(|view| (*view.labels).clone()) else { return };
        self.clear_hive(now, hive, out);
        self.put_new_hive(hive.clone(), labels);
        out.extend(self.hives.stopped(hive, now).map(record));
    }

    /// Clears a hive: its workers are gone, and nothing is known of it any more.
    fn clear_hive(&mut self, now: Now, hive: &HiveId, out: &mut Out) {
        self.hive_lost(now, hive, out);
        self.timers.disarm(&Timer::HiveLost(hive.clone()));
        self.view.remove_hive(hive);
        self.forget_gone(hive, &BTreeSet::new(), out);
    }

    fn set_reachable(&mut self, hive: &HiveId, reachable: bool) {
        let workers: Vec<_> = self.view.on_hive(hive).map(|worker| worker.info.id).collect();
        for id in workers {
            self.view.edit_worker(id, |view| view.reachable = reachable);
        }
    }

    /// Gives jobs on this hive their tries back: the loss was not their fault.
    fn give_hive_tries_back(&mut self, hive: &HiveId) {
        let workers: Vec<_> = self.view.on_hive(hive).map(|worker| worker.info.id).collect();
        workers.into_iter().for_each(|worker| self.give_tries_back(worker));
    }

    fn hive_report(&mut self, now: Now, hive: HiveId, report: HiveReport, out: &mut Out) {
        // A hive that was stopped or removed may have had a report on its way.
        let Some(old) = self.view.hive(&hive).cloned().filter(|_| self.hives.is_heard(&hive))
        else {
            return;
        };
        let change = self.hives.answered(&hive, now, || capabilities(&report));
        out.extend(change.map(record));
        let went_back = self.hives.revision(&hive).is_some_and(|last| report.rev < last);
        if old.online && went_back {
            // A newer report has arrived first.
            return;
        }
        self.hives.set_revision(&hive, report.rev);
        let mut view = HiveView { online: true, devices: report.devices.into(), ..(*old).clone() };
        let models = report.models.into_iter().map(|model| (model.model.clone(), model));
        view.models = Arc::new(models.collect());
        // A hive may report the same engines again and again: the view keeps the one list.
        if view.engines.as_deref() != report.engines.as_deref() {
            view.engines = report.engines.map(Into::into);
        }
        let mut changed = !old.online || view.models != old.models || view.engines != old.engines;
        let has_more_memory = view.devices.iter().any(|device| gained(&old, device));
        self.timers.disarm(&Timer::HiveLost(hive.clone()));
        self.view.put_hive(view);
        self.set_reachable(&hive, true);
        if !old.online {
            out.push(Effect::Note(Note::HiveOnline(hive.clone())));
        }

        let mut seen = BTreeSet::new();
        for worker in report.workers {
            let id = worker.info.id;
            seen.insert(id);
            if worker.info.since <= report.rev && !self.spawns.contains(id) {
                self.shown(&worker.info, &worker.health);
            }
            if self.spawns.contains(id) {
                continue;
            }
            if self.view.worker(id).is_some() {
                self.take_health(id, &worker.health);
                self.seen_at(id, report.rev);
                continue;
            }
            // It runs already: from a previous run of the queen, or started by another program.
            let mark = self.recognize(&hive, id);
            let mut info = worker.info;
            info.hive = hive.clone();
            // A report that shows a worker is never older than the worker, whatever the revisions say.
            info.since = info.since.min(report.rev);
            let mut view = WorkerView::ready(Arc::new(info), now.at);
            view.state = WorkerState::Loading;
            // Attempts from before the loss may still be ending.
            view.leased = self.leases.count(id);
            view.pinned = mark.pinned;
            view.memory_bytes = self.expect(&view.info, &worker.health);
            view.warm = worker.health.warm.as_slice().into();
            self.view.put_worker(view);
            self.take_memory(id, &worker.health);
            out.push(Effect::Connect { worker: id, hive: hive.clone() });
            changed = true;
        }
        // A report older than a worker says nothing about it, except after a restart of the hive: then its revisions
        // start again.
        let missing = |view: &WorkerView| {
            (view.info.since <= report.rev || went_back)
                && !seen.contains(&view.info.id)
                && !self.spawns.contains(view.info.id)
                && view.state != WorkerState::Draining
        };
        let lost: Vec<_> = self
            .view
            .on_hive(&hive)
            .filter(|view| missing(view))
            .map(|view| view.info.id)
            .collect();
        for worker in lost {
            // After a restart of the hive all its workers are gone, whatever they ran.
            let kind = if went_back { ErrorKind::WorkerUnreachable } else { ErrorKind::WorkerLost };
            let why = Error::new(kind, format!("worker {worker} is no longer on hive {hive}"));
            self.gone(now, worker, &why, out);
            changed = true;
        }
        self.forget_gone(&hive, &seen, out);
        self.forget_models(&hive, out);
        if changed {
            self.wake_all();
        } else if has_more_memory {
            self.wake_starved(&hive);
        }
    }

    /// Notes the revision of the report that shows the worker, so that later reports count for it.
    fn seen_at(&mut self, worker: WorkerId, rev: u64) {
        if self.view.worker(worker).is_some_and(|view| view.info.since > rev) {
            self.view.edit_worker(worker, |view| Arc::make_mut(&mut view.info).since = rev);
        }
    }

    pub(super) fn hive_lost(&mut self, now: Now, hive: &HiveId, out: &mut Out) {
        self.view.edit_hive(hive, |view| view.online = false);
        self.hives.forget_revision(hive);
        self.give_hive_tries_back(hive);
        let why = Error::new(ErrorKind::HiveUnreachable, format!("hive {hive} is lost"));
        let workers: Vec<_> = self.view.on_hive(hive).map(|worker| worker.info.id).collect();
        for worker in workers {
            let model = self.spawns.get(worker).map(|starting| starting.spec.model.clone());
            self.gone(now, worker, &why, out);
            if let Some(model) = model {
                self.wake_model(&model);
            }
        }
    }

    /// A handle on a worker that existed before is made, or cannot be made.
    pub(super) fn connected(
        &mut self,
        now: Now,
        worker: WorkerId,
        result: Result<()>,
        out: &mut Out,
    ) {
        if let Err(error) = result {
            return self.gone(now, worker, &error, out);
        }
        let Some(view) = self.view.worker(worker) else {
            return;
        };
        let (hive, model) = (view.info.hive.clone(), view.info.model.clone());
        if view.state == WorkerState::Loading {
            out.push(Effect::Note(Note::WorkerReady(worker, hive, model.clone())));
            self.view.edit_worker(worker, |view| {
                view.state = WorkerState::Ready;
                view.ready_since = now.at;
            });
            self.settle_later(now, worker);
            self.autoscaler.look_again(&self.config.settings);
            self.wake_model(&model);
        }
    }

    /// Counts a fault of this worker. After too many in a row it gets no jobs until a probe succeeds.
    pub(super) fn blame(&mut self, now: Now, worker: WorkerId, out: &mut Out) {
        let limit = self.config.settings.worker_faults;
        let mut failed = false;
        self.view.edit_worker(worker, |view| {
            view.faults = view.faults.saturating_add(1);
            if view.faults >= limit && view.state == WorkerState::Ready {
                view.state = WorkerState::Failed;
                failed = true;
            }
        });
        if failed {
            out.push(Effect::Note(Note::WorkerFailed(worker)));
            self.arm_probe(now, worker);
        }
    }

    pub(super) fn arm_probe(&mut self, now: Now, worker: WorkerId) {
        let probes = self.watch.probes.entry(worker).or_default();
        let delay = PROBE_DELAY.saturating_mul(1 << (*probes).min(16)).min(MAX_PROBE_DELAY);
        *probes = probes.saturating_add(1);
        self.timers.arm(now.at + delay, Timer::Probe(worker));
    }

    pub(super) fn probed(
        &mut self,
        now: Now,
        worker: WorkerId,
        result: Result<WorkerHealth>,
        out: &mut Out,
    ) {
        match result {
            Ok(health) => {
                self.take_health(worker, &health);
                self.is_well(now, worker, out);
            }
            Err(error) => self.is_unwell(now, worker, &error, out),
        }
    }

    fn take_health(&mut self, worker: WorkerId, health: &WorkerHealth) {
        self.take_memory(worker, health);
        self.view.edit_worker(worker, |view| {
            if *view.warm != *health.warm {
                view.warm = health.warm.as_slice().into();
            }
        });
    }
}

/// True if the device has more free memory than the hive last reported. Other programs change it all the time, so a
/// hundredth is ignored; smaller gains add up until the next question anyway.
fn gained(old: &HiveView, device: &Device) -> bool {
    let before = old.devices.iter().find(|old| old.index == device.index);
    before.is_none_or(|old| {
        let more = device.memory_free.saturating_sub(old.memory_free);
        more > device.memory_total / 100 || device.memory_total > old.memory_total
    })
}

/// The capabilities of a hive, in the form that the store keeps.
fn capabilities(report: &HiveReport) -> serde_json::Value {
    let models: Vec<_> = report.models.iter().map(|model| &model.model).collect();
    serde_json::json!({ "devices": report.devices, "models": models })
}

/// A change whose record nothing waits for.
fn record(change: Change) -> Effect {
    Effect::Record { n: None, changes: vec![change] }
}
