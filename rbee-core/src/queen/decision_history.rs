//! The decisions of late, so that each can be explained: the question, the cluster as it was, and the answer.
//!
//! The view is a persistent map, so keeping it costs a few reference counts; the reasons are worked out when somebody
//! asks for them, by putting the same question to the same policy again.

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
    /// Where the job goes; none where the answer is still out, or this is about its admission.
    pub answer: Option<Result<Placement>>,
    /// Whether the job may join the queue, where that was the question. An admission of rank 0 is not kept.
    pub admission: Option<Result<Admission>>,
    /// The answer was not carried out: it did not fit the fleet, or the job, as they were when it came.
    pub is_stale: bool,
    /// How it came to that; empty where this is about an admission.
    pub explanation: Explanation,
}

/// What was asked, with the answer.
#[derive(Clone, Debug)]
pub(super) enum Question {
    /// Where does it go?
    Place(Option<Result<Placement>>),
    /// May it join the queue?
    Admit(Result<Admission>),
}

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
    /// In the order in which they were asked.
    kept: BTreeMap<u64, HistoryEntry>,
    /// Where those are that the engine knows by a ticket.
    tickets: BTreeMap<Ticket, u64>,
    last: u64,
    bytes: usize,
}

impl Inner {
    fn keep(&mut self, question: HistoryEntry, most: usize) -> u64 {
        self.last += 1;
        self.bytes += size(&question.ask);
        self.kept.insert(self.last, question);
        while self.kept.len() > most || (self.bytes > MOST_BYTES && self.kept.len() > 1) {
            let Some((number, oldest)) = self.kept.pop_first() else { break };
            self.bytes -= size(&oldest.ask);
            // Tickets are given out in the same order as the numbers.
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
        self.kept.get_mut(self.tickets.get(&ticket)?)
    }
}

/// The last of them, within a bound of number and of memory.
#[derive(Clone, Debug)]
pub(super) struct DecisionHistory {
    inner: Arc<Mutex<Inner>>,
    most: usize,
}

impl DecisionHistory {
    pub(super) fn new(most: usize) -> Self {
        Self { inner: Arc::default(), most }
    }

    /// Are any kept at all?
    pub(super) fn are_kept(&self) -> bool {
        self.most > 0
    }

    /// A question where a job goes.
    pub(super) fn asked(&self, ticket: Ticket, question: HistoryEntry) {
        let mut inner = self.lock();
        let number = inner.keep(question, self.most);
        inner.tickets.insert(ticket, number);
    }

    /// An answer whether a job may join the queue.
    pub(super) fn admitted(&self, question: HistoryEntry) {
        self.lock().keep(question, self.most);
    }

    /// What came of a question where a job goes. One that nobody had time for is no decision.
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

    /// The answer was not carried out.
    pub(super) fn came_to_nothing(&self, ticket: Ticket) {
        if let Some(kept) = self.lock().find(ticket) {
            kept.is_stale = matches!(kept.question, Question::Place(Some(Ok(_))));
        }
    }

    /// Those about this job, in the order in which they were made.
    pub(super) fn of(&self, job: JobId) -> Vec<HistoryEntry> {
        self.lock().kept.values().filter(|kept| kept.ask.job.id == job).cloned().collect()
    }

    /// The last question about each of so many different jobs, the newest first.
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
    /// Puts the question again. To be called off the async threads: a policy may take its time.
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
