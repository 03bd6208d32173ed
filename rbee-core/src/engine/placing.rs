//! Questions to the policy, and the handling of its answers. The engine checks every answer against its own state.

use super::{lanes::Asked, policy_breaker::PolicyFunction, *};
use crate::{
    cluster::WorkerState,
    error::{ErrorKind, Result},
    id::Ticket,
    scheduler::{Ask, Placement},
};

/// Answers in a row that do not fit before the built-in policy is asked, and then before the lane is parked.
const MISSES: u32 = 3;
/// The error for an answer to another question.
const NO_PLACEMENT: &str = "asked where a job goes, the policy answered whether to admit it";

impl Engine {
    /// Asks every question that is open about this model.
    pub(super) fn pump(&mut self, now: Now, model: &ModelRef, out: &mut Out) {
        loop {
            let (ticket, policy) = (Ticket(self.sequence.number + 1), self.policy.breaker.places());
            let most = self.config.settings.interactive_per_batch;
            let Some((_, id)) = self.lanes.ask(model, most, ticket, policy) else {
                return;
            };
            self.sequence.number += 1;
            let decider = policy.map_or(Decider::BuiltIn, |_| Decider::Policy);
            self.put_question(now, ticket, id, decider, out);
        }
    }

    fn put_question(
        &mut self,
        now: Now,
        ticket: Ticket,
        id: JobId,
        decider: Decider,
        out: &mut Out,
    ) {
        let random = self.random.rng.next();
        let Some(entry) = self.jobs.get(&id) else {
            return;
        };
        let refused = self
            .lanes
            .model(&entry.job.model)
            .map(|queue| queue.refused.clone())
            .unwrap_or_default();
        let ask = Ask {
            job: entry.job.clone(),
            now,
            random,
            waited: entry.waited_before + (now.at - entry.submitted),
            attempts: entry.attempts,
            avoid: entry.avoid.clone(),
            must_match: entry.must_match.clone(),
            refused,
        };
        out.push(Effect::Consult { ticket, question: Question::Place(decider), ask });
    }

    /// A question is answered, or never will be.
    pub(super) fn advised(&mut self, now: Now, ticket: Ticket, advice: Advice, out: &mut Out) {
        if let Some(candidate) = self.policy.admissions.answered(ticket) {
            return self.admission_advised(now, candidate, advice, out);
        }
        let Some(asked) = self.lanes.answered(ticket) else {
            return self.came_to_nothing(ticket, out);
        };
        self.lanes.wake.insert(asked.lane.model.clone());
        match advice {
            Advice::Placement(placement) => match self.heed(now, &asked, placement, out) {
                Ok(()) => {
                    if let Some(policy) = asked.policy {
                        self.policy.breaker.did_well(policy, PolicyFunction::Place);
                    }
                }
                Err(why) => self.missed(now, ticket, &asked, why, out),
            },
            Advice::Failed(error) => self.placement_failed(now, &asked, error, out),
            Advice::Admission(_) => {
                let error = Error::new(ErrorKind::Internal, NO_PLACEMENT);
                self.placement_failed(now, &asked, error, out);
            }
            Advice::NoTime => match asked.policy {
                Some(policy) => {
                    self.policy.breaker.had_no_time(policy, out);
                    self.ask_built_in(now, &asked, out);
                }
                None => self.wait(&asked.lane),
            },
        }
    }

    /// Carries out an answer. The error says why it does not fit the current state.
    fn heed(
        &mut self,
        now: Now,
        Asked { lane, job: id, .. }: &Asked,
        placement: Placement,
        out: &mut Out,
    ) -> Result<()> {
        match placement {
            Placement::Assign(worker) => {
                self.check_assign(*id, worker)?;
                self.grant(now, *id, worker, out);
                self.offer_slot(&lane.model, None);
            }
            Placement::Spawn { hive, spec, evict } => {
                if self.is_covered(&lane.model)
                    || self.is_cooling(now, &lane.model, &hive)
                    || self.operators.is_removing(&hive, &lane.model)
                {
                    out.push(Effect::Note(Note::SpawnSuppressed(lane.model.clone())));
                    self.wait(lane);
                    return Ok(());
                }
                self.check_spawn(*id, &hive, &spec, &evict)?;
                // A worker that is too new for eviction, or in use, stays.
                if evict.iter().any(|id| !self.is_evictable(*id)) {
                    self.wait(lane);
                    return Ok(());
                }
                self.lanes.park(lane);
                let is_started = self.spawn(now, hive, spec, evict, out);
                if let Some(entry) = self.jobs.get_mut(id) {
                    entry.spawns += u32::from(is_started);
                }
            }
            Placement::Wait => self.wait(lane),
            Placement::Reject(error) => self.end(now, *id, Outcome::Failed(error), out),
        }
        Ok(())
    }

    /// There is no answer: the built-in policy is asked at once, and if it has none either, the job waits.
    fn placement_failed(&mut self, now: Now, asked: &Asked, error: Error, out: &mut Out) {
        let misses = self.lanes.missed(&asked.lane);
        if misses <= MISSES {
            out.push(Effect::Note(Note::PolicyFault(error.clone())));
        }
        if let Some(policy) = asked.policy {
            self.policy.breaker.failed(now, policy, PolicyFunction::Place, &error, out);
        }
        match misses {
            misses if misses > MISSES => self.wait(&asked.lane),
            _ => self.ask_built_in(now, asked, out),
        }
    }

