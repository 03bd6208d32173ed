//! The jobs of a replay: their runs on workers, and their ends.

use super::*;
use crate::{
    engine::{AttemptEnd, AttemptResult},
    event::{Finish, Outcome, Usage},
    id::LeaseId,
    job::Job,
    sim::trace::share,
};

impl Running<'_> {
    /// The load of this worker; created if there is none yet.
    pub(super) fn load_of(&mut self, worker: &WorkerInfo, started: bool) -> &mut WorkerLoad {
        self.report.workers.entry(worker.id).or_insert_with(|| WorkerLoad {
            hive: worker.hive.clone(),
            model: worker.model.clone(),
            slots: worker.slots,
            started,
            jobs: 0,
            busy_ms: 0,
        })
    }

    pub(super) fn start(&mut self, lease: LeaseId, job: &Job, worker: WorkerId) {
        self.hash(2, lease.0);
        let Some(live) = self.live.get_mut(&job.id) else {
            return self.broken(format!("job {} was started after its end", job.id));
        };
        let arrival = &self.plan.trace.arrivals[live.arrival];
        let place = live.arrival;
        if !live.started {
            live.started = true;
            let wait = self.stage.now - (Time::default() + arrival.at);
            self.waits.add(wait);
            self.by_priority.entry(job.priority).or_default().add(wait);
            if let Some(tenant) = &job.tenant {
                self.by_tenant.entry(tenant.clone()).or_default().add(wait);
            }
        }
        let Some(hive) = self.stage.engine.view().worker(worker).map(|view| view.info.hive.clone())
        else {
            return self.broken(format!("job {} was given to a worker that is gone", job.id));
        };
        let machine = self.machines.get_mut(&hive);
        let Some(resident) = machine.and_then(|machine| machine.workers.get_mut(&worker)) else {
            return self.broken(format!("job {} was given to a worker that is gone", job.id));
        };
        resident.running += 1;
        if resident.running > resident.info.slots {
            return self.broken(format!("a slot of worker {worker} was granted twice"));
        }
        let covered = resident.warm.covered(&job.prefix);
        let spared = share(arrival.prefill(), covered as u64, job.prefix.len() as u64);
        self.saved += spared;
        self.report.prefixed += usize::from(!job.prefix.is_empty());
        self.report.prefix_hits += usize::from(covered > 0);
        self.report.prefix_keys += job.prefix.len() as u64;
        self.report.prefix_keys_warm += covered as u64;
        let info = resident.info.clone();
        self.load_of(&info, true).jobs += 1;
        let began = self.stage.now;
        let ends = self.after(arrival.service - spared, Event::AttemptEnds(lease));
        self.attempts.insert(lease, Attempt { arrival: place, worker, hive, began, ends });
    }

    /// The attempt leaves its worker.
    pub(super) fn leave(&mut self, lease: LeaseId) -> Option<Attempt> {
        let attempt = self.attempts.remove(&lease)?;
        let machine = self.machines.get_mut(&attempt.hive)?;
        if let Some(resident) = machine.workers.get_mut(&attempt.worker) {
            resident.running = resident.running.saturating_sub(1);
        }
        if let Some(load) = self.report.workers.get_mut(&attempt.worker) {
            load.busy_ms += (self.stage.now - attempt.began).as_micros() as u64;
        }
        Some(attempt)
    }

    pub(super) fn attempt_ends(&mut self, lease: LeaseId) {
        let Some(attempt) = self.leave(lease) else {
            return;
        };
        let arrival = &self.plan.trace.arrivals[attempt.arrival];
        let (worker, hive) = (attempt.worker, attempt.hive);
        let machine = self.machines.get_mut(&hive);
        if let Some(resident) = machine.and_then(|machine| machine.workers.get_mut(&worker))
            && resident.warm.touch(&arrival.job.prefix)
            && !resident.is_reporting
        {
            // The queen gets it with the next report that it asks for, as from a real hive.
            resident.is_reporting = true;
            self.after(self.plan.settings.probe_interval, Event::Health { worker, hive });
        }
        let usage = Usage {
            prompt_tokens: arrival.job.prompt_tokens,
            completion_tokens: arrival.tokens,
            ..Usage::default()
        };
        let result = AttemptResult::Done { finish: Finish::Stop, usage, stop_text: None };
        let end = AttemptEnd { result, produced: arrival.tokens, resumable: true };
        self.inputs.push_back(Input::AttemptEnded { lease, end });
    }

    pub(super) fn finish(&mut self, job: JobId, outcome: &Outcome) {
        let Some(live) = self.live.remove(&job) else {
            return self.broken(format!("job {job} ended twice"));
        };
        self.hash(3, live.arrival as u64);
        match outcome {
            Outcome::Complete { .. } => self.report.completed += 1,
            Outcome::Failed(error) if live.started => count(&mut self.report.failed, error),
            Outcome::Failed(error) => count(&mut self.report.rejected, error),
            Outcome::Cancelled => self.broken(format!("job {job} was cancelled without a request")),
        }
    }
}
