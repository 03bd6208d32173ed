//! Jobs that are admitted together.

use super::{super::mailbox::Submission, *};
use crate::metrics;

impl Driver {
    /// Admits all, or refuses all before anything of them is recorded. In one turn, so nobody comes in between, but where
    /// the policy takes its time to say whether it admits a job.
    pub(super) fn submit_all(&mut self, submissions: Vec<Submission>, effects: &mut Vec<Effect>) {
        let jobs = submissions.iter().map(|one| one.job.clone());
        // What is a repeat of a live job asks for no room.
        let new: Vec<_> = jobs.filter(|job| !self.engine.has_job(job.id)).collect();
        if let Err(error) = self.engine.check_together(self.now(), &new) {
            metrics::refused(&error);
            for Submission { reply, .. } in submissions {
                let _ = reply.send(Err(error.clone()));
            }
            return;
        }
        for Submission { job, log, reply } in submissions {
            self.deal_with(Message::Submit { job, log, reply }, effects);
        }
    }
}