    /// The answer does not fit the state. The state may have changed in the meantime, so the question is asked again;
    /// an answer that never fits is a fault of the policy.
    fn missed(&mut self, now: Now, ticket: Ticket, asked: &Asked, why: Error, out: &mut Out) {
        match self.lanes.missed(&asked.lane) {
            misses if misses < MISSES => self.came_to_nothing(ticket, out),
            MISSES => {
                out.push(Effect::Note(Note::PolicyFault(why.clone())));
                out.push(Effect::Unheeded { ticket });
                if let Some(policy) = asked.policy {
                    self.policy.breaker.failed(now, policy, PolicyFunction::Place, &why, out);
                }
                self.ask_built_in(now, asked, out);
            }
            _ => {
                out.push(Effect::Unheeded { ticket });
                self.wait(&asked.lane);
            }
        }
    }

    fn came_to_nothing(&mut self, ticket: Ticket, out: &mut Out) {
        out.push(Effect::Note(Note::StaleAnswer(ticket)));
        out.push(Effect::Unheeded { ticket });
    }

    fn ask_built_in(&mut self, now: Now, Asked { lane, job, .. }: &Asked, out: &mut Out) {
        let ticket = Ticket(self.number());
        if self.lanes.ask_about(lane, *job, ticket) {
            self.put_question(now, ticket, *job, Decider::BuiltIn, out);
        }
    }

    /// Makes the lane's head wait, and offers a slot that it does not use to the next lane.
    fn wait(&mut self, lane: &LaneId) {
        self.lanes.park(lane);
        if self.view.with_model(&lane.model).next().is_none() {
            self.memory.blocked.insert(lane.model.clone());
        }
        self.offer_slot(&lane.model, Some(lane));
    }

    /// If a slot of this model is free, asks about one more parked lane.
    pub(super) fn offer_slot(&mut self, model: &ModelRef, after: Option<&LaneId>) {
        if self.view.available(model).next().is_some()
            && self.lanes.offer(model, after, self.config.settings.interactive_per_batch)
        {
            self.lanes.wake.insert(model.clone());
        }
    }

    fn check_assign(&self, id: JobId, worker: WorkerId) -> Result<()> {
        let fault = |why: &str| {
            Err(Error::new(ErrorKind::Internal, format!("cannot assign worker {worker}: {why}")))
        };
        let (Some(entry), Some(view)) = (self.jobs.get(&id), self.view.worker(worker)) else {
            return fault("there is no such worker");
        };
        if view.info.model != entry.job.model {
            return fault("it has another model loaded");
        }
        if view.state != WorkerState::Ready || view.free_slots() == 0 {
            return fault("it has no free slot");
        }
        if entry.must_match.as_ref().is_some_and(|numerics| *numerics != view.info.numerics) {
            return fault("the stream has begun on a worker with other numerics");
        }
        Ok(())
    }

    fn check_spawn(
        &self,
        id: JobId,
        hive: &HiveId,
        spec: &WorkerSpec,
        evict: &[WorkerId],
    ) -> Result<()> {
        let fault = |why: String| {
            Err(Error::new(ErrorKind::Internal, format!("cannot spawn on hive {hive}: {why}")))
        };
        let Some(entry) = self.jobs.get(&id) else {
            return fault("the job is gone".into());
        };
        let Some(view) = self.view.hive(hive).filter(|view| view.takes_workers()) else {
            return fault("it is not online, or is being drained".into());
        };
        if spec.model != entry.job.model {
            return fault(format!("the job wants model {}, not {}", entry.job.model, spec.model));
        }
        // A policy that ignores the question would make the hive refuse again, without end.
        let queue = self.lanes.model(&spec.model);
        if let Some(why) = queue.and_then(|queue| queue.refused.get(hive)) {
            return fault(format!("it has refused to start this model: {why}"));
        }
        if let Some(why) = self.view.unreadable(view, &spec.model) {
            return fault(format!("it cannot read the model: {why}"));
        }
        if spec.slots == 0 {
            return fault("slots is 0; allowed is at least 1".into());
        }
        if let Some(device) =
            spec.devices.iter().find(|index| !view.devices.iter().any(|d| d.index == **index))
        {
            return fault(format!("it has no device {device}"));
        }
        if entry.spawns > self.config.settings.retries {
            return fault(format!(
                "{} workers were started for this job and none fitted",
                entry.spawns
            ));
        }
        if let Some(worker) = evict.iter().find(|id| !self.is_stoppable(**id, hive)) {
            return fault(format!("worker {worker} is not an idle, unpinned worker of this hive"));
        }
        self.has_no_room(hive, spec, evict).map_or(Ok(()), fault)
    }

    fn is_evictable(&self, worker: WorkerId) -> bool {
        self.view.worker(worker).is_some_and(|view| view.is_evictable())
    }

    /// True if enough workers are being started for all jobs that wait for this model. That a worker is started only
    /// once must not depend on the policy.
    fn is_covered(&self, model: &ModelRef) -> bool {
        let (workers, downloads) = (self.spawns.slots(model), self.downloads.slots(model));
        let waiting = self.lanes.model(model).map_or(0, lanes::ModelQueue::waiting);
        workers + downloads >= waiting
    }

    /// True if the hive failed to start this model recently.
    pub(super) fn is_cooling(&self, now: Now, model: &ModelRef, hive: &HiveId) -> bool {
        let failed = self.lanes.model(model).and_then(|queue| queue.failed_starts.get(hive));
        failed.is_some_and(|(_, until)| now.at < *until)
    }
}
