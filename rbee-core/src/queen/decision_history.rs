//! The recent decisions, kept so that each can be explained: the question, the state of the cluster, and the answer.
//!
//! The view of the cluster is a persistent map, so keeping it costs a few reference counts. The reasons are computed on
//! demand, by putting the same question to the same policy again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    cluster::ClusterView,
    engine::Advice,
    error::{Error, Result},
    id::{JobId, Ticket},
    job::Job,
    scheduler::{Admission, Ask, Explanation, Placement, Scheduler},
    time::WallTime,
};

/// The maximum size of the prompts that are kept for explanations, in bytes.
const MOST_BYTES: usize = 8 << 20;

/// A recorded decision, with its reasons.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The job that the decision is about.
    pub job: Arc<Job>,
    /// The time at which the policy was asked.
    pub at: WallTime,
    /// The number of attempts that the job had made before.
    pub attempts: u32,
    /// The name of the policy that decided.
    pub policy: String,
    /// The number of its version; `None` if it is not recorded.
    pub version: Option<u64>,
    /// True if the built-in policy decided, because the active one could not.
    pub fallback: bool,
    /// The placement of the job; `None` if the answer is not there yet, or the decision is about its admission.
    pub answer: Option<Result<Placement>>,
    /// The admission of the job to the queue; `None` if the decision is about its placement. An admission of rank 0 is
    /// not kept.
    pub admission: Option<Result<Admission>>,
    /// True if the answer was not used, because the fleet or the job had changed before it came.
    pub is_stale: bool,
    /// The reasons for the decision; empty for an admission.
    pub explanation: Explanation,
}

/// A question, with its answer.
#[derive(Clone, Debug)]
pub(super) enum Question {
    /// The placement of a job; `None` if there is no answer yet.
    Place(Option<Result<Placement>>),
    /// The admission of a job to the queue.
    Admit(Result<Admission>),
}

/// A decision, with all that is needed to explain it.
#[derive(Clone, Debug)]
pub(super) struct HistoryEntry {
    pub(super) at: WallTime,
    pub(super) ask: Ask,
    pub(super) view: ClusterView,
    pub(super) scheduler: Arc<dyn Scheduler>,
    pub(super) version: Option<u64>,
    pub(super) fallback: bool,
    pub(super) question: Question,
    pub(super) is_stale: bool,
}

#[derive(Debug, Default)]
struct Inner {
    /// The entries, in the order in which the questions were put. Boxed, because a map moves its values often.
    kept: BTreeMap<u64, Box<HistoryEntry>>,
    /// The number of the entry for each ticket of the engine.
    tickets: BTreeMap<Ticket, u64>,
    last: u64,
    bytes: usize,
}

impl Inner {
    fn keep(&mut self, question: HistoryEntry, most: usize) -> u64 {
        self.last += 1;
        self.bytes += size(&question.ask);
        self.kept.insert(self.last, Box::new(question));
        while self.kept.len() > most || (self.bytes > MOST_BYTES && self.kept.len() > 1) {
            let Some((number, oldest)) = self.kept.pop_first() else { break };
            self.bytes -= size(&oldest.ask);
            // Tickets are issued in the same order as the numbers.
            while let Some(first) = self.tickets.first_entry()
                && *first.get() <= number
            {
                first.remove();
            }
        }
        self.last
    }

    fn forget(&mut self, ticket: Ticket) {
        let number = self.tickets.remove(&ticket);
        if let Some(kept) = number.and_then(|number| self.kept.remove(&number)) {
            self.bytes -= size(&kept.ask);
        }
    }

    fn find(&mut self, ticket: Ticket) -> Option<&mut HistoryEntry> {
        self.kept.get_mut(self.tickets.get(&ticket)?).map(Box::as_mut)
    }
}

/// The most recent decisions, limited in number and in memory.
#[derive(Clone, Debug)]
pub(super) struct DecisionHistory {
    inner: Arc<Mutex<Inner>>,
    most: usize,
}

impl DecisionHistory {
    pub(super) fn new(most: usize) -> Self {
        Self { inner: Arc::default(), most }
    }

    /// Returns true if decisions are kept at all.
    pub(super) fn are_kept(&self) -> bool {
        self.most > 0
    }

    /// Records a question about the placement of a job.
    pub(super) fn asked(&self, ticket: Ticket, question: HistoryEntry) {
        let mut inner = self.lock();
        let number = inner.keep(question, self.most);
        inner.tickets.insert(ticket, number);
    }

    /// Records an answer about the admission of a job.
    pub(super) fn admitted(&self, question: HistoryEntry) {
        self.lock().keep(question, self.most);
    }

    /// Records the answer about the placement of a job. If the policy had no time to decide, the question is dropped.
    pub(super) fn answered(&self, ticket: Ticket, advice: &Advice) {
        let answer = match advice {
            Advice::Placement(placement) => Ok(placement),
            Advice::Failed(error) => Err(error.clone()),
            Advice::Admission(_) => return,
            Advice::NoTime => return self.lock().forget(ticket),
        };
        if let Some(kept) = self.lock().find(ticket) {
            kept.question = Question::Place(Some(answer.cloned()));
        }
    }

    /// Records that the answer was not used.
    pub(super) fn came_to_nothing(&self, ticket: Ticket) {
        if let Some(kept) = self.lock().find(ticket) {
            kept.is_stale = matches!(kept.question, Question::Place(Some(Ok(_))));
        }
    }

    /// The decisions about this job, in the order in which they were made.
    pub(super) fn of(&self, job: JobId) -> Vec<HistoryEntry> {
        let inner = self.lock();
        let of_job = inner.kept.values().filter(|kept| kept.ask.job.id == job);
        of_job.map(|kept| (**kept).clone()).collect()
    }

    /// The last question about each of at most `most` different jobs, the newest first.
    pub(super) fn recent(&self, most: usize) -> Vec<Ask> {
        let inner = self.lock();
        let mut jobs = BTreeSet::new();
        let newest = inner.kept.values().rev().filter(|kept| jobs.insert(kept.ask.job.id));
        newest.take(most).map(|kept| kept.ask.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(ask: &Ask) -> usize {
    ask.job.task.text_bytes()
}

impl HistoryEntry {
    /// Puts the question again. Must be called off the async threads, because a policy may be slow.
    pub(super) fn explain(self) -> Decision {
        let nothing =
            |placement| Explanation { placement, steps: Vec::new(), candidates: Vec::new() };
        let (answer, admission, explanation) = match self.question {
            Question::Admit(admission) => (None, Some(admission), nothing(Ok(Placement::Wait))),
            Question::Place(answer) => {
                let explain = || Ok(self.scheduler.explain(&self.ask, &self.view));
                let explained = crate::engine::guarded(explain);
                (answer, None, explained.unwrap_or_else(|error: Error| nothing(Err(error))))
            }
        };
        Decision {
            job: self.ask.job.clone(),
            at: self.at,
            attempts: self.ask.attempts,
            policy: self.scheduler.info().name,
            version: self.version,
            fallback: self.fallback,
            answer,
            admission,
            is_stale: self.is_stale,
            explanation,
        }
    }
}
