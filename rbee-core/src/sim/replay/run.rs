//! Runs the engine, the machines and the clients of one replay from event to event.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    Replay, ReplayReport, WorkerLoad,
    machine::Machine,
    waits::{Collected, millis},
};
use crate::{
    engine::{
        Advice, AttemptEnd, AttemptResult, Command, Effect, HiveFact, Input, Note, Submission,
    },
    error::{Error, ErrorKind, Result},
    hive::HiveInfo,
    id::{Epoch, HiveId, JobId, LeaseId, TenantId, WorkerId},
    model_on_disk::ModelOnDisk,
    model_ref::ModelRef,
    priority::Priority,
    registry::TenantRecord,
    scheduler::Scheduler,
    sim::{
        recorded_run::EngineSetup,
        stage::{EventKey, Moment, Stage},
    },
    time::Time,
    worker::WorkerInfo,
};

mod effects;
mod jobs;

/// Steps that are allowed at one time for every job, worker and machine, and those that are allowed in any case. More
/// than any policy needs that does not loop.
const STEPS_EACH: u64 = 100;
const STEPS_ANYHOW: u64 = 10_000;

/// A planned event on a machine.
enum Event {
    AttemptEnds(LeaseId),
    Ready { worker: WorkerId, hive: HiveId },
    Stopped { worker: WorkerId, hive: HiveId },
    Downloaded { hive: HiveId, model: ModelOnDisk },
    Report(HiveId),
    Health { worker: WorkerId, hive: HiveId },
}

/// A job that has arrived and not ended.
struct Live {
    arrival: usize,
    started: bool,
}

/// A run on a worker.
struct Attempt {
    arrival: usize,
    worker: WorkerId,
    hive: HiveId,
    began: Time,
    ends: EventKey,
}

pub(super) struct Running<'a> {
    plan: &'a Replay,
    stage: Stage<'a, Event>,
    may_go_on: &'a dyn Fn() -> Result<()>,
    /// The number of machines, workers and tenants at the start.
    everybody: usize,
    /// Steps since the clock was advanced, and how many are allowed.
    steps_here: u64,
    most_here: u64,
    /// The indexes of the arrivals in the trace, the next one last.
    arrivals: Vec<usize>,
    /// Inputs that the engine has not got yet, and effects that are not carried out yet.
    inputs: VecDeque<Input>,
    effects: Vec<Effect>,
    machines: BTreeMap<HiveId, Machine>,
    /// The size of every model that any hive has, for downloads.
    sizes: BTreeMap<ModelRef, u64>,
    live: HashMap<JobId, Live>,
    attempts: HashMap<LeaseId, Attempt>,
    waits: Collected,
    by_priority: BTreeMap<Priority, Collected>,
    by_tenant: BTreeMap<TenantId, Collected>,
    saved: Duration,
    report: ReplayReport,
    /// Why the run cannot go on.
    trouble: Option<Error>,
}

impl<'a> Running<'a> {
    pub(super) fn new(
        plan: &'a Replay,
        scheduler: &'a dyn Scheduler,
        may_go_on: &'a dyn Fn() -> Result<()>,
    ) -> Self {
        let trace = &plan.trace.arrivals;
        let mut arrivals: Vec<_> = (0..trace.len()).collect();
        arrivals.sort_by_key(|place| std::cmp::Reverse((trace[*place].at, *place)));
        let mut sizes = BTreeMap::new();
        for (model, bytes) in plan.fleet.hives.iter().flat_map(|hive| &hive.models) {
            let most: &mut u64 = sizes.entry(model.clone()).or_default();
            *most = (*most).max(*bytes);
        }
        let mut settings = plan.settings.clone();
        let budgets = plan.fleet.hives.iter();
        let budgets = budgets.filter_map(|hive| Some((hive.id.to_string(), hive.memory_budget?)));
        settings.hive_memory.extend(budgets);
        let workers = plan.fleet.hives.iter().map(|hive| 1 + hive.workers.len());
        let setup = EngineSetup {
            settings,
            epoch: Epoch(1),
            seed: plan.seed,
            secret: 0,
            aliases: BTreeMap::new(),
            built_in: plan.built_in.clone(),
        };
        Self {
            plan,
            stage: Stage::new(setup, scheduler, plan.trace.start, None),
            may_go_on,
            everybody: plan.tenants.len() + workers.sum::<usize>(),
            steps_here: 0,
            most_here: 0,
            arrivals,
            inputs: VecDeque::new(),
            effects: Vec::new(),
            machines: BTreeMap::new(),
            sizes,
            live: HashMap::new(),
            attempts: HashMap::new(),
            waits: Collected::default(),
            by_priority: BTreeMap::new(),
            by_tenant: BTreeMap::new(),
            saved: Duration::ZERO,
            report: ReplayReport { jobs: trace.len(), ..ReplayReport::default() },
            trouble: None,
        }
    }

