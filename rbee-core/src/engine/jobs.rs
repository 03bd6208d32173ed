//! The phases of a job: queued, run, retried, ended.

use super::*;
use crate::{
    error::ErrorKind,
    registry::{Change, Snapshot},
};
use std::{borrow::Cow, time::Duration};

/// The delay after a worker granted a slot and then answered that it had none.
const BUSY_DELAY: Duration = Duration::from_millis(100);
/// The error context of a job whose readers have tokens already, if no other worker can continue.
const CANNOT_CONTINUE: &str = "the stream had begun and cannot be continued elsewhere";

impl Engine {
    pub(super) fn insert(&mut self, now: Now, job: Arc<Job>, order: u64) -> &mut JobEntry {
        let id = job.id;
        self.service.times.expect(&LaneId::of(&job), tenants::longest_answer(&job));
        let entry = JobEntry {
            key: (job.rank, order, id),
            phase: Phase::Queued,
            submitted: now.at,
            waited_before: Duration::ZERO,
            started: false,
            attempts: 0,
            free: 0,
            spawns: 0,
            avoid: Arc::default(),
            worker: None,
            must_match: None,
            running_since: now.at,
            produced: 0,
            expected: tenants::expected_tokens(&job),
            shared: 0,
            accepted: false,
            bound: false,
            keeps_output: false,
            taken_over: false,
            timers: JobTimers::default(),
            job,
        };
        self.jobs.insert(id, Box::new(entry));
        self.requeue(id);
        self.jobs.get_mut(&id).expect("inserted above")
    }

