//! Workers that may have died or may hang. A worker is suspected at the first symptom: it is probed at once, and gets
//! no jobs until it answers that it is healthy. A job whose stream is silent goes on elsewhere.
//!
//! Whether a failed attempt counts against its job is decided here too: see [`Engine::is_free`].

use super::*;
use crate::cluster::{WorkerState, WorkerView};

/// The number of free attempts of a job, after which every failed attempt counts. So a job that never gets to start, or
/// that itself makes workers close their connections, ends all the same.
const MOST_FREE: u32 = 16;

/// The symptoms of suspected workers.
#[derive(Debug, Default)]
pub(super) struct Suspicions {
    workers: BTreeMap<WorkerId, Suspect>,
    /// Attempts whose stream is silent.
    silent: BTreeMap<LeaseId, Silence>,
}

/// A worker that is suspected.
#[derive(Debug, Default)]
struct Suspect {
    /// Jobs that were charged a try there since. They get it back if the machine turns out to be lost.
    charged: BTreeSet<JobId>,
    /// A probe got no answer or a bad one.
    was_unwell: bool,
}

impl Suspicions {
    /// True if the stream of any attempt is silent.
    pub(super) fn any_silent(&self) -> bool {
        !self.silent.is_empty()
    }

    /// The worker is gone, or is known to be healthy.
    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.workers.remove(&worker);
    }
}

/// What is watched and remembered of workers.
#[derive(Debug, Default)]
pub(super) struct WorkerWatch {
    /// The number of probes so far of each failed worker: it sets the delay until the next one and its timeout.
    pub(super) probes: BTreeMap<WorkerId, u32>,
    pub(super) suspicions: Suspicions,
    pub(super) flags: worker_flags::WorkerFlags,
}

impl Engine {
    /// The stream of an attempt is silent for longer than usual.
    pub(super) fn silent(&mut self, now: Now, lease: LeaseId, silence: Silence, out: &mut Out) {
        let Some((job, worker)) = self.leases.get(lease) else {
            return;
        };
        let Some(entry) = self.jobs.get(&job) else {
            return;
        };
        if !matches!(entry.phase, Phase::Running(current) if current == lease) {
            return;
        }
        let (model, why) = (entry.job.model.clone(), silence.error());
        self.watch.suspicions.silent.insert(lease, silence);
        self.suspect(worker, &why, out);
        self.rescue(now, &model, out);
    }

    /// The stream of an attempt that was silent has produced something.
    pub(super) fn heard(&mut self, lease: LeaseId, out: &mut Out) {
        if self.watch.suspicions.silent.remove(&lease).is_some()
            && let Some((_, worker)) = self.leases.get(lease)
        {
            self.ask_again(worker, out);
        }
    }

    /// The attempt is over, and its silence with it.
    pub(super) fn silence_over(&mut self, lease: LeaseId, worker: WorkerId, out: &mut Out) {
        if self.watch.suspicions.silent.remove(&lease).is_some() {
            self.ask_again(worker, out);
        }
    }

    /// The symptom is gone; the worker's answer decides.
    fn ask_again(&mut self, worker: WorkerId, out: &mut Out) {
        let is_doubted =
            |view: &Arc<WorkerView>| view.suspected || matches!(view.state, WorkerState::Failed);
        if self.view.worker(worker).is_some_and(is_doubted) {
            self.ask(worker, out);
        } else if self.silences_of(worker).is_empty() {
            self.timers.disarm(&Timer::Probe(worker));
        }
    }

    /// Probes a worker. A suspected one has a short timeout.
    pub(super) fn ask(&mut self, worker: WorkerId, out: &mut Out) {
        let settings = &self.config.settings;
        let within = match self.watch.suspicions.workers.contains_key(&worker) {
            true => settings.probe_timeout.min(settings.suspect_after / 2),
            false => settings.probe_timeout,
        };
        out.push(Effect::Probe { worker, within });
    }