    pub(super) fn run_out(mut self) -> Result<ReplayReport> {
        let plan = self.plan;
        self.begin_moment();
        self.inputs.push_back(Input::PolicyChanged { admits: self.stage.scheduler.info().admits });
        for (id, limits) in &plan.tenants {
            let (id, limits) = (id.clone(), limits.clone());
            let record = TenantRecord { id, limits, keys: Vec::new(), used_tokens: 0 };
            self.command(Command::PutTenant(Box::new(record)));
        }
        self.settle();
        for hive in &plan.fleet.hives {
            self.machines.insert(hive.id.clone(), Machine::new(hive));
            let mut info = HiveInfo::http(hive.id.clone(), hive.id.as_str(), 0);
            info.labels = hive.labels.clone();
            self.fact(&hive.id, HiveFact::Added(Box::new(info)));
            if hive.online {
                self.take_report(&hive.id);
                for (place, worker) in hive.workers.iter().enumerate() {
                    self.load_of(&worker.info(hive, place), false);
                }
            }
            if hive.draining {
                self.command(Command::DrainHive(hive.id.clone(), true));
            }
            for (place, worker) in hive.workers.iter().enumerate().filter(|(_, w)| w.pinned) {
                self.command(Command::Pin(worker.info(hive, place).id, true));
            }
            self.settle();
        }
        let timeout = plan.timeout();
        while self.trouble.is_none() && self.step()? {
            if self.stage.elapsed() > timeout {
                return Err(stuck(format!(
                    "{} jobs have not ended after {timeout:?}: {:?}",
                    self.live.len(),
                    self.stage.engine.counters()
                )));
            }
        }
        if let Some(trouble) = self.trouble {
            return Err(trouble);
        }
        let mut report = self.report;
        report.waits = self.waits.summary();
        let by_priority = self.by_priority.into_iter();
        report.waits_by_priority = by_priority.map(|(key, of)| (key, of.summary())).collect();
        let by_tenant = self.by_tenant.into_iter();
        report.waits_by_tenant =
            by_tenant.map(|(key, of)| (key.to_string(), of.summary())).collect();
        report.prefill_saved_ms = millis(self.saved);
        for load in report.workers.values_mut() {
            // Collected in microseconds, so that nothing is lost by rounding.
            load.busy_ms /= 1_000;
        }
        let health = self.stage.engine.policy_health();
        report.policy_faults = usize::try_from(health.faults).unwrap_or(usize::MAX);
        report.policy_suspended = health.is_suspended;
        report.elapsed_ms = millis(self.stage.elapsed());
        Ok(report)
    }

    /// The clock was advanced: resets the count of allowed steps.
    fn begin_moment(&mut self) {
        let all = self.everybody + self.report.spawns + self.live.len();
        self.steps_here = 0;
        self.most_here = STEPS_ANYHOW + STEPS_EACH * all as u64;
    }

