//! Questions to the policy, and what is made of its answers. Nothing an answer says is taken on trust.

use super::*;
use crate::{Ask, ErrorKind, Placement, Result, Ticket, WorkerState};

/// Answers in a row that do not fit before the built-in policy is asked, and then before the lane is parked.
const MISSES: u32 = 3;

impl Engine {
    /// Asks everything there is to ask about this model.
    pub(super) fn pump(&mut self, now: Now, model: &ModelRef, out: &mut Out) {
        loop {
            let ticket = Ticket(self.next_number + 1);
            let Some((_, id)) = self.lanes.ask(model, self.settings.interactive_per_batch, ticket)
            else {
                return;
            };
            self.next_number += 1;
            self.put_question(now, ticket, id, false, out);
        }
    }

    fn put_question(&mut self, now: Now, ticket: Ticket, id: JobId, fallback: bool, out: &mut Out) {
        let random = self.chance.next();
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
        out.push(Effect::Place { ticket, ask, fallback });
    }

    pub(super) fn placed(
        &mut self,
        now: Now,
        ticket: Ticket,
        answer: Result<Placement>,
        out: &mut Out,
    ) {
        let Some((lane, id)) = self.lanes.answered(ticket) else {
            return out.push(Effect::Note(Note::StaleAnswer(ticket)));
        };
        self.wake.insert(lane.model.clone());
        match answer {
            Ok(Placement::Assign(worker)) => match self.check_assign(id, worker) {
                Ok(()) => {
                    self.grant(now, id, worker, out);
                    self.offer_slot(&lane.model, None);
                }
                Err(why) => self.missed(now, ticket, &lane, id, why, out),
            },
            Ok(Placement::Spawn { hive, spec, evict }) => {
                if self.is_covered(&lane.model)
                    || self.is_cooling(now, &lane.model, &hive)
                    || self.operators.is_removing(&hive, &lane.model)
                {
                    out.push(Effect::Note(Note::SpawnSuppressed(lane.model.clone())));
                    return self.wait(&lane);
                }
                match self.check_spawn(id, &hive, &spec, &evict) {
                    // They are there to make room in a while.
                    Ok(()) if evict.iter().any(|id| !self.is_evictable(*id)) => self.wait(&lane),
                    Ok(()) => {
                        self.lanes.park(&lane);
                        let is_started = self.spawn(now, hive, spec, evict, out);
                        if let Some(entry) = self.jobs.get_mut(&id) {
                            entry.spawns += u32::from(is_started);
                        }
                    }
                    Err(why) => self.missed(now, ticket, &lane, id, why, out),
                }
            }
            Ok(Placement::Wait) => self.wait(&lane),
            Ok(Placement::Reject(error)) => self.end(now, id, Outcome::Failed(error), out),
            Err(error) => {
                // The policy itself is broken: straight to the built-in one, and if that cannot either, wait.
                if self.lanes.missed(&lane) > MISSES {
                    return self.wait(&lane);
                }
                out.push(Effect::Note(Note::PolicyFault(error)));
                self.ask_fallback(now, id, &lane, out);
            }
        }
    }

    /// The answer does not fit the state. It may have been overtaken by events, so the question is put again; an
    /// answer that never fits is a fault of the policy.
    fn missed(
        &mut self,
        now: Now,
        ticket: Ticket,
        lane: &LaneId,
        id: JobId,
        why: Error,
        out: &mut Out,
    ) {
        match self.lanes.missed(lane) {
            misses if misses < MISSES => out.push(Effect::Note(Note::StaleAnswer(ticket))),
            MISSES => {
                out.push(Effect::Note(Note::PolicyFault(why)));
                self.ask_fallback(now, id, lane, out);
            }
            _ => self.wait(lane),
        }
    }

    fn ask_fallback(&mut self, now: Now, id: JobId, lane: &LaneId, out: &mut Out) {
        let ticket = Ticket(self.number());
        if self.lanes.ask_about(lane, id, ticket) {
            self.put_question(now, ticket, id, true, out);
        }
    }

    /// The lane's head has to wait; a slot that it does not want is offered to the next.
    fn wait(&mut self, lane: &LaneId) {
        self.lanes.park(lane);
        if self.view.with_model(&lane.model).next().is_none() {
            self.starved.insert(lane.model.clone());
        }
        self.offer_slot(&lane.model, Some(lane));
    }

    /// Where a slot of this model is free, one more parked lane is asked whether it wants it.
    pub(super) fn offer_slot(&mut self, model: &ModelRef, after: Option<&LaneId>) {
        if self.view.available(model).next().is_some()
            && self.lanes.offer(model, after, self.settings.interactive_per_batch)
        {
            self.wake.insert(model.clone());
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
            return fault("it has another model");
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
        // A policy that does not heed the question would have the hive refuse again, without end.
        let queue = self.lanes.model(&spec.model);
        if let Some(why) = queue.and_then(|queue| queue.refused.get(hive)) {
            return fault(format!("it has refused to start this model: {why}"));
        }
        if spec.slots == 0 {
            return fault("slots is 0; allowed is at least 1".into());
        }
        if let Some(device) =
            spec.devices.iter().find(|index| !view.devices.iter().any(|d| d.index == **index))
        {
            return fault(format!("it has no device {device}"));
        }
        if entry.spawns > self.settings.retries {
            return fault(format!(
                "{} workers were started for this job and none fitted",
                entry.spawns
            ));
        }
        if let Some(worker) = evict.iter().find(|id| !self.is_stoppable(**id, hive)) {
            return fault(format!("worker {worker} is not an idle, unpinned one of this hive"));
        }
        self.has_no_room(hive, spec, evict).map_or(Ok(()), fault)
    }

    fn is_evictable(&self, worker: WorkerId) -> bool {
        self.view.worker(worker).is_some_and(|view| view.is_evictable())
    }

    /// Is enough being started for everything that waits for this model? Starting a worker once must not hang on the
    /// policy.
    fn is_covered(&self, model: &ModelRef) -> bool {
        let (workers, downloads) = (self.spawns.slots(model), self.downloads.slots(model));
        let waiting = self.lanes.model(model).map_or(0, lanes::ModelQueue::waiting);
        workers + downloads >= waiting
    }

    /// Did the hive fail to start this model a moment ago?
    pub(super) fn is_cooling(&self, now: Now, model: &ModelRef, hive: &HiveId) -> bool {
        let failed = self.lanes.model(model).and_then(|queue| queue.failed_starts.get(hive));
        failed.is_some_and(|(_, until)| now.at < *until)
    }
}
