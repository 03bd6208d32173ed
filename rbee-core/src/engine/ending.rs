//! How jobs end: by their own accord, by a clock, and always recorded before it is told.

use super::*;
use crate::{Change, ErrorKind, KeepRequests, Priority, Result};

/// Attempts to record the end of a job before its readers are told without.
const RECORD_TRIES: u32 = 3;

impl Entry {
    /// Tokens that the job's tenant has used with it, where it ends so: prompt and answer, or what there is of it where
    /// the client or a clock ended it. None where it failed for a reason of ours.
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
        let Some(entry) = self.jobs.get_mut(&id) else {
            return;
        };
        // Counted before its slot goes to the next one, for which it may be a reason not to begin.
        let (used, life) = (entry.used(&outcome), now.at - entry.submitted);
        let tokens = (entry.expected, used.unwrap_or(0));
        self.tenants.used(now, &entry.job, life, tokens, &mut self.view);
        if let Some(used) = used
            && entry.shared > 0
        {
            let used = jobs::share(used, self.tenants.weight(entry.job.tenant.as_ref()));
            self.lanes.correct(&entry.lane(), entry.shared, used);
        }
        entry.phase = Phase::Ending { outcome, tries: 0 };
        self.in_backoff[lanes::class(entry.job.priority)].remove(&id);
        self.timers.disarm_all(&mut entry.alarms);
        self.record_end(now, id, out);
    }

    pub(super) fn record_end(&mut self, now: Now, id: JobId, out: &mut Out) {
        let Some(entry) = self.jobs.get_mut(&id).map(Box::as_mut) else {
            return;
        };
        let Phase::Ending { outcome, tries } = &mut entry.phase else {
            return;
        };
        *tries += 1;
        let (outcome, keep_output) = (outcome.clone(), entry.keeps_output);
        let used = entry.used(&outcome).unwrap_or(0);
        let n = self.number();
        self.awaited.insert(n, Awaited::End(id));
        let change = self.end_change(id, keep_output, outcome, used, now);
        out.push(Effect::Record { n: Some(n), changes: vec![change] });
    }

    pub(super) fn end_change(
        &self,
        job: JobId,
        keep_output: bool,
        outcome: Outcome,
        used_tokens: u64,
        now: Now,
    ) -> Change {
        let keep_request = self.settings.keep_requests == KeepRequests::Always;
        Change::JobEnded { job, outcome, at: now.wall, used_tokens, keep_request, keep_output }
    }

    pub(super) fn recorded(&mut self, now: Now, n: u64, result: Result<()>, out: &mut Out) {
        match (self.awaited.remove(&n), result) {
            (Some(Awaited::Accept(job)), Ok(())) => {
                if let Some(entry) = self.jobs.get_mut(&job) {
                    entry.accepted = true;
                }
                out.push(Effect::Accept { job, answer: Ok(()) });
            }
            (Some(Awaited::Accept(job)), Err(error)) => {
                // It is not in the store, so it was never accepted. A run that has begun is stopped.
                out.push(Effect::Accept { job, answer: Err(error.clone()) });
                self.end(now, job, Outcome::Failed(error), out);
            }
            (Some(Awaited::End(job)), Ok(())) => self.finish(job, None, out),
            // It stays live in the store, so its readers are not told of an end.
            (Some(Awaited::End(_) | Awaited::LostEnd(..)), Err(_)) if self.frozen => {}
            (Some(Awaited::End(job)), Err(error)) => {
                let entry = self.jobs.get_mut(&job).map(Box::as_mut);
                let Some(Entry { phase: Phase::Ending { tries, .. }, accepted, alarms, .. }) =
                    entry
                else {
                    return;
                };
                if !*accepted || *tries >= RECORD_TRIES || error.kind() != ErrorKind::Storage {
                    return self.finish(job, Some(error), out);
                }
                let delay = self.settings.retry_delay / 10 * 4_u32.pow(*tries);
                self.timers.arm_job(alarms, now.at + delay, JobAlarm::Rerecord, job);
            }
            (Some(Awaited::LostEnd(job, outcome)), result) => {
                if let Err(error) = result {
                    out.push(Effect::Note(Note::Unrecorded(job, error)));
                }
                out.push(Effect::Finish { job, outcome });
            }
            (Some(Awaited::Tenant(n, change)), result) => {
                if result.is_ok() {
                    self.tenants.apply(change, &self.settings, &mut self.view);
                }
                out.push(Effect::Answer { n, result });
            }
            (Some(Awaited::Done(n)), result) => out.push(Effect::Answer { n, result }),
            (None, _) => {}
        }
    }

    pub(super) fn finish(&mut self, id: JobId, unrecorded: Option<Error>, out: &mut Out) {
        let entry = self.jobs.remove(&id).map(|entry| *entry);
        let Some(Entry { phase: Phase::Ending { outcome, .. }, job, .. }) = entry else {
            return;
        };
        self.tenants.ended(&job, &mut self.view);
        if let Some(error) = unrecorded {
            out.push(Effect::Note(Note::Unrecorded(id, error)));
        }
        out.push(Effect::Finish { job: id, outcome });
    }

    pub(super) fn queue_wait_over(&mut self, now: Now, id: JobId, out: &mut Out) {
        let Some(priority) = self.jobs.get(&id).map(|entry| entry.job.priority) else {
            return;
        };
        let setting = match priority {
            Priority::Interactive => "interactive_wait",
            Priority::Batch => "batch_wait",
        };
        let wait = self.settings.queue_wait(priority);
        let message = format!("no worker was free within {wait:?} (setting {setting})");
        self.end(now, id, Outcome::Failed(Error::new(ErrorKind::QueueTimeout, message)), out);
    }

    pub(super) fn run_over(&mut self, now: Now, id: JobId, out: &mut Out) {
        let Some(timeout) = self.jobs.get(&id).map(|entry| entry.job.timeout) else {
            return;
        };
        let message = format!("the job did not end within its timeout of {timeout:?}");
        self.end(now, id, Outcome::Failed(Error::new(ErrorKind::JobTimeout, message)), out);
    }

    pub(super) fn deadline_over(&mut self, now: Now, id: JobId, out: &mut Out) {
        let Some(deadline) = self.jobs.get(&id).and_then(|entry| entry.job.deadline) else {
            return;
        };
        let message = format!("the job did not end within its deadline of {deadline:?}");
        self.end(now, id, Outcome::Failed(Error::new(ErrorKind::DeadlineExceeded, message)), out);
    }
}