    /// Advances to the next event. Returns false when the last job has ended.
    fn step(&mut self) -> Result<bool> {
        let trace = &self.plan.trace.arrivals;
        let arrival = self.arrivals.last().map(|place| Time::default() + trace[*place].at);
        if arrival.is_none() && self.live.is_empty() {
            return Ok(false);
        }
        let before = self.stage.now;
        let Some(moment) = self.stage.advance(arrival) else {
            return Err(stuck(format!(
                "{} jobs wait and nothing will happen: {:?}",
                self.live.len(),
                self.stage.engine.counters()
            )));
        };
        if self.stage.now > before {
            self.begin_moment();
        }
        match moment {
            Moment::Event(event) => {
                self.most_here += STEPS_EACH;
                self.happen(event);
            }
            Moment::Arrival => {
                self.most_here += STEPS_EACH;
                if let Some(place) = self.arrivals.pop() {
                    self.arrive(place)?;
                }
            }
            Moment::Timer => self.inputs.push_back(Input::Tick),
        }
        self.settle();
        Ok(true)
    }

    fn after(&mut self, delay: Duration, event: Event) -> EventKey {
        self.stage.after(delay, event)
    }

    /// Passes all inputs to the engine, and carries out all effects.
    fn settle(&mut self) {
        while self.trouble.is_none()
            && let Some(input) = self.inputs.pop_front()
        {
            self.report.steps += 1;
            self.steps_here += 1;
            if self.steps_here > self.most_here {
                return self.broken(format!(
                    "policy {} loops: {} steps at the same time, {:?} after the start",
                    self.stage.scheduler.info().name,
                    self.steps_here,
                    self.stage.elapsed()
                ));
            }
            if let Err(error) = (self.may_go_on)() {
                self.trouble = Some(error);
                return;
            }
            let mut effects = std::mem::take(&mut self.effects);
            self.stage.turn(input, &mut effects);
            for effect in effects.drain(..) {
                self.carry_out(effect);
            }
            self.effects = effects;
        }
    }

    fn fact(&mut self, hive: &HiveId, fact: HiveFact) {
        self.inputs.push_back(Input::Hive { hive: hive.clone(), fact });
    }

    fn command(&mut self, command: Command) {
        self.inputs.push_back(Input::Command { n: 0, command });
    }

    fn take_report(&mut self, hive: &HiveId) {
        if let Some(machine) = self.machines.get(hive) {
            let report = Box::new(machine.report());
            self.fact(hive, HiveFact::Report(report));
        }
    }

    fn arrive(&mut self, place: usize) -> Result<()> {
        let arrival = &self.plan.trace.arrivals[place];
        let mut job = arrival
            .job
            .arriving(&self.plan.settings, place as u64)
            .map_err(|error| error.context(format!("job {place} of the trace")))?;
        // It is known to have run this long.
        job.timeout = job.timeout.max(arrival.service.saturating_add(Duration::from_secs(1)));
        self.live.insert(job.id, Live { arrival: place, started: false });
        let submission = Submission::new(place as u64, Arc::new(job));
        self.inputs.push_back(Input::Submit(submission));
        Ok(())
    }

    fn broken(&mut self, what: String) {
        self.trouble.get_or_insert_with(|| stuck(what));
    }

    fn hash(&mut self, what: u64, which: u64) {
        let hash = self.report.trace.rotate_left(5) ^ what ^ which;
        self.report.trace = hash.wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn hash_text(&mut self, text: &str) {
        self.report.trace = crate::prefix::hash(self.report.trace, text.as_bytes());
    }
}

fn count(of: &mut BTreeMap<String, usize>, error: &Error) {
    *of.entry(error.kind().code().to_owned()).or_default() += 1;
}

/// The error of a run that cannot end.
fn stuck(why: String) -> Error {
    Error::new(ErrorKind::Internal, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        scheduler::LeastLoaded,
        sim::{Fleet, Trace},
    };

    #[test]
    fn a_moment_has_so_many_steps_and_no_more() {
        let plan = Replay::new(Fleet { hives: Vec::new() }, Trace::default());
        let policy = LeastLoaded::default();
        let mut run = Running::new(&plan, &policy, &|| Ok(()));
        run.begin_moment();
        let most = run.most_here;
        run.inputs.extend((0..most).map(|_| Input::Tick));
        run.settle();
        assert!(run.trouble.is_none());
        run.inputs.push_back(Input::Tick);
        run.settle();
        let said = run.trouble.unwrap().to_string();
        assert!(said.starts_with("policy least-loaded loops: 10001"), "{said}");
    }
}
