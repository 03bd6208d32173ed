//! Everything that waits for one model.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use super::{QueueKey, class, fair_share::FairShare, ordered_list::OrderedList};
use crate::{
    error::Error,
    id::{HiveId, TenantId, Ticket},
    priority::Priority,
    time::Time,
};

pub(super) type LaneName = (Priority, Option<TenantId>);
/// The share that a lane's tenant has had, and the tenant: the smallest share goes first.
type Turn = (u64, Option<TenantId>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneState {
    /// The policy must be asked about its head.
    Ready,
    /// A question is open.
    Asked(Ticket),
    /// Its head must wait.
    Parked,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) jobs: OrderedList,
    pub(super) state: LaneState,
    /// The share that its tenant has had: tokens divided by the weight.
    pub(super) served: u64,
    /// The number of answers in a row that did not fit the state.
    pub(super) misses: u32,
    /// The count of changes when its head was last asked about.
    pub(super) asked_at: u64,
}

/// The lanes of one priority. Shares are compared only among them: the other priority is served at another throughput.
#[derive(Debug, Default)]
struct Class {
    ready: BTreeSet<Turn>,
    parked: BTreeSet<Turn>,
    /// Open questions.
    asked: usize,
    /// The share of the lane that was served last, before it was served. A new tenant starts there: unused shares are
    /// not saved up.
    floor: u64,
    /// Shares above the floor, of tenants whose lanes have run empty.
    owed: FairShare,
}

impl Class {
    /// Moves a lane from one state to another.
    fn swap(&mut self, turn: Turn, from: LaneState, to: LaneState) {
        match from {
            LaneState::Ready => _ = self.ready.remove(&turn),
            LaneState::Parked => _ = self.parked.remove(&turn),
            LaneState::Asked(_) => self.asked -= 1,
        }
        match to {
            LaneState::Ready => _ = self.ready.insert(turn),
            LaneState::Parked => _ = self.parked.insert(turn),
            LaneState::Asked(_) => self.asked += 1,
        }
    }
}

/// Everything that waits for one model.
#[derive(Debug, Default)]
pub(in super::super) struct ModelQueue {
    pub(super) lanes: BTreeMap<LaneName, Lane>,
    classes: [Class; 2],
    waiting: usize,
    /// The count of changes that may help a job of this model. An answer to wait is out of date if the count has
    /// changed since the question.
    pub(super) changes: u64,
    /// Interactive jobs served since the last batch job.
    since_batch: u32,
    /// Hives that refuse to start this model, as long as this queue exists.
    pub(in super::super) refused: Arc<BTreeMap<HiveId, Error>>,
    /// Failed starts of this model, by hive, and until when the hive is not asked again.
    pub(in super::super) failed_starts: BTreeMap<HiveId, (u32, Time)>,
}

impl ModelQueue {
    /// Sets the state of a lane and keeps the indexes consistent.
    pub(super) fn set(&mut self, name: &LaneName, state: LaneState) {
        let Some(lane) = self.lanes.get_mut(name) else {
            return;
        };
        let turn = (lane.served, name.1.clone());
        let before = std::mem::replace(&mut lane.state, state);
        self.classes[class(name.0)].swap(turn, before, state);
    }

    pub(super) fn ask(&mut self, name: &LaneName, ticket: Ticket) {
        self.set(name, LaneState::Asked(ticket));
        if let Some(lane) = self.lanes.get_mut(name) {
            lane.asked_at = self.changes;
        }
    }

    pub(super) fn push(&mut self, name: LaneName, key: QueueKey, since: Time) {
        self.waiting += 1;
        let Some(lane) = self.lanes.get_mut(&name) else {
            let mut jobs = OrderedList::default();
            jobs.insert(key, since);
            let class = &mut self.classes[class(name.0)];
            let served = class.owed.take(&name.1).unwrap_or_default().max(class.floor);
            class.ready.insert((served, name.1.clone()));
            let lane = Lane { jobs, state: LaneState::Ready, served, misses: 0, asked_at: 0 };
            self.lanes.insert(name, lane);
            return;
        };
        let is_new_head = lane.jobs.first().is_none_or(|(head, _)| key < *head);
        lane.jobs.insert(key, since);
        if is_new_head && lane.state == LaneState::Parked {
            self.set(&name, LaneState::Ready);
        }
    }

