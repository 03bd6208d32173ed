//! The decisions of late, so that each can be explained: the question, the cluster as it was, and the answer.
//!
//! The view is a persistent map, so keeping it costs a few reference counts; the reasons are worked out when somebody
//! asks for them, by putting the same question to the same policy again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    Ask, ClusterView, Error, Explanation, Job, JobId, Placement, Result, Scheduler, Ticket,
    WallTime,
};

/// The most text of prompts that is kept for explanations, in bytes.
const MOST_BYTES: usize = 8 << 20;

/// A decision that was made, with its reasons.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The job.
    pub job: Arc<Job>,
    /// When the question was put.
    pub at: WallTime,
    /// Attempts that the job had made before.
    pub attempts: u32,
    /// What the policy that decided is called.
    pub policy: String,
    /// Its number, where it is a recorded one.
    pub version: Option<u64>,
    /// The built-in policy decided, because the chosen one could not.
    pub fallback: bool,
    /// What was answered; none where the answer is still out.
    pub answer: Option<Result<Placement>>,
    /// How it came to that.
    pub explanation: Explanation,
}

#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) at: WallTime,
    pub(super) ask: Ask,
    pub(super) view: ClusterView,
    pub(super) scheduler: Arc<dyn Scheduler>,
    pub(super) version: Option<u64>,
    pub(super) fallback: bool,
    pub(super) answer: Option<Result<Placement>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// In the order in which they were asked.
    kept: BTreeMap<Ticket, Kept>,
    bytes: usize,
}

/// The last of them, within a bound of number and of memory.
#[derive(Clone, Debug)]
pub(super) struct Decisions {
    inner: Arc<Mutex<Inner>>,
    most: usize,
}

impl Decisions {
    pub(super) fn new(most: usize) -> Self {
        Self { inner: Arc::default(), most }
    }

    /// Are any kept at all?
    pub(super) fn are_kept(&self) -> bool {
        self.most > 0
    }

    pub(super) fn asked(&self, ticket: Ticket, question: Kept) {
        let mut inner = self.lock();
        inner.bytes += size(&question.ask);
        if let Some(before) = inner.kept.insert(ticket, question) {
            inner.bytes -= size(&before.ask);
        }
        while inner.kept.len() > self.most || (inner.bytes > MOST_BYTES && inner.kept.len() > 1) {
            let Some((_, oldest)) = inner.kept.pop_first() else { return };
            inner.bytes -= size(&oldest.ask);
        }
    }

    pub(super) fn answered(&self, ticket: Ticket, answer: &Result<Placement>) {
        if let Some(kept) = self.lock().kept.get_mut(&ticket) {
            kept.answer = Some(answer.clone());
        }
    }

    /// Those about this job, in the order in which they were made.
    pub(super) fn of(&self, job: JobId) -> Vec<Kept> {
        self.lock().kept.values().filter(|kept| kept.ask.job.id == job).cloned().collect()
    }

    /// The last questions about different jobs, the newest first.
    pub(super) fn recent(&self, most: usize) -> Vec<Ask> {
        let inner = self.lock();
        let newest = inner.kept.values().rev();
        newest.take(most).map(|kept| kept.ask.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(ask: &Ask) -> usize {
    ask.job.task.text_bytes()
}

impl Kept {
    /// Puts the question again. To be called off the async threads: a policy may take its time.
    pub(super) fn explain(self) -> Decision {
        let explain = || Ok(self.scheduler.explain(&self.ask, &self.view));
        let explanation = super::policy::guarded(explain).unwrap_or_else(|error: Error| {
            Explanation { placement: Err(error), steps: Vec::new(), candidates: Vec::new() }
        });
        Decision {
            job: self.ask.job.clone(),
            at: self.at,
            attempts: self.ask.attempts,
            policy: self.scheduler.name(),
            version: self.version,
            fallback: self.fallback,
            answer: self.answer,
            explanation,
        }
    }
}