    /// Suspects the worker: it may have died or hang, and gets no jobs until it answers that it is healthy. It is
    /// probed at once, and its hive is asked whether it still runs.
    pub(super) fn suspect(&mut self, worker: WorkerId, why: &Error, out: &mut Out) {
        let Some(view) = self.view.worker(worker) else {
            return;
        };
        let (state, was_suspected) = (view.state, view.suspected);
        let hive = view.info.hive.clone();
        if !matches!(state, WorkerState::Ready | WorkerState::Failed) {
            return;
        }
        self.watch.suspicions.workers.entry(worker).or_default();
        // A failed worker is probed already, at growing intervals.
        if state == WorkerState::Failed || was_suspected {
            return;
        }
        self.view.edit_worker(worker, |view| view.suspected = true);
        out.push(Effect::Note(Note::WorkerSuspected(worker, why.clone())));
        self.ask(worker, out);
        out.push(Effect::ReportHive { hive });
    }

    /// The probed worker answers that it is healthy. That is not enough if one of its streams is silent and its known
    /// heartbeat interval shows that this is not normal.
    pub(super) fn is_well(&mut self, now: Now, worker: WorkerId, out: &mut Out) {
        let Some(view) = self.view.worker(worker) else {
            return;
        };
        let (state, was_suspected, model) = (view.state, view.suspected, view.info.model.clone());
        let silences = self.silences_of(worker);
        let is_silent = !silences.is_empty();
        let is_doubted = silences.iter().any(|silence| silence.is_evident);
        match state {
            // The next fault makes it failed again, a job without one clears it. The delay of the next probe is kept
            // until then, so a worker that answers probes but fails jobs is tried at growing intervals.
            WorkerState::Failed => {
                let faults = self.config.settings.worker_faults.saturating_sub(1);
                self.view.edit_worker(worker, |view| {
                    view.state = WorkerState::Ready;
                    view.faults = faults;
                    view.suspected = is_doubted;
                });
            }
            WorkerState::Ready => {
                self.view.edit_worker(worker, |view| view.suspected = is_doubted);
            }
            WorkerState::Loading | WorkerState::Draining => return,
        }
        if is_silent {
            // It may still hang, or die, while it is silent.
            self.arm_probe(now, worker);
        } else {
            self.timers.disarm(&Timer::Probe(worker));
        }
        if is_doubted {
            return;
        }
        if self.watch.suspicions.workers.remove(&worker).is_some_and(|suspect| suspect.was_unwell) {
            // It did not answer, and now it does: the next time its probes start again with the short delay.
            self.watch.probes.remove(&worker);
        }
        if was_suspected || state == WorkerState::Failed {
            out.push(Effect::Note(Note::WorkerTrusted(worker)));
            self.wake_model(&model);
        }
    }

    /// The probed worker does not answer, or answers that it is not healthy.
    pub(super) fn is_unwell(&mut self, now: Now, worker: WorkerId, why: &Error, out: &mut Out) {
        let Some(view) = self.view.worker(worker) else {
            return;
        };
        let (state, suspected, model) = (view.state, view.suspected, view.info.model.clone());
        match state {
            WorkerState::Failed => {
                if let Some(suspect) = self.watch.suspicions.workers.get_mut(&worker) {
                    suspect.was_unwell = true;
                }
                self.arm_probe(now, worker);
            }
            WorkerState::Ready if suspected || !self.silences_of(worker).is_empty() => {
                for (lease, _) in self.leases.of_worker(worker) {
                    if let Some(silence) = self.watch.suspicions.silent.get_mut(&lease) {
                        silence.is_evident = true;
                    }
                }
                self.watch.suspicions.workers.entry(worker).or_default().was_unwell = true;
                if self.view.edit_worker(worker, |view| view.suspected = true) && !suspected {
                    out.push(Effect::Note(Note::WorkerSuspected(worker, why.clone())));
                }
                self.blame(now, worker, out);
                let view = self.view.worker(worker);
                if view.is_some_and(|view| view.state == WorkerState::Ready) {
                    self.arm_probe(now, worker);
                }
            }
            _ => return,
        }
        self.rescue(now, &model, out);
    }