    /// Takes a job out of its lane. A new head needs a question of its own.
    pub(super) fn remove(
        &mut self,
        name: &LaneName,
        key: &QueueKey,
        served: Option<u64>,
        voided: bool,
    ) -> bool {
        let Some(lane) = self.lanes.get_mut(name) else {
            return false;
        };
        let was_head = lane.jobs.first().is_some_and(|(head, _)| head == key);
        if !lane.jobs.remove(key) {
            return false;
        }
        self.waiting -= 1;
        let (state, is_empty) = (lane.state, lane.jobs.is_empty());
        if was_head && !is_empty {
            lane.misses = 0;
        }
        if let Some(cost) = served {
            self.since_batch =
                if name.0 == Priority::Batch { 0 } else { self.since_batch.saturating_add(1) };
            // Removed from the index under the old share, inserted under the new one.
            self.set(name, LaneState::Asked(Ticket(0)));
            if let Some(lane) = self.lanes.get_mut(name) {
                let class = &mut self.classes[class(name.0)];
                class.floor = class.floor.max(lane.served);
                lane.served = lane.served.saturating_add(cost);
            }
            self.set(name, LaneState::Ready);
        } else if voided || was_head && state == LaneState::Parked {
            self.set(name, LaneState::Ready);
        }
        if is_empty {
            self.set(name, LaneState::Ready);
            if let Some(lane) = self.lanes.remove(name) {
                let class = &mut self.classes[class(name.0)];
                class.ready.remove(&(lane.served, name.1.clone()));
                class.owed.remember(&name.1, lane.served, class.floor);
            }
        }
        true
    }

    /// Corrects the share of a lane: a served job has used another share than expected.
    pub(super) fn correct(&mut self, name: &LaneName, expected: u64, used: u64) {
        let corrected = |served: u64| served.saturating_sub(expected).saturating_add(used);
        let class = &mut self.classes[class(name.0)];
        if let Some(lane) = self.lanes.get_mut(name) {
            let (state, before) = (lane.state, lane.served);
            lane.served = corrected(before);
            // A lane with an open question is in no index.
            class.swap((before, name.1.clone()), state, LaneState::Asked(Ticket(0)));
            class.swap((lane.served, name.1.clone()), LaneState::Asked(Ticket(0)), state);
        } else if let Some(served) = class.owed.take(&name.1) {
            class.owed.remember(&name.1, corrected(served), class.floor);
        }
    }

    /// The lane to ask about next: interactive ones first, unless batch has waited long enough; among them the one
    /// served longest ago. A batch lane is not asked about while a question about an interactive one is open.
    pub(super) fn next(&self, interactive_per_batch: u32) -> Option<LaneName> {
        let batch_turn = self.since_batch >= interactive_per_batch;
        let first = |priority| {
            let (_, tenant) = self.classes[class(priority)].ready.first()?;
            Some((priority, tenant.clone()))
        };
        let (interactive, batch) = (|| first(Priority::Interactive), || first(Priority::Batch));
        if batch_turn {
            if self.classes[1].asked > 0 {
                return None;
            }
            return batch().or_else(interactive);
        }
        interactive().or_else(|| if self.classes[0].asked > 0 { None } else { batch() })
    }

    /// Wakes one parked lane: the first in the order of service, or the first after `after` if that is given.
    pub(super) fn offer(
        &mut self,
        after: Option<(LaneName, u64)>,
        interactive_per_batch: u32,
    ) -> bool {
        let batch_turn =
            self.since_batch >= interactive_per_batch && !self.classes[1].parked.is_empty();
        let order =
            if batch_turn { [Priority::Batch, Priority::Interactive] } else { Priority::ALL };
        let skip = after
            .as_ref()
            .and_then(|((priority, _), _)| order.iter().position(|p| p == priority))
            .unwrap_or(0);
        for priority in order.into_iter().skip(skip) {
            let from = match &after {
                Some(((p, tenant), served)) if *p == priority => {
                    Bound::Excluded((*served, tenant.clone()))
                }
                _ => Bound::Unbounded,
            };
            let parked = &self.classes[class(priority)].parked;
            let found = parked.range((from, Bound::Unbounded)).next().cloned();
            if let Some((_, tenant)) = found {
                self.set(&(priority, tenant), LaneState::Ready);
                return true;
            }
        }
        false
    }

    pub(super) fn wake_all(&mut self) {
        for priority in Priority::ALL {
            for (_, tenant) in std::mem::take(&mut self.classes[class(priority)].parked) {
                self.set(&(priority, tenant), LaneState::Ready);
            }
        }
    }

    pub(in super::super) fn waiting(&self) -> usize {
        self.waiting
    }
}
