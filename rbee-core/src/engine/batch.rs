//! Several jobs that are admitted beside each other, or not at all.

use std::sync::Arc;

use super::{Engine, admission::Beside};
use crate::{error::Result, job::Job, time::Now};

impl Engine {
    /// May all of these jobs be admitted, one beside the other? Nothing is changed. The error is what the first of them
    /// that has no room is refused with; if they are more than a limit allows at all, it does not say when to come back.
    pub(super) fn check_batch(&mut self, now: Now, jobs: &[Arc<Job>]) -> Result<()> {
        // What they are too many for says more than that there is no room now.
        self.tenants.check_batch(now, jobs, &self.settings)?;
        jobs.iter()
            .enumerate()
            .try_for_each(|(to_come, job)| self.admit(now, job, Beside { to_come, queued: 0 }))
    }
}