    fn silences_of(&self, worker: WorkerId) -> Vec<&Silence> {
        if self.watch.suspicions.silent.is_empty() {
            return Vec::new();
        }
        let held = self.leases.of_worker(worker).into_iter();
        held.filter_map(|(lease, _)| self.watch.suspicions.silent.get(&lease)).collect()
    }

    /// Ends the attempts of this model that hang, as far as other workers can take their jobs at once.
    pub(super) fn rescue(&mut self, now: Now, model: &ModelRef, out: &mut Out) {
        let silent = &self.watch.suspicions.silent;
        let evident = silent.iter().filter(|(_, silence)| silence.is_evident);
        let mut moved = 0;
        for lease in evident.map(|(lease, _)| *lease).collect::<Vec<_>>() {
            if self.can_move(lease, model, moved) {
                moved += 1;
                let why = self.watch.suspicions.silent.get(&lease).map(Silence::error);
                if let (Some((job, _)), Some(why)) = (self.leases.get(lease), why) {
                    self.lose_attempt(now, lease, job, &why, out);
                }
            }
        }
    }

    /// True if the job of this silent attempt can go on elsewhere now, after `others` other jobs have taken a slot.
    /// Never at its last try: if the worker is only slow, the job would fail.
    fn can_move(&self, lease: LeaseId, model: &ModelRef, others: u32) -> bool {
        let Some((job, worker)) = self.leases.get(lease) else { return false };
        let (Some(entry), Some(silence)) =
            (self.jobs.get(&job), self.watch.suspicions.silent.get(&lease))
        else {
            return false;
        };
        let is_last = silence.began && entry.attempts > self.config.settings.retries;
        if entry.job.model != *model
            || is_last
            || !matches!(entry.phase, Phase::Running(current) if current == lease)
        {
            return false;
        }
        let Some(info) = &entry.worker else { return false };
        let has_begun = silence.produced > 0;
        if has_begun && !(silence.resumable && info.capabilities.resume) {
            return false;
        }
        let must_match = match &entry.must_match {
            None if has_begun && !self.config.settings.continue_across_numerics => {
                Some(&info.numerics)
            }
            known => known.as_ref(),
        };
        let can_take_over = |view: &&Arc<WorkerView>| {
            view.info.capabilities.can(&entry.job.task)
                && view.info.id != worker
                && (!has_begun || view.info.capabilities.resume)
                && must_match.is_none_or(|numerics| *numerics == view.info.numerics)
        };
        let free = self.view.available(model).filter(can_take_over).map(|view| view.free_slots());
        free.fold(0, u32::saturating_add) > others
    }

    /// True if an attempt that ends with this error costs its job no try. Only errors that the job can cause cost one:
    /// not that a worker was missing, was stopped or was lost with its machine. The number of free attempts of a job is
    /// limited.
    pub(super) fn is_free(&mut self, id: JobId, worker: WorkerId, error: &Error) -> bool {
        let is_cut_off = self.view.worker(worker).is_some_and(|view| !view.reachable);
        let Some(entry) = self.jobs.get_mut(&id) else {
            return false;
        };
        match error.kind() {
            // The queen's count was wrong.
            ErrorKind::WorkerBusy => true,
            kind if !kind.costs_a_try() || is_cut_off => {
                entry.free += 1;
                entry.free <= MOST_FREE
            }
            _ => {
                if let Some(suspect) = self.watch.suspicions.workers.get_mut(&worker) {
                    suspect.charged.insert(id);
                }
                false
            }
        }
    }

    /// The machine of this worker is lost: jobs that were charged a try there since it was suspected get it back.
    pub(super) fn give_tries_back(&mut self, worker: WorkerId) {
        let Some(suspect) = self.watch.suspicions.workers.get_mut(&worker) else {
            return;
        };
        for id in std::mem::take(&mut suspect.charged) {
            if let Some(entry) = self.jobs.get_mut(&id).filter(|entry| entry.free < MOST_FREE) {
                entry.free += 1;
                entry.attempts = entry.attempts.saturating_sub(1);
                Arc::make_mut(&mut entry.avoid).remove(&worker);
            }
        }
    }
}
