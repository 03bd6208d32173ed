//! The admission of several jobs: all or none.

use std::sync::Arc;

use super::{Engine, admission::Beside};
use crate::{error::Result, job::Job, time::Now};

impl Engine {
    /// Checks that all of these jobs may be admitted together. Changes nothing. The error is that of the first job that
    /// exceeds a limit; if they are more than a limit can ever allow, it has no `retry_after`.
    pub(super) fn check_batch(&mut self, now: Now, jobs: &[Arc<Job>]) -> Result<()> {
        // A limit that they can never meet says more than a lack of space now.
        self.tenants.check_batch(now, jobs, &self.config.settings)?;
        jobs.iter()
            .enumerate()
            .try_for_each(|(to_come, job)| self.admit(now, job, Beside { to_come, queued: 0 }))
    }
}