    /// Restores jobs of a previous run of this queen, or of a queen that died. Jobs that were running run again if they
    /// may.
    pub(super) fn restore(&mut self, now: Now, snapshot: Snapshot, out: &mut Out) {
        self.tenants.restore(snapshot.tenants, &self.config.settings, &mut self.view);
        for record in snapshot.models {
            self.hives.model_recorded(record.hive, record.model);
        }
        for record in snapshot.workers {
            // The store has this record already.
            let _ = self.watch.flags.put(record);
        }
        for record in snapshot.jobs {
            self.sequence.order = self.sequence.order.max(record.order);
            if self.jobs.contains_key(&record.id) {
                continue;
            }
            let started_at = record.status.started_at();
            // The end of a queen is not the job's fault, unless it happens again and again.
            let was_running = record.status.worker().is_some();
            let attempts = record.attempts.saturating_sub(u32::from(was_running));
            let why_not: Option<Cow<'_, str>> = if attempts > self.config.settings.retries {
                Some("its retries are used up".into())
            } else if record.restarts > self.config.settings.restarts {
                let times = record.restarts;
                Some(format!(
                    "it was running, and came no further, at {times} such ends in a row (setting restarts)"
                ).into())
            } else if record.request.is_none() {
                Some("its request was not kept".into())
            } else if record.chunks.iter().any(|chunk| chunk.id.is_none()) {
                // Readers may have this text, and a worker can continue only tokens with ids.
                Some(CANNOT_CONTINUE.into())
            } else {
                None
            };
            let stored = record.request.as_ref().is_some_and(|job| job.stored);
            let Some(job) = record.request.filter(|_| why_not.is_none()) else {
                let why = why_not.unwrap_or_default();
                let message =
                    format!("the queen was restarted, and the job cannot be run again: {why}");
                let outcome = Outcome::Failed(Error::new(ErrorKind::QueenRestarted, message));
                let n = self.number();
                self.storage
                    .pending
                    .insert(n, PendingWrite::LostEnd(record.id, Some(outcome.clone())));
                self.timers.arm(now.at + ending::RECORD_TIMEOUT, Timer::LostEnd(n));
                let change = self.end_change(record.id, [stored, true], outcome, 0, now);
                out.push(Effect::Record { n: Some(n), changes: vec![change] });
                continue;
            };
            if was_running {
                out.push(Effect::Record {
                    n: None,
                    changes: vec![Change::JobRequeued { job: record.id, attempts }],
                });
            }
            let (id, waited) = (job.id, now.wall - record.submitted_at);
            let left = |limit: Duration, passed: Duration| now.at + limit.saturating_sub(passed);
            let (at, timer) = match started_at {
                Some(started) => (left(job.timeout, now.wall - started), JobTimer::Run),
                None => {
                    let limit = self.config.settings.queue_wait(job.priority);
                    (left(limit, waited), JobTimer::QueueWait)
                }
            };
            let mut timers = JobTimers::default();
            self.timers.arm_job(&mut timers, at, timer, id);
            if let Some(deadline) = job.deadline {
                let at = left(deadline, waited);
                self.timers.arm_job(&mut timers, at, JobTimer::Deadline, id);
            }
            self.tenants.resume(now, &job, &self.config.settings, &mut self.view);
            let entry = self.insert(now, job, record.order);
            entry.timers = timers;
            entry.waited_before = waited;
            entry.started = started_at.is_some();
            entry.attempts = attempts;
            entry.produced = record.tokens_generated;
            entry.accepted = true;
            entry.taken_over = true;
            // Its client lost the connection, and can only ask for it again.
            (entry.bound, entry.keeps_output) = (false, true);
            entry.must_match = record.numerics.filter(|_| !record.chunks.is_empty());
        }
    }

    pub(super) fn requeue(&mut self, id: JobId) {
        let Some(entry) = self.jobs.get_mut(&id) else {
            return;
        };
        entry.phase = Phase::Queued;
        self.lanes.in_backoff[lanes::class(entry.job.priority)].remove(&id);
        let (lane, key, since) = (entry.lane(), entry.key, entry.submitted);
        self.lanes.push(&lane, key, since);
        self.show_lane(&lane);
        self.lanes.wake.insert(lane.model);
    }

    /// Takes a waiting job out of its lane.
    pub(super) fn unqueue(&mut self, id: JobId, served: bool) {
        let Some(entry) = self.jobs.get_mut(&id) else {
            return;
        };
        let (lane, key) = (entry.lane(), entry.key);
        let mut cost = served.then_some(0);
        // A retried job was charged when it first got a slot.
        if served && entry.shared == 0 {
            // The usual usage of the model's jobs is a better estimate than the job's own limit.
            let tokens = self.service.times.tokens(&lane.model).unwrap_or(entry.expected);
            entry.shared = lanes::share(tokens, self.tenants.weight(lane.tenant.as_ref()));
            cost = Some(entry.shared);
        }
        self.lanes.remove(&lane, &key, cost);
        self.show_lane(&lane);
        if self.lanes.model(&lane.model).is_none() {
            self.timers.disarm(&Timer::Respawn(lane.model.clone()));
            self.memory.blocked.remove(&lane.model);
        }
        self.lanes.wake.insert(lane.model);
    }

    fn show_lane(&mut self, lane: &LaneId) {
        let depth = self.lanes.depth(&lane.model, &lane.tenant);
        let key =
            crate::cluster::LaneKey { model: lane.model.clone(), tenant: lane.tenant.clone() };
        self.view.put_lane(
            &key,
            depth.map(|(depth, oldest)| crate::cluster::LaneView { depth, oldest }),
        );
    }

    /// Grants the slot to the job.
    pub(super) fn grant(&mut self, now: Now, id: JobId, worker: WorkerId, out: &mut Out) {
        self.unqueue(id, true);
        let lease = LeaseId(self.number());
        let Some(entry) = self.jobs.get_mut(&id) else {
            return;
        };
        let Some(info) = self.view.worker(worker).map(|view| view.info.clone()) else {
            return;
        };
        // It would begin anew, and its text would follow the text that readers have.
        if entry.produced > 0 && !info.capabilities.resume {
            let message = format!("worker {worker} ({}) cannot continue an answer", info.backend);
            let kind = match entry.taken_over {
                true => ErrorKind::QueenRestarted,
                false => ErrorKind::WorkerLost,
            };
            let outcome = Outcome::Failed(Error::new(kind, message).context(CANNOT_CONTINUE));
            return self.settle(now, id, outcome, out);
        }
        // A scheduler may choose any worker, and a worker that does not know a parameter would ignore it.
        if !info.capabilities.can(&entry.job.task) {
            let outcome = Outcome::Failed(info.incapable(&entry.job.task));
            return self.settle(now, id, outcome, out);
        }
        entry.attempts += 1;
        entry.running_since = now.at;
        entry.phase = Phase::Running(lease);
        entry.worker = Some(info.clone());
        if !entry.started {
            entry.started = true;
            self.timers.disarm_job(&mut entry.timers, JobTimer::QueueWait);
            let at = now.at + entry.job.timeout;
            self.timers.arm_job(&mut entry.timers, at, JobTimer::Run, id);
        }
        let (job, attempt, queue_wait) =
            (entry.job.clone(), entry.attempts, entry.waited_before + (now.at - entry.submitted));
        self.leases.give(lease, id, worker);
        self.view.edit_worker(worker, |view| {
            view.leased += 1;
            view.last_used = now.at;
        });
        let numerics = info.numerics.clone();
        let format = info.capabilities.answer_of(&entry.job.task);
        let change =
            Change::JobRunning { job: id, worker, attempt, at: now.wall, numerics, format };
        out.push(Effect::Record { n: None, changes: vec![change] });
        out.push(Effect::Start { lease, job, worker, attempt, queue_wait });
    }

    pub(super) fn attempt_ended(
        &mut self,
        now: Now,
        lease: LeaseId,
        end: AttemptEnd,
        out: &mut Out,
    ) {
        let Some((id, worker)) = self.leases.take(lease) else {
            return;
        };
        self.timers.disarm(&Timer::Abort(lease));
        self.silence_over(lease, worker, out);
        self.view.edit_worker(worker, |view| {
            view.leased -= 1;
            view.last_used = now.at;
        });
        self.slot_freed(worker, out);
        let Some(entry) = self.jobs.get_mut(&id) else {
            return;
        };
        entry.produced = entry.produced.max(end.produced);
        let phase = std::mem::replace(&mut entry.phase, Phase::Queued);
        let result = match (phase, end.result) {
            // A decision of the client or a timer stands, however the attempt ended.
            (Phase::Aborting(AfterAbort::End(outcome)), _) => {
                return self.settle(now, id, outcome, out);
            }
            (Phase::Aborting(AfterAbort::Retry(_)), done @ AttemptResult::Done { .. }) => done,
            (Phase::Aborting(AfterAbort::Retry(error)), _) => AttemptResult::Failed(error),
            (_, result) => result,
        };
        match result {
            AttemptResult::Done { finish, usage, stop_text } => {
                self.view.edit_worker(worker, |view| view.faults = 0);
                self.watch.probes.remove(&worker);
                self.service.throughput.ended(now.at, self.lanes.waiting() > 0);
                let took = now.at - entry.running_since;
                self.service.times.learn(&entry.lane(), took, &usage);
                self.settle(now, id, Outcome::Complete { finish, usage, stop_text }, out);
            }
            // The engine did not ask for the abort: the job goes on.
            AttemptResult::Aborted => {
                if !self.can_go_on(id, end.produced, end.resumable) {
                    let error = Error::new(ErrorKind::WorkerLost, "the attempt was stopped");
                    let outcome = Outcome::Failed(error.context(CANNOT_CONTINUE));
                    return self.settle(now, id, outcome, out);
                }
                let attempts = self.jobs.get(&id).map_or(0, |entry| entry.attempts);
                out.push(Effect::Record {
                    n: None,
                    changes: vec![Change::JobRequeued { job: id, attempts }],
                });
                self.requeue(id);
            }
            AttemptResult::Failed(error) => {
                if error.kind().blames_worker() {
                    self.blame(now, worker, out);
                }
                if matches!(error.kind(), ErrorKind::WorkerLost | ErrorKind::WorkerUnreachable) {
                    self.suspect(worker, &error, out);
                }
                if !error.kind().is_retryable() {
                    return self.settle(now, id, Outcome::Failed(error), out);
                }
                if !self.can_go_on(id, end.produced, end.resumable) {
                    let outcome = Outcome::Failed(error.context(CANNOT_CONTINUE));
                    return self.settle(now, id, outcome, out);
                }
                self.retry(now, id, worker, error, out);
            }
        }
    }

    /// Tokens that readers have limit where the job can go on: only on workers that give the same stream or, if it
    /// cannot be continued at all, nowhere. Returns true if the job can go on.
    fn can_go_on(&mut self, id: JobId, produced: u32, resumable: bool) -> bool {
        let Some(entry) = self.jobs.get_mut(&id).filter(|_| produced > 0) else {
            return true;
        };
        let info = entry.worker.take();
        if entry.must_match.is_none() && !self.config.settings.continue_across_numerics {
            entry.must_match = info.as_ref().map(|info| info.numerics.clone());
        }
        resumable && info.is_none_or(|info| info.capabilities.resume)
    }

    fn retry(&mut self, now: Now, id: JobId, worker: WorkerId, error: Error, out: &mut Out) {
        let is_free = self.is_free(id, worker, &error);
        let Some(entry) = self.jobs.get_mut(&id) else {
            return;
        };
        let busy = error.kind() == ErrorKind::WorkerBusy;
        if busy {
            out.push(Effect::Note(Note::BusyAnswer(worker)));
        }
        if is_free {
            entry.attempts = entry.attempts.saturating_sub(1);
        } else {
            Arc::make_mut(&mut entry.avoid).insert(worker);
        }
        if entry.attempts > self.config.settings.retries {
            let error = match self.config.settings.retries {
                0 => error,
                retries => error.context(format_args!("failed {} times", retries + 1)),
            };
            return self.settle(now, id, Outcome::Failed(error), out);
        }
        let change = Change::JobRequeued { job: id, attempts: entry.attempts };
        out.push(Effect::Record { n: None, changes: vec![change] });
        let (attempts, avoid, must_match) =
            (entry.attempts, entry.avoid.clone(), entry.must_match.clone());
        entry.phase = Phase::Backoff;
        self.lanes.in_backoff[lanes::class(entry.job.priority)].insert(id);
        let model = entry.job.model.clone();
        let matches = |view: &crate::cluster::WorkerView| {
            !avoid.contains(&view.info.id)
                && must_match.as_ref().is_none_or(|numerics| *numerics == view.info.numerics)
        };
        let other_is_ready = self.view.available(&model).any(|view| matches(view));
        // A free attempt is no reason to delay the next one: the failed worker gets none until it is known to be
        // healthy.
        if !busy && (is_free || other_is_ready) {
            self.requeue(id);
        } else {
            let random = self.random.rng.next();
            let delay = if busy {
                BUSY_DELAY
            } else {
                retry::delay(&self.config.settings, attempts, random)
            };
            if let Some(entry) = self.jobs.get_mut(&id) {
                self.timers.arm_job(&mut entry.timers, now.at + delay, JobTimer::Retry, id);
            }
        }
        out.push(Effect::Note(Note::Retried(id, worker, error)));
    }

    /// Ends a job for any reason other than its worker's answer. A running attempt is aborted first, and the job ends
    /// when its slot is free.
    pub(super) fn end(&mut self, now: Now, id: JobId, outcome: Outcome, out: &mut Out) {
        let Some(entry) = self.jobs.get_mut(&id) else {
            return;
        };
        match &mut entry.phase {
            Phase::Running(lease) => {
                let lease = *lease;
                entry.phase = Phase::Aborting(AfterAbort::End(outcome));
                self.abort(now, lease, out);
            }
            Phase::Aborting(then @ AfterAbort::Retry(_)) => *then = AfterAbort::End(outcome),
            Phase::Aborting(AfterAbort::End(_)) | Phase::Ending(_) => {}
            Phase::Queued => {
                self.unqueue(id, false);
                self.settle(now, id, outcome, out);
            }
            Phase::Backoff => self.settle(now, id, outcome, out),
        }
    }

    pub(super) fn abort(&mut self, now: Now, lease: LeaseId, out: &mut Out) {
        self.timers.arm(now.at + self.config.settings.abort_grace, Timer::Abort(lease));
        out.push(Effect::Abort { lease });
    }

    /// The worker of this job is gone: what is left of the attempt is aborted, and the job goes on elsewhere.
    pub(super) fn lose_attempt(
        &mut self,
        now: Now,
        lease: LeaseId,
        job: JobId,
        why: &Error,
        out: &mut Out,
    ) {
        let Some(entry) = self.jobs.get_mut(&job) else {
            return;
        };
        if matches!(entry.phase, Phase::Running(current) if current == lease) {
            entry.phase = Phase::Aborting(AfterAbort::Retry(why.clone()));
            self.abort(now, lease, out);
        }
    }

    pub(super) fn abort_overdue(&mut self, now: Now, lease: LeaseId, out: &mut Out) {
        // What it produced is unknown. It can be continued as long as all tokens that readers have have ids.
        let end = AttemptEnd { result: AttemptResult::Aborted, produced: 1, resumable: true };
        self.attempt_ended(now, lease, end, out);
    }
}
