//! The queues. There is one lane for each model, tenant and priority, first in, first out. At most one question about a
//! lane is out at a time, so that every answer is applied before the next question.
//!
//! A lane is parked if its head must wait. It costs nothing until something changes: a slot of its model is offered to
//! the parked lanes one by one, the one served longest ago first; a change of the fleet wakes them all. So a job's cost
//! does not depend on how many others wait.

mod fair_share;
mod ordered_list;
mod queue;

use std::collections::{BTreeMap, BTreeSet};

use super::policy_breaker::PolicyGeneration;
use crate::{
    id::{JobId, TenantId, Ticket},
    job::Job,
    model_ref::ModelRef,
    priority::Priority,
    time::Time,
};

pub(super) use queue::ModelQueue;
use queue::{LaneName, LaneState};

/// A job's key in its lane: its rank, its order of arrival, its id.
pub(super) type QueueKey = (i64, u64, JobId);

/// The share units of one token, so that the division by a weight loses little.
const SHARE: u64 = 1_000_000;

/// The share units of a number of tokens; at least 1.
pub(super) fn share(tokens: u64, weight: u32) -> u64 {
    (tokens.saturating_mul(SHARE) / u64::from(weight.max(1))).max(1)
}

/// The index of a priority in arrays by priority.
pub(super) fn class(priority: Priority) -> usize {
    match priority {
        Priority::Interactive => 0,
        Priority::Batch => 1,
    }
}

/// The lane where a job waits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneId {
    pub(super) model: ModelRef,
    pub(super) priority: Priority,
    pub(super) tenant: Option<TenantId>,
}

impl LaneId {
    pub(super) fn of(job: &Job) -> Self {
        Self { model: job.model.clone(), priority: job.priority, tenant: job.tenant.clone() }
    }

    fn name(&self) -> LaneName {
        (self.priority, self.tenant.clone())
    }
}

/// An open question about where a job goes.
#[derive(Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) lane: LaneId,
    pub(super) job: JobId,
    /// The policy that is asked; `None` if it is the built-in one.
    pub(super) policy: Option<PolicyGeneration>,
}

#[derive(Debug, Default)]
pub(super) struct Lanes {
    models: BTreeMap<ModelRef, ModelQueue>,
    asked: BTreeMap<Ticket, Asked>,
    /// Jobs that wait, by priority and by tenant.
    waiting: [usize; 2],
    held: BTreeMap<Option<TenantId>, usize>,
    /// Models whose lanes may have a question to ask.
    pub(super) wake: BTreeSet<ModelRef>,
    /// Jobs that wait for a retry, by priority.
    pub(super) in_backoff: [BTreeSet<JobId>; 2],
}

impl Lanes {
    pub(super) fn push(&mut self, lane: &LaneId, key: QueueKey, since: Time) {
        self.models.entry(lane.model.clone()).or_default().push(lane.name(), key, since);
        self.waiting[class(lane.priority)] += 1;
        match self.held.get_mut(&lane.tenant) {
            Some(held) => *held += 1,
            None => _ = self.held.insert(lane.tenant.clone(), 1),
        }
    }

    /// Takes a job out, because it was given a slot (`served`, with the share that it costs) or for another reason.
    pub(super) fn remove(&mut self, lane: &LaneId, key: &QueueKey, served: Option<u64>) {
        let Some(queue) = self.models.get_mut(&lane.model) else {
            return;
        };
        let question = match queue.lanes.get(&lane.name()).map(|lane| lane.state) {
            Some(LaneState::Asked(ticket)) => {
                self.asked.get(&ticket).map(|asked| (ticket, asked.job))
            }
            _ => None,
        };
        let voided =
            question.filter(|(_, job)| *job == key.2).map(|(ticket, _)| self.asked.remove(&ticket));
        if queue.remove(&lane.name(), key, served, voided.is_some()) {
            self.waiting[class(lane.priority)] -= 1;
            if let Some(held) = self.held.get_mut(&lane.tenant) {
                *held -= 1;
                if *held == 0 {
                    self.held.remove(&lane.tenant);
                }
            }
        }
        if queue.waiting() == 0 {
            self.models.remove(&lane.model);
        }
    }

