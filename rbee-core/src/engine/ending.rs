//! The ends of jobs, from the worker, the client or a timer. An end is recorded before readers get it.

use super::*;
use std::time::Duration;

use crate::{
    error::{ErrorKind, Result},
    priority::Priority,
    registry::Change,
    settings::KeepRequests,
};

/// How long the readers of a job wait for its end to be recorded. After that they get it, and the record follows.
pub(super) const RECORD_TIMEOUT: Duration = Duration::from_secs(10);
/// The delay before an end that the store did not take is handed in again.
const RECORD_AGAIN: Duration = Duration::from_secs(1);

impl JobEntry {
    /// Tokens charged to the job's tenant for this end: prompt and answer, or the part produced before the client or a
    /// timer ended it. `None` if it failed for a reason on our side.
    fn used(&self, outcome: &Outcome) -> Option<u64> {
        let is_ours = |error: &Error| {
            !matches!(error.kind(), ErrorKind::JobTimeout | ErrorKind::DeadlineExceeded)
        };
        match outcome {
            Outcome::Complete { usage, .. } => {
                Some(u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens))
            }
            _ if !self.started => Some(0),
            Outcome::Failed(error) if is_ours(error) => None,
            // Nobody has counted the prompt.
            Outcome::Failed(_) | Outcome::Cancelled => {
                Some(tenants::prompt_tokens(&self.job) + u64::from(self.produced))
            }
        }
    }
}

impl Engine {
    pub(super) fn settle(&mut self, now: Now, id: JobId, outcome: Outcome, out: &mut Out) {
        let outcome = match outcome {
            Outcome::Failed(error) => Outcome::Failed(self.with_retry_after(now, error)),
            outcome => outcome,
        };
        let Some(entry) = self.jobs.get_mut(&id) else {
            return;
        };
        // Counted before its slot goes to the next job, for which it may be a reason not to start.
        let (used, life) = (entry.used(&outcome), now.at - entry.submitted);
        let tokens = (entry.expected, used.unwrap_or(0));
        self.tenants.used(now, &entry.job, life, tokens, &mut self.view);
        if let Some(used) = used
            && entry.shared > 0
        {
            let used = lanes::share(used, self.tenants.weight(entry.job.tenant.as_ref()));
            self.lanes.correct(&entry.lane(), entry.shared, used);
        }
        entry.phase =
            Phase::Ending(Ending { outcome, since: now.at, is_handed_in: false, is_told: false });
        self.lanes.in_backoff[lanes::class(entry.job.priority)].remove(&id);
        self.timers.disarm_all(&mut entry.timers);
        let timeout = now.at + RECORD_TIMEOUT;
        self.timers.arm_job(&mut entry.timers, timeout, JobTimer::Ending, id);
        self.record_end(now, id, out);
    }

    /// The end of this job has waited for its record: it is handed in again if the store did not take it, and sent to
    /// its readers if they have waited long enough.
    pub(super) fn end_overdue(&mut self, now: Now, id: JobId, out: &mut Out) {
        let Some(JobEntry { phase: Phase::Ending(ending), timers, .. }) =
            self.jobs.get_mut(&id).map(Box::as_mut)
        else {
            return;
        };
        let timeout = ending.since + RECORD_TIMEOUT;
        if !ending.is_told && now.at < timeout {
            self.timers.arm_job(timers, timeout, JobTimer::Ending, id);
        } else if !ending.is_told {
            ending.is_told = true;
            let why = self.storage.fault.as_ref().map(|fault| fault.error.clone());
            out.push(Effect::Note(Note::Unrecorded(id, why)));
            out.push(Effect::Finish { job: id, outcome: ending.outcome.clone() });
        }
        if !ending.is_handed_in {
            self.record_end(now, id, out);
        }
    }

    /// The same for a job of a previous run.
    pub(super) fn lost_end_overdue(&mut self, n: u64, out: &mut Out) {
        if let Some(PendingWrite::LostEnd(job, outcome)) = self.storage.pending.get_mut(&n)
            && let Some(outcome) = outcome.take()
        {
            let why = self.storage.fault.as_ref().map(|fault| fault.error.clone());
            out.push(Effect::Note(Note::Unrecorded(*job, why)));
            out.push(Effect::Finish { job: *job, outcome });
        }
    }

    pub(super) fn record_end(&mut self, now: Now, id: JobId, out: &mut Out) {
        let Some(entry) = self.jobs.get_mut(&id).map(Box::as_mut) else {
            return;
        };
        let Phase::Ending(ending) = &mut entry.phase else {
            return;
        };
        ending.is_handed_in = true;
        let (mut outcome, keep_output) = (ending.outcome.clone(), entry.keeps_output);
        if !keep_output {
            outcome = outcome.without_text();
        }
        let keep_request = entry.job.stored;
        // The store counts them for tenants only.
        let used = entry.job.tenant.as_ref().and_then(|_| entry.used(&outcome)).unwrap_or(0);
        let n = self.number();
        self.storage.pending.insert(n, PendingWrite::End(id));
        let change = self.end_change(id, [keep_request, keep_output], outcome, used, now);
        out.push(Effect::Record { n: Some(n), changes: vec![change] });
    }

