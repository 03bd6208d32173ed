//! Several jobs that are admitted beside each other, or not at all.

use std::sync::Arc;

use super::Engine;
use crate::{Job, Now, Result};

impl Engine {
    /// May all of these jobs be admitted, one beside the other? Nothing is changed: what is submitted in the same turn is
    /// admitted, as long as the policy is of the same opinion.
    ///
    /// # Errors
    /// What the first of them that has no room is refused with. One that is more than a limit allows at all says nothing
    /// of when to come back.
    pub fn check_together(&mut self, now: Now, jobs: &[Arc<Job>]) -> Result<()> {
        // What they are too many for says more than that there is no room now.
        self.tenants.check_together(now, jobs, &self.settings)?;
        jobs.iter().enumerate().try_for_each(|(beside, job)| self.admit(now, job, beside))
    }
}
