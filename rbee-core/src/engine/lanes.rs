//! The queues. One lane for each model, tenant and priority, first in first out; at most one question about a lane is
//! out at a time, so that every answer is seen before the next question.
//!
//! A lane whose head was told to wait is parked, and costs nothing until something changes: a slot of its model is
//! offered to the parked lanes one after the other, the one that was served longest ago first; a change of the fleet
//! wakes them all. So a job's cost does not depend on how many others wait.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use crate::{Error, HiveId, JobId, ModelRef, Priority, TenantId, Ticket, Time};

/// A job's place in its lane: its rank, when it came, its name.
pub(super) type Place = (i64, u64, JobId);
/// Emptied lanes whose share is remembered, for each model.
const MOST_SPENT: usize = 10_000;

type LaneName = (Priority, Option<TenantId>);
/// The share that the tenant of a lane has had, and who it is: who has had least goes first.
type Turn = (u64, Option<TenantId>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LaneState {
    /// Its head is to be asked about.
    Ready,
    /// A question is out.
    Asked(Ticket),
    /// Its head was told to wait.
    Parked,
}

#[derive(Debug)]
struct Lane {
    jobs: BTreeMap<Place, Time>,
    state: LaneState,
    /// The share that its tenant has had: tokens by weight.
    served: u64,
    /// Answers in a row that did not fit the state.
    misses: u32,
    /// The count of changes when its head was asked about.
    asked_at: u64,
}

/// Everything that waits for one model.
#[derive(Debug, Default)]
pub(super) struct ModelQueue {
    lanes: BTreeMap<LaneName, Lane>,
    ready: [BTreeSet<Turn>; 2],
    parked: [BTreeSet<Turn>; 2],
    /// Questions out, by priority.
    asked: [usize; 2],
    waiting: usize,
    /// The share that the lane had which was served last, before that. Who comes now begins there: what was not asked
    /// for is not saved up.
    floor: u64,
    /// Shares of tenants beyond the floor whose lanes have run empty, for when they come back.
    spent: BTreeMap<LaneName, u64>,
    /// Changes that may help a job of this model. An answer to wait that one of them overtook is out of date.
    changes: u64,
    /// Interactive jobs served since a batch job was.
    since_batch: u32,
    /// Hives that will not start this model, for as long as this queue lasts.
    pub(super) refused: Arc<BTreeMap<HiveId, Error>>,
    /// Starts of this model that failed, by hive, and until when the hive is not asked again.
    pub(super) failed_starts: BTreeMap<HiveId, (u32, Time)>,
}

fn class(priority: Priority) -> usize {
    match priority {
        Priority::Interactive => 0,
        Priority::Batch => 1,
    }
}

impl ModelQueue {
    /// Sets the state of a lane and keeps the indexes in step.
    fn set(&mut self, name: &LaneName, state: LaneState) {
        let Some(lane) = self.lanes.get_mut(name) else {
            return;
        };
        let (class, turn) = (class(name.0), (lane.served, name.1.clone()));
        match std::mem::replace(&mut lane.state, state) {
            LaneState::Ready => _ = self.ready[class].remove(&turn),
            LaneState::Parked => _ = self.parked[class].remove(&turn),
            LaneState::Asked(_) => self.asked[class] -= 1,
        }
        match state {
            LaneState::Ready => _ = self.ready[class].insert(turn),
            LaneState::Parked => _ = self.parked[class].insert(turn),
            LaneState::Asked(_) => self.asked[class] += 1,
        }
    }

    fn ask(&mut self, name: &LaneName, ticket: Ticket) {
        self.set(name, LaneState::Asked(ticket));
        if let Some(lane) = self.lanes.get_mut(name) {
            lane.asked_at = self.changes;
        }
    }

    fn push(&mut self, name: LaneName, place: Place, since: Time) {
        self.waiting += 1;
        let Some(lane) = self.lanes.get_mut(&name) else {
            let jobs = BTreeMap::from([(place, since)]);
            let served = self.spent.remove(&name).unwrap_or_default().max(self.floor);
            self.ready[class(name.0)].insert((served, name.1.clone()));
            let lane = Lane { jobs, state: LaneState::Ready, served, misses: 0, asked_at: 0 };
            self.lanes.insert(name, lane);
            return;
        };
        let is_new_head = lane.jobs.first_key_value().is_none_or(|(head, _)| place < *head);
        lane.jobs.insert(place, since);
        if is_new_head && lane.state == LaneState::Parked {
            self.set(&name, LaneState::Ready);
        }
    }

    /// Takes a job out of its lane. A new head deserves a question of its own.
    fn remove(
        &mut self,
        name: &LaneName,
        place: &Place,
        served: Option<u64>,
        voided: bool,
    ) -> bool {
        let Some(lane) = self.lanes.get_mut(name) else {
            return false;
        };
        let was_head = lane.jobs.first_key_value().is_some_and(|(head, _)| head == place);
        if lane.jobs.remove(place).is_none() {
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
            // Out of the index under the old turn, in again under the new one.
            self.set(name, LaneState::Asked(Ticket(0)));
            if let Some(lane) = self.lanes.get_mut(name) {
                self.floor = self.floor.max(lane.served);
                lane.served = lane.served.saturating_add(cost.max(1));
            }
            self.set(name, LaneState::Ready);
        } else if voided || was_head && state == LaneState::Parked {
            self.set(name, LaneState::Ready);
        }
        if is_empty {
            self.set(name, LaneState::Ready);
            if let Some(lane) = self.lanes.remove(name) {
                self.ready[class(name.0)].remove(&(lane.served, name.1.clone()));
                self.remember(name, lane.served);
            }
        }
        true
    }

    /// What an emptied lane's tenant has had beyond the others. Those that the floor has caught up with are forgotten.
    fn remember(&mut self, name: &LaneName, served: u64) {
        let floor = self.floor;
        self.spent.retain(|_, spent| *spent > floor);
        if served > floor && self.spent.len() < MOST_SPENT {
            self.spent.insert(name.clone(), served);
        }
    }

    /// A job that was served has used another share than was expected.
    fn correct(&mut self, name: &LaneName, expected: u64, used: u64) {
        let corrected =
            |served: u64| served.saturating_sub(expected.max(1)).saturating_add(used.max(1));
        if let Some(spent) = self.spent.get_mut(name) {
            *spent = corrected(*spent);
        }
        let Some(lane) = self.lanes.get(name) else { return };
        let (state, served) = (lane.state, lane.served);
        if state == LaneState::Parked {
            self.parked[class(name.0)].remove(&(served, name.1.clone()));
        } else if state == LaneState::Ready {
            self.ready[class(name.0)].remove(&(served, name.1.clone()));
        }
        let turn = (corrected(served), name.1.clone());
        if let Some(lane) = self.lanes.get_mut(name) {
            lane.served = turn.0;
        }
        if state == LaneState::Parked {
            self.parked[class(name.0)].insert(turn);
        } else if state == LaneState::Ready {
            self.ready[class(name.0)].insert(turn);
        }
    }

    /// Jobs that a new one of this priority waits for, as a rule.
    pub(super) fn ahead_of(&self, priority: Priority) -> usize {
        match priority {
            Priority::Interactive => self.waiting_at(Priority::Interactive),
            Priority::Batch => self.waiting,
        }
    }

    /// The lane to ask about next: interactive ones first, unless batch has been passed over long enough; among them
    /// the one that was served longest ago. A batch lane is not asked about while an interactive one is being decided.
    fn next(&self, interactive_per_batch: u32) -> Option<LaneName> {
        let batch_turn = self.since_batch >= interactive_per_batch;
        let batch = || self.ready[1].first().map(|(_, tenant)| (Priority::Batch, tenant.clone()));
        let interactive =
            || self.ready[0].first().map(|(_, tenant)| (Priority::Interactive, tenant.clone()));
        if batch_turn {
            if self.asked[1] > 0 {
                return None;
            }
            return batch().or_else(interactive);
        }
        interactive().or_else(|| if self.asked[0] > 0 { None } else { batch() })
    }

    /// Wakes one parked lane: the first in the order of service, after `after` where that is given.
    fn offer(&mut self, after: Option<(LaneName, u64)>, interactive_per_batch: u32) -> bool {
        let batch_turn = self.since_batch >= interactive_per_batch && !self.parked[1].is_empty();
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
            let found =
                self.parked[class(priority)].range((from, Bound::Unbounded)).next().cloned();
            if let Some((_, tenant)) = found {
                self.set(&(priority, tenant), LaneState::Ready);
                return true;
            }
        }
        false
    }

    fn wake_all(&mut self) {
        for priority in Priority::ALL {
            for (_, tenant) in std::mem::take(&mut self.parked[class(priority)]) {
                self.set(&(priority, tenant), LaneState::Ready);
            }
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    fn waiting_at(&self, priority: Priority) -> usize {
        let lanes = self.lanes.iter().filter(|((its, _), _)| *its == priority);
        lanes.map(|(_, lane)| lane.jobs.len()).sum()
    }
}

/// Where a job waits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneId {
    pub(super) model: ModelRef,
    pub(super) priority: Priority,
    pub(super) tenant: Option<TenantId>,
}

impl LaneId {
    fn name(&self) -> LaneName {
        (self.priority, self.tenant.clone())
    }
}

#[derive(Debug, Default)]
pub(super) struct Lanes {
    models: BTreeMap<ModelRef, ModelQueue>,
    asked: BTreeMap<Ticket, (LaneId, JobId)>,
    waiting: usize,
}

impl Lanes {
    pub(super) fn push(&mut self, lane: &LaneId, place: Place, since: Time) {
        self.models.entry(lane.model.clone()).or_default().push(lane.name(), place, since);
        self.waiting += 1;
    }

    /// Takes a job out, because it was given a slot (`served`, with the share that it costs) or for another reason.
    pub(super) fn remove(&mut self, lane: &LaneId, place: &Place, served: Option<u64>) {
        let Some(queue) = self.models.get_mut(&lane.model) else {
            return;
        };
        let question = match queue.lanes.get(&lane.name()).map(|lane| lane.state) {
            Some(LaneState::Asked(ticket)) => {
                self.asked.get(&ticket).map(|(_, job)| (ticket, *job))
            }
            _ => None,
        };
        let voided = question
            .filter(|(_, job)| *job == place.2)
            .map(|(ticket, _)| self.asked.remove(&ticket));
        if queue.remove(&lane.name(), place, served, voided.is_some()) {
            self.waiting -= 1;
        }
        if queue.waiting == 0 {
            self.models.remove(&lane.model);
        }
    }

    /// A job of this lane that was served has used another share than was expected.
    pub(super) fn correct(&mut self, lane: &LaneId, expected: u64, used: u64) {
        if let Some(queue) = self.models.get_mut(&lane.model) {
            queue.correct(&lane.name(), expected, used);
        }
    }

    /// The next question about this model, if there is one to ask.
    pub(super) fn ask(
        &mut self,
        model: &ModelRef,
        interactive_per_batch: u32,
        ticket: Ticket,
    ) -> Option<(LaneId, JobId)> {
        let queue = self.models.get_mut(model)?;
        let name = queue.next(interactive_per_batch)?;
        let job = queue.lanes.get(&name)?.jobs.first_key_value()?.0.2;
        queue.ask(&name, ticket);
        let lane = LaneId { model: model.clone(), priority: name.0, tenant: name.1 };
        self.asked.insert(ticket, (lane.clone(), job));
        Some((lane, job))
    }

    /// One more question about a job that waits in this lane; says whether it does.
    pub(super) fn ask_about(&mut self, lane: &LaneId, job: JobId, ticket: Ticket) -> bool {
        let Some(queue) = self.models.get_mut(&lane.model) else {
            return false;
        };
        queue.ask(&lane.name(), ticket);
        self.asked.insert(ticket, (lane.clone(), job));
        true
    }

    /// Takes the question back: it is answered. `None` where it is no longer of interest.
    pub(super) fn answered(&mut self, ticket: Ticket) -> Option<(LaneId, JobId)> {
        let (lane, job) = self.asked.remove(&ticket)?;
        self.models.get_mut(&lane.model)?.set(&lane.name(), LaneState::Ready);
        Some((lane, job))
    }

    /// An answer did not fit. Counts how many in a row.
    pub(super) fn missed(&mut self, lane: &LaneId) -> u32 {
        let lane =
            self.models.get_mut(&lane.model).and_then(|queue| queue.lanes.get_mut(&lane.name()));
        lane.map_or(0, |lane| {
            lane.misses += 1;
            lane.misses
        })
    }

    /// The head of this lane has to wait; or is to be asked about once more, where something changed since it was.
    pub(super) fn park(&mut self, lane: &LaneId) {
        let Some(queue) = self.models.get_mut(&lane.model) else {
            return;
        };
        let Some(waiting) = queue.lanes.get_mut(&lane.name()) else {
            return;
        };
        waiting.misses = 0;
        if waiting.asked_at == queue.changes {
            queue.set(&lane.name(), LaneState::Parked);
        }
    }

    /// Something changed that questions about this model may not have seen.
    pub(super) fn changed(&mut self, model: &ModelRef) {
        if let Some(queue) = self.models.get_mut(model) {
            queue.changes += 1;
        }
    }

    /// Offers a free slot to the first parked lane of the model, or to the first after one that did not want it.
    pub(super) fn offer(
        &mut self,
        model: &ModelRef,
        after: Option<&LaneId>,
        interactive_per_batch: u32,
    ) -> bool {
        let Some(queue) = self.models.get_mut(model) else {
            return false;
        };
        let after = after.and_then(|lane| {
            let served = queue.lanes.get(&lane.name())?.served;
            Some((lane.name(), served))
        });
        queue.offer(after, interactive_per_batch)
    }

    pub(super) fn wake_model(&mut self, model: &ModelRef) {
        if let Some(queue) = self.models.get_mut(model) {
            queue.changes += 1;
            queue.wake_all();
        }
    }

    pub(super) fn models(&self) -> Vec<ModelRef> {
        self.models.keys().cloned().collect()
    }

    pub(super) fn model(&self, model: &ModelRef) -> Option<&ModelQueue> {
        self.models.get(model)
    }

    pub(super) fn model_mut(&mut self, model: &ModelRef) -> Option<&mut ModelQueue> {
        self.models.get_mut(model)
    }

    /// How many jobs of this model and tenant wait, and since when the first of them does.
    pub(super) fn depth(
        &self,
        model: &ModelRef,
        tenant: &Option<TenantId>,
    ) -> Option<(usize, Time)> {
        let queue = self.models.get(model)?;
        let lanes = Priority::ALL
            .into_iter()
            .filter_map(|priority| queue.lanes.get(&(priority, tenant.clone())));
        lanes.fold(None, |all, lane| {
            let oldest = *lane.jobs.first_key_value()?.1;
            let (depth, since) = all.unwrap_or((0, oldest));
            Some((depth + lane.jobs.len(), since.min(oldest)))
        })
    }

    /// How many jobs of its lane go before this one.
    pub(super) fn ahead(&self, lane: &LaneId, place: &Place) -> Option<usize> {
        let lane = self.models.get(&lane.model)?.lanes.get(&lane.name())?;
        lane.jobs.contains_key(place).then(|| lane.jobs.range(..*place).count())
    }

    /// How many jobs of this priority wait. Costs a look at every lane.
    pub(super) fn waiting_at(&self, priority: Priority) -> usize {
        self.models.values().map(|queue| queue.waiting_at(priority)).sum()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn questions(&self) -> usize {
        self.asked.len()
    }
}

#[cfg(test)]
mod tests;