    pub(super) fn end_change(
        &self,
        job: JobId,
        [keep_request, keep_output]: [bool; 2],
        outcome: Outcome,
        used_tokens: u64,
        now: Now,
    ) -> Change {
        let keep_request =
            keep_request || self.config.settings.keep_requests == KeepRequests::Always;
        Change::JobEnded { job, outcome, at: now.wall, used_tokens, keep_request, keep_output }
    }

    pub(super) fn recorded(&mut self, now: Now, n: u64, result: Result<()>, out: &mut Out) {
        match (self.storage.pending.remove(&n), result) {
            (Some(PendingWrite::Accept { n, job }), Ok(())) => {
                if let Some(entry) = self.jobs.get_mut(&job) {
                    entry.accepted = true;
                }
                out.push(Effect::Accept { n, job, answer: Ok(Submitted::Accepted) });
            }
            (Some(PendingWrite::Accept { n, job }), Err(error)) => {
                // It is not in the store, so it was never accepted. If its run has begun, it is stopped.
                let error = match error.kind() {
                    ErrorKind::Storage => store::refusal(&error),
                    _ => error,
                };
                out.push(Effect::Accept { n, job, answer: Err(error.clone()) });
                self.end(now, job, Outcome::Failed(error), out);
            }
            (Some(PendingWrite::End(job)), Ok(())) => self.finish(job, None, out),
            // It stays live in the store, so its readers get no end.
            (Some(PendingWrite::End(_) | PendingWrite::LostEnd(..)), Err(_))
                if self.lifecycle == Lifecycle::Frozen => {}
            (Some(PendingWrite::End(job)), Err(error)) => {
                let Some(JobEntry { phase: Phase::Ending(ending), accepted, timers, .. }) =
                    self.jobs.get_mut(&job).map(Box::as_mut)
                else {
                    return;
                };
                if !*accepted || error.kind() != ErrorKind::Storage {
                    return self.finish(job, Some(error), out);
                }
                ending.is_handed_in = false;
                let mut again = now.at + RECORD_AGAIN;
                if !ending.is_told {
                    again = again.min(ending.since + RECORD_TIMEOUT);
                }
                self.timers.arm_job(timers, again, JobTimer::Ending, job);
            }
            (Some(PendingWrite::LostEnd(job, outcome)), result) => {
                self.timers.disarm(&Timer::LostEnd(n));
                if let Err(error) = result {
                    out.push(Effect::Note(Note::Unrecorded(job, Some(error))));
                }
                if let Some(outcome) = outcome {
                    out.push(Effect::Finish { job, outcome });
                }
            }
            (Some(PendingWrite::Tenant(n, change)), result) => {
                if result.is_ok() {
                    self.tenants.apply(change, &self.config.settings, &mut self.view);
                }
                operators::answer(n, result.map(|()| CommandOutput::Done), out);
            }
            (Some(PendingWrite::Done(n, output)), result) => {
                operators::answer(n, result.map(|()| output), out);
            }
            (None, _) => {}
        }
    }

    pub(super) fn finish(&mut self, id: JobId, unrecorded: Option<Error>, out: &mut Out) {
        let entry = self.jobs.remove(&id).map(|entry| *entry);
        let Some(JobEntry { phase: Phase::Ending(ending), job, mut timers, .. }) = entry else {
            return;
        };
        self.timers.disarm_all(&mut timers);
        self.tenants.ended(&job, &mut self.view);
        if unrecorded.is_some() {
            out.push(Effect::Note(Note::Unrecorded(id, unrecorded)));
        }
        if !ending.is_told {
            out.push(Effect::Finish { job: id, outcome: ending.outcome });
        }
    }

    pub(super) fn queue_wait_over(&mut self, now: Now, id: JobId, out: &mut Out) {
        let Some(priority) = self.jobs.get(&id).map(|entry| entry.job.priority) else {
            return;
        };
        let setting = match priority {
            Priority::Interactive => "interactive_wait",
            Priority::Batch => "batch_wait",
        };
        let wait = self.config.settings.queue_wait(priority);
        let message = format!("no worker was free within {wait:?} (setting {setting})");
        let error = Error::new(ErrorKind::QueueTimeout, message)
            .with_client_message(format!("the job waited in the queue for {wait:?}"));
        self.end(now, id, Outcome::Failed(error), out);
    }

    pub(super) fn run_over(&mut self, now: Now, id: JobId, out: &mut Out) {
        let Some(timeout) = self.jobs.get(&id).map(|entry| entry.job.timeout) else {
            return;
        };
        let message = format!("the job did not end within its timeout of {timeout:?}");
        let error = Error::for_client(ErrorKind::JobTimeout, message);
        self.end(now, id, Outcome::Failed(error), out);
    }

    pub(super) fn deadline_over(&mut self, now: Now, id: JobId, out: &mut Out) {
        let Some(deadline) = self.jobs.get(&id).and_then(|entry| entry.job.deadline) else {
            return;
        };
        let message = format!("the job did not end within its deadline of {deadline:?}");
        let error = Error::for_client(ErrorKind::DeadlineExceeded, message);
        self.end(now, id, Outcome::Failed(error), out);
    }
}
