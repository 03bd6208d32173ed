//! The question that a script is deciding on this thread.
//!
//! Helpers find it here, so that host objects stay as small as a pointer. It is set before a script runs, and removed
//! when it returns, however it returns.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    sync::OnceLock,
    time::Instant,
};

use super::{
    budget::{self, LOOKS, looked},
    error::{Res, fault},
};
use crate::{
    cluster::{ClusterView, WorkerState, WorkerView},
    model_on_disk::ModelOnDisk,
    model_ref::ModelRef,
    scheduler::{Ask, Candidate, LeastLoaded, least_loaded::obstacle},
};

/// The most steps of an explanation.
const MOST_STEPS: usize = 256;
/// The most candidates for which an explanation names the step that left them out.
const MOST_DROPPED: usize = 256;

thread_local! {
    static CURRENT: RefCell<Option<DecisionContext>> = const { RefCell::new(None) };
}

/// A question, and the notes about its answer.
#[derive(Debug)]
pub(super) struct DecisionContext {
    pub(super) ask: Ask,
    pub(super) cluster: ClusterView,
    /// Decides if the script leaves it to the built-in policy, and knows the memory that models take.
    pub(super) builtin: LeastLoaded,
    /// The job is about to join the queue: it does not yet count among the jobs of its tenant.
    pub(super) is_admitting: bool,
    /// `None` if nobody asked for reasons.
    notes: Option<RefCell<Notes>>,
    others: OnceLock<bool>,
    known: OnceLock<Option<ModelOnDisk>>,
    /// Random numbers drawn.
    drawn: Cell<u64>,
}

/// The reasons of a decision.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) steps: Vec<String>,
    /// The candidates that were left out, each with the step.
    pub(super) dropped: BTreeMap<Candidate, String>,
}

impl DecisionContext {
    pub(super) fn new(
        ask: &Ask,
        cluster: &ClusterView,
        builtin: &LeastLoaded,
        explained: bool,
    ) -> Self {
        Self {
            ask: ask.clone(),
            cluster: cluster.clone(),
            builtin: builtin.clone(),
            is_admitting: false,
            notes: explained.then(RefCell::default),
            others: OnceLock::new(),
            known: OnceLock::new(),
            drawn: Cell::new(0),
        }
    }

    pub(super) fn is_explained(&self) -> bool {
        self.notes.is_some()
    }

    /// Notes a step, if reasons are wanted.
    pub(super) fn step(&self, text: impl FnOnce() -> String) {
        if let Some(notes) = &self.notes {
            let mut notes = notes.borrow_mut();
            if notes.steps.len() < MOST_STEPS {
                notes.steps.push(text());
            }
        }
    }

    /// Notes the step that left a candidate out; only the first one counts.
    pub(super) fn dropped(&self, candidate: Candidate, why: impl FnOnce() -> String) {
        if let Some(notes) = &self.notes {
            let dropped = &mut notes.borrow_mut().dropped;
            if dropped.len() < MOST_DROPPED {
                dropped.entry(candidate).or_insert_with(why);
            }
        }
    }

    fn into_notes(self) -> Notes {
        self.notes.map(RefCell::into_inner).unwrap_or_default()
    }

    /// The job's model as a hive has it; `None` if no hive has it.
    pub(super) fn known_of_job(&self) -> Res<Option<&ModelOnDisk>> {
        if self.known.get().is_none() {
            looked(LOOKS)?;
        }
        let known = || self.cluster.largest_on_disk(&self.ask.job.model).cloned();
        Ok(self.known.get_or_init(known).as_ref())
    }

    /// A model as a hive has it; `None` if no hive has it.
    pub(super) fn known(&self, model: &ModelRef) -> Res<Option<ModelOnDisk>> {
        if *model == self.ask.job.model {
            return Ok(self.known_of_job()?.cloned());
        }
        looked(LOOKS)?;
        Ok(self.cluster.largest_on_disk(model).cloned())
    }

    /// The next random number: derived from the question's, by SplitMix64.
    pub(super) fn random(&self) -> u64 {
        self.drawn.set(self.drawn.get().wrapping_add(1));
        let step = self.drawn.get().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = self.ask.random.wrapping_add(step);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The reason that the worker cannot take a job of this kind now, whatever its model is; `None` if it can.
    pub(super) fn against(&self, worker: &WorkerView) -> Option<String> {
        if let Some(why) = self.unable(worker) {
            return Some(why);
        }
        self.is_avoided(worker).then(|| "the job has failed on it before".into())
    }

    /// The same, without regard to whether the job has failed on it before.
    pub(super) fn unable(&self, worker: &WorkerView) -> Option<String> {
        Some(obstacle(&self.ask, &self.cluster, worker)?.to_string())
    }

    /// Returns true if the worker could take a job of this kind now.
    pub(super) fn is_usable(&self, worker: &WorkerView) -> bool {
        worker.state == WorkerState::Ready
            && obstacle(&self.ask, &self.cluster, worker).is_none()
            && !self.is_avoided(worker)
    }

    /// Returns true if the job has failed on it before, unless this is a later attempt and no other worker could take
    /// it.
    fn is_avoided(&self, worker: &WorkerView) -> bool {
        if self.ask.avoid.is_empty() || !self.ask.avoid.contains(&worker.info.id) {
            return false;
        }
        let another = || {
            self.cluster.available(&self.ask.job.model).any(|other| {
                !self.ask.avoid.contains(&other.info.id)
                    && obstacle(&self.ask, &self.cluster, other).is_none()
            })
        };
        self.ask.attempts == 0 || *self.others.get_or_init(another)
    }
}

/// Runs a function of a script for this question; returns its answer and the notes.
pub(super) fn enter<T>(
    context: DecisionContext,
    deadline: Instant,
    run: impl FnOnce() -> Res<T>,
) -> (Res<T>, Notes) {
    struct Guard;
    impl Drop for Guard {
        fn drop(&mut self) {
            // After a panic the question must not stay behind; otherwise it is removed already.
            CURRENT.with(|current| current.take());
        }
    }
    CURRENT.with(|current| current.replace(Some(context)));
    let _guard = Guard;
    let result = budget::grant(deadline, run);
    let context = CURRENT.with(|current| current.take());
    (result, context.map(DecisionContext::into_notes).unwrap_or_default())
}

/// Calls `look` with the question that is being decided on this thread.
pub(super) fn with<T>(look: impl FnOnce(&DecisionContext) -> Res<T>) -> Res<T> {
    CURRENT.with(|current| match &*current.borrow() {
        Some(context) => look(context),
        None => Err(fault("this can only be used while a decision is made")),
    })
}
