//! The policy of a replay: asked as a queen asks hers, and suspended as she suspends it.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::{
    Admission, Ask, ClusterView, Error, ErrorKind, LeastLoaded, Placement, Result, Scheduler,
    SchedulerInfo, Ticket,
    engine::{Effect, Note},
};

/// Faults in a row after which it is not asked any more: as many as a queen bears.
const MOST_FAULTS: u32 = 5;
/// Its functions, each with faults of its own.
const PLACE: usize = 0;
const ADMIT: usize = 1;

#[derive(Debug)]
pub(super) struct Asked<'a> {
    scheduler: &'a dyn Scheduler,
    info: SchedulerInfo,
    built_in: &'a LeastLoaded,
    /// In a row, of either function.
    faults: [u32; 2],
    /// Questions that it has answered itself, and of which it is not known yet whether the answer is of use.
    answered: BTreeSet<Ticket>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(scheduler: &'a dyn Scheduler, built_in: &'a LeastLoaded) -> Self {
        let info = scheduler.info();
        Self { scheduler, info, built_in, faults: [0; 2], answered: BTreeSet::new() }
    }

    pub(super) fn name(&self) -> &str {
        &self.info.name
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.faults.iter().any(|faults| *faults >= MOST_FAULTS)
    }

    pub(super) fn place(
        &mut self,
        ticket: Ticket,
        ask: &Ask,
        fallback: bool,
        view: &ClusterView,
    ) -> Result<Placement> {
        if fallback || self.is_suspended() {
            return guarded(|| self.built_in.place(ask, view));
        }
        self.answered.insert(ticket);
        guarded(|| self.scheduler.place(ask, view))
    }

    /// None where it has no say in it.
    pub(super) fn admit(
        &mut self,
        ask: impl FnOnce() -> Ask,
        view: &ClusterView,
    ) -> Option<Result<Admission>> {
        if self.is_suspended() || !self.info.admits {
            return None;
        }
        let admission = guarded(|| self.scheduler.admit(&ask(), view));
        self.count(ADMIT, admission.is_err());
        Some(admission)
    }

    /// The engine has looked at the answer to this question; `said` is what it said of it. Gives whether the policy has
    /// failed.
    pub(super) fn weighed(&mut self, ticket: Ticket, said: &[Effect]) -> bool {
        if !self.answered.remove(&ticket) {
            return false;
        }
        let useless = said.iter().find_map(|effect| match effect {
            Effect::Note(Note::StaleAnswer(_)) => Some(false),
            Effect::Note(Note::PolicyFault(_)) => Some(true),
            _ => None,
        });
        match useless {
            None => self.count(PLACE, false),
            Some(true) => self.count(PLACE, true),
            Some(false) => {}
        }
        useless == Some(true)
    }

    fn count(&mut self, function: usize, has_failed: bool) {
        if has_failed {
            self.faults[function] = self.faults[function].saturating_add(1);
        } else if !self.is_suspended() {
            self.faults[function] = 0;
        }
    }
}

/// A policy that panics has failed to decide.
fn guarded<T>(decide: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decide))
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "the policy's code panicked")))
}