    /// Corrects the share of this lane: a served job has used another share than expected.
    pub(super) fn correct(&mut self, lane: &LaneId, expected: u64, used: u64) {
        if let Some(queue) = self.models.get_mut(&lane.model) {
            queue.correct(&lane.name(), expected, used);
        }
    }

    /// The next question about this model, if there is one.
    pub(super) fn ask(
        &mut self,
        model: &ModelRef,
        interactive_per_batch: u32,
        ticket: Ticket,
        policy: Option<PolicyGeneration>,
    ) -> Option<(LaneId, JobId)> {
        let queue = self.models.get_mut(model)?;
        let name = queue.next(interactive_per_batch)?;
        let job = queue.lanes.get(&name)?.jobs.first()?.0.2;
        queue.ask(&name, ticket);
        let lane = LaneId { model: model.clone(), priority: name.0, tenant: name.1 };
        self.asked.insert(ticket, Asked { lane: lane.clone(), job, policy });
        Some((lane, job))
    }

    /// Asks the built-in policy once more about a job in this lane. Returns true if the job does wait.
    pub(super) fn ask_about(&mut self, lane: &LaneId, job: JobId, ticket: Ticket) -> bool {
        let Some(queue) = self.models.get_mut(&lane.model) else {
            return false;
        };
        queue.ask(&lane.name(), ticket);
        self.asked.insert(ticket, Asked { lane: lane.clone(), job, policy: None });
        true
    }

    /// Closes a question. `None` if it is no longer of interest.
    pub(super) fn answered(&mut self, ticket: Ticket) -> Option<Asked> {
        let asked = self.asked.remove(&ticket)?;
        self.models.get_mut(&asked.lane.model)?.set(&asked.lane.name(), LaneState::Ready);
        Some(asked)
    }

    /// Counts an answer that did not fit, and returns how many did not in a row.
    pub(super) fn missed(&mut self, lane: &LaneId) -> u32 {
        let lane =
            self.models.get_mut(&lane.model).and_then(|queue| queue.lanes.get_mut(&lane.name()));
        lane.map_or(0, |lane| {
            lane.misses += 1;
            lane.misses
        })
    }

    /// Parks the lane: its head must wait. If something changed since it was asked about, it is asked about again
    /// instead.
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

    /// Notes a change that open questions about this model may not have seen.
    pub(super) fn changed(&mut self, model: &ModelRef) {
        if let Some(queue) = self.models.get_mut(model) {
            queue.changes += 1;
        }
    }

    /// Offers a free slot to the first parked lane of the model, or to the first one after a lane that did not use it.
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

    /// The number of waiting jobs of this model and tenant, and since when the first of them waits.
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
            let (_, oldest) = *lane.jobs.first()?;
            let (depth, since) = all.unwrap_or((0, oldest));
            Some((depth + lane.jobs.len(), since.min(oldest)))
        })
    }

    /// The number of jobs of its lane ahead of this one.
    pub(super) fn ahead(&self, lane: &LaneId, key: &QueueKey) -> Option<usize> {
        let lane = self.models.get(&lane.model)?.lanes.get(&lane.name())?;
        lane.jobs.contains(key).then(|| lane.jobs.before(key))
    }

    /// The number of jobs of this lane ahead of a new one of this rank.
    pub(super) fn ahead_of_new(&self, lane: &LaneId, rank: i64) -> usize {
        let lane = self.models.get(&lane.model).and_then(|queue| queue.lanes.get(&lane.name()));
        // Order numbers only grow, and none is as large as this.
        lane.map_or(0, |lane| lane.jobs.before(&(rank, u64::MAX, JobId::from_random_bits(0))))
    }

    /// The number of waiting jobs of this priority.
    pub(super) fn waiting_at(&self, priority: Priority) -> usize {
        self.waiting[class(priority)]
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.iter().sum()
    }

    /// The number of waiting jobs of this tenant.
    pub(super) fn held_by(&self, tenant: &Option<TenantId>) -> usize {
        self.held.get(tenant).copied().unwrap_or(0)
    }

    /// The number of tenants with waiting jobs; jobs without a tenant count as one tenant's.
    pub(super) fn holders(&self) -> usize {
        self.held.len()
    }

    pub(super) fn questions(&self) -> usize {
        self.asked.len()
    }
}

#[cfg(test)]
mod tests;
