//! The last turn: what happens to jobs that are live when the queen shuts down.

use super::*;
use crate::error::ErrorKind;

impl Engine {
    /// Freezes the engine: nothing starts any more. A job whose client cannot come back is ended, because its client
    /// gets a failure; the others stay in the store for the next run of the queen.
    pub(super) fn freeze(&mut self, now: Now, out: &mut Out) {
        self.lifecycle = Lifecycle::Frozen;
        let end_of = |pending_writes: &PendingWrite| match pending_writes {
            PendingWrite::End(job) => Some(*job),
            _ => None,
        };
        let under_way: BTreeSet<JobId> = self.storage.pending.values().filter_map(end_of).collect();
        let is_to_end = |id: &JobId, entry: &JobEntry| match entry.phase {
            Phase::Ending { .. } => !under_way.contains(id),
            Phase::Aborting(AfterAbort::End(_)) => true,
            _ => entry.bound,
        };
        let mut jobs: Vec<_> = self
            .jobs
            .iter()
            .filter(|(id, entry)| is_to_end(id, entry))
            .map(|(_, entry)| entry.key)
            .collect();
        jobs.sort_unstable();
        for (_, _, job) in jobs {
            self.end_at_freeze(now, job, out);
        }
    }

    fn end_at_freeze(&mut self, now: Now, id: JobId, out: &mut Out) {
        let Some(entry) = self.jobs.get_mut(&id) else { return };
        let outcome = match &mut entry.phase {
            Phase::Ending { .. } => return self.record_end(now, id, out),
            Phase::Aborting(AfterAbort::End(outcome)) => outcome.clone(),
            _ => {
                let message = "the queen went down before the job had ended; the client could not come back for the \
                               answer, so the job is not run again";
                Outcome::Failed(Error::new(ErrorKind::ShuttingDown, message))
            }
        };
        self.settle(now, id, outcome, out);
    }

    /// True if a record is not confirmed yet.
    pub fn awaits_records(&self) -> bool {
        !self.storage.pending.is_empty()
    }

    /// True if the job is recorded as live, so that the next owner of the store continues it.
    pub fn leaves(&self, job: JobId) -> bool {
        let entry = self.jobs.get(&job);
        entry.is_some_and(|entry| entry.accepted && !matches!(entry.phase, Phase::Ending { .. }))
    }

    pub(super) fn detach(&mut self, job: JobId) {
        if let Some(entry) = self.jobs.get_mut(&job) {
            (entry.bound, entry.keeps_output) = (false, true);
        }
    }
}
