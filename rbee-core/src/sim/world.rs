//! The simulated machines, store and clients around the engine.

mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    sync::Arc,
    time::Duration,
};

use super::{
    SimReport, Simulation,
    recorded_run::EngineSetup,
    stage::{EventKey, Moment, Stage},
};
use crate::{
    device::{Device, DeviceKind},
    engine::{
        Advice, AttemptEnd, AttemptResult, Decider, Effect, HiveFact, Input, Question, Submission,
    },
    error::{Error, ErrorKind},
    event::{Finish, Outcome, Usage},
    hive::{HiveInfo, HiveReport, WorkerReport},
    id::{Epoch, HiveId, JobId, LeaseId, TenantId, WorkerId},
    job::Job,
    model_ref::ModelRef,
    priority::Priority,
    registry::Change,
    request::Request,
    rng::Rng,
    scheduler::{LeastLoaded, Placement, Scheduler},
    settings::Settings,
    time::WallTime,
    worker::{WorkerHealth, WorkerInfo},
};

const GIB: u64 = 1 << 30;
/// The stream of random numbers for the machines and the clients: the engine has other streams of the same seed.
const MACHINES: u64 = 2;
/// Virtual time after which a run that has not ended counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(48 * 3600);

struct Machine {
    rev: u64,
    workers: BTreeMap<WorkerId, WorkerInfo>,
    reachable: bool,
}

pub(super) struct World<'a> {
    plan: &'a Simulation,
    stage: Stage<'a, Input>,
    rng: Rng,
    machines: BTreeMap<HiveId, Machine>,
    models: Vec<ModelRef>,
    /// Running attempts on the machines: the event that ends each.
    running: BTreeMap<LeaseId, (EventKey, WorkerId)>,
    busy: BTreeMap<WorkerId, u32>,
    unanswered: BTreeSet<JobId>,
    accepted: BTreeSet<JobId>,
    ended: BTreeMap<JobId, bool>,
    recorded_ends: BTreeSet<JobId>,
    report: SimReport,
    violation: Option<String>,
}

impl<'a> World<'a> {
    pub(super) fn new(
        plan: &'a Simulation,
        scheduler: &'a dyn Scheduler,
        record: Option<&'a mut dyn Write>,
    ) -> Self {
        let name = |n: usize| format!("model-{n}").parse().expect("a valid alias");
        let setup = EngineSetup {
            settings: plan.settings.clone(),
            epoch: Epoch(1),
            seed: plan.seed,
            secret: 0,
            aliases: BTreeMap::new(),
            built_in: LeastLoaded::default(),
        };
        Self {
            plan,
            stage: Stage::new(setup, scheduler, WallTime::default(), record),
            rng: Rng::stream(plan.seed, MACHINES),
            machines: BTreeMap::new(),
            models: (0..plan.models + plan.cold_models).map(name).collect(),
            running: BTreeMap::new(),
            busy: BTreeMap::new(),
            unanswered: BTreeSet::new(),
            accepted: BTreeSet::new(),
            ended: BTreeMap::new(),
            recorded_ends: BTreeSet::new(),
            report: SimReport::default(),
            violation: None,
        }
    }

    pub(super) fn run(mut self) -> Result<SimReport, String> {
        self.take(Input::PolicyChanged { admits: self.stage.scheduler.info().admits });
        self.set_up_fleet();
        self.plan_arrivals();
        self.plan_outages();
        while self.violation.is_none() && self.step() {
            let waiting = self.stage.engine.counters().waiting;
            self.report.peak_waiting = self.report.peak_waiting.max(waiting);
            if self.stage.elapsed() > STUCK_AFTER {
                return Err(format!(
                    "stuck after {STUCK_AFTER:?}: {:?}",
                    self.stage.engine.counters()
                ));
            }
        }
        if let Some(violation) = self.violation {
            return Err(violation);
        }
        if let Some(job) = self.accepted.iter().find(|job| !self.ended.contains_key(job)) {
            return Err(format!("accepted job {job} never ended"));
        }
        if !self.unanswered.is_empty() {
            return Err(format!("{} submissions were never answered", self.unanswered.len()));
        }
        if !self.stage.engine.is_quiet() {
            return Err(format!("not quiet at the end: {:?}", self.stage.engine.counters()));
        }
        for (hive, machine) in self.machines.iter().filter(|(_, machine)| machine.reachable) {
            let seen: BTreeSet<_> =
                self.stage.engine.view().on_hive(hive).map(|worker| worker.info.id).collect();
            let real: BTreeSet<_> = machine.workers.keys().copied().collect();
            if seen != real {
                return Err(format!("hive {hive} runs {real:?}, the view has {seen:?}"));
            }
        }
        self.report.elapsed = self.stage.elapsed();
        Ok(self.report)
    }

    fn after(&mut self, delay: Duration, input: Input) -> EventKey {
        self.stage.after(delay, input)
    }

    /// Advances to the next event. Returns true if there was one.
    fn step(&mut self) -> bool {
        match self.stage.advance(None) {
            Some(Moment::Event(input)) => self.happen(input),
            Some(Moment::Arrival | Moment::Timer) => self.take(Input::Tick),
            None => return false,
        }
        true
    }

    /// An event on the machines before the engine is informed.
    fn happen(&mut self, input: Input) {
        match &input {
            Input::AttemptEnded { lease, .. } => self.vacate(*lease),
            Input::Hive { hive, fact: HiveFact::WorkerExited { worker, .. } } => {
                let Some(machine) = self.machines.get_mut(hive) else {
                    return;
                };
                if !machine.reachable || machine.workers.remove(worker).is_none() {
                    return;
                }
                machine.rev += 1;
            }
            Input::Hive { hive, fact: HiveFact::Unreachable(_) } => {
                let Some(machine) = self.machines.get_mut(hive) else {
                    return;
                };
                machine.reachable = false;
                // Some come back in time, some too late.
                let back = self.rng.millis(1_000, 90_000);
                self.after(back, Input::Hive { hive: hive.clone(), fact: HiveFact::Started });
            }
            Input::Hive { hive, fact: HiveFact::Started } => {
                if let Some(machine) = self.machines.get_mut(hive) {
                    machine.reachable = true;
                    let hive = hive.clone();
                    return self.take_report(&hive);
                }
            }
            Input::Spawned { worker, result: Ok(info) } => {
                let Some(machine) = self.machines.get_mut(&info.hive) else {
                    return;
                };
                machine.rev += 1;
                let info = WorkerInfo { since: machine.rev, ..(**info).clone() };
                machine.workers.insert(*worker, info.clone());
                return self.take(Input::Spawned { worker: *worker, result: Ok(Arc::new(info)) });
            }
            Input::Stopped { worker } => {
                for machine in self.machines.values_mut() {
                    if machine.workers.remove(worker).is_some() {
                        machine.rev += 1;
                    }
                }
            }
            _ => {}
        }
        self.take(input);
    }

    fn vacate(&mut self, lease: LeaseId) {
        if let Some((_, worker)) = self.running.remove(&lease)
            && let Some(busy) = self.busy.get_mut(&worker)
        {
            *busy -= 1;
        }
    }

    fn take(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.turn(input, &mut effects);
        while !effects.is_empty() {
            for effect in std::mem::take(&mut effects) {
                self.carry_out(effect, &mut effects);
            }
        }
    }

    fn turn(&mut self, input: Input, effects: &mut Vec<Effect>) {
        self.report.steps += 1;
        self.stage.turn(input, effects);
    }

    fn trace(&mut self, what: u64, which: u64) {
        let hash = self.report.trace.rotate_left(5) ^ what ^ which;
        self.report.trace = hash.wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn break_invariant(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    fn carry_out(&mut self, effect: Effect, effects: &mut Vec<Effect>) {
        match effect {
            Effect::Record { n, changes } => self.record(n, &changes),
            Effect::Accept { job, answer, .. } => {
                if !self.unanswered.remove(&job) {
                    self.break_invariant(format!("job {job} was answered twice"));
                }
                match answer {
                    Ok(_) => _ = self.accepted.insert(job),
                    Err(_) => self.report.refused += 1,
                }
            }
            Effect::Consult { ticket, question, ask } => {
                self.trace(1, ticket.0);
                let mut advice = self.stage.advise(ticket, question, &ask);
                if question == Question::Place(Decider::Policy)
                    && self.rng.per_mille(self.plan.faults.nonsense)
                {
                    let nobody = WorkerId::from_random_bits(u128::MAX);
                    advice = Advice::Placement(Placement::Assign(nobody));
                }
                let input = Input::Advised { ticket, advice };
                if self.rng.per_mille(self.plan.faults.late_answers) {
                    let delay = self.rng.millis(0, 50);
                    self.after(delay, input);
                } else {
                    self.turn(input, effects);
                }
            }
            Effect::Start { lease, job, worker, .. } => self.start(lease, job.id, worker),
            Effect::Abort { lease } => self.abort(lease),
            Effect::Finish { job, outcome } => self.finish(job, &outcome),
            Effect::Provision { hive, model } => {
                let delay = self.rng.millis(10, 1_000);
                let result = Ok(crate::model_on_disk::ModelOnDisk::new(model.clone(), 4 * GIB));
                self.after(delay, Input::Provisioned { hive, model, result });
            }
            Effect::ChooseHive { ticket, ask, request } => {
                let candidates = request.candidates(self.stage.engine.view());
                let answer = candidates.and_then(|seen| self.stage.scheduler.place(&ask, &seen));
                let delay = self.rng.millis(0, 50);
                self.after(delay, Input::HiveChosen { ticket, answer });
            }
            Effect::Verify { hive, model } => {
                let delay = self.rng.millis(10, 1_000);
                self.after(delay, Input::Verified { hive, model, result: Ok(Vec::new()) });
            }
            Effect::RemoveModel { hive, model } => {
                let delay = self.rng.millis(10, 1_000);
                self.after(delay, Input::ModelRemoved { hive, model, result: Ok(()) });
            }
            Effect::Spawn { worker, hive, spec } => {
                self.report.spawns += 1;
                let delay = self.rng.millis(500, 5_000);
                let result = if self.rng.per_mille(self.plan.faults.spawns) {
                    Err(Error::new(ErrorKind::WorkerFault, "simulated failure of a start"))
                } else {
                    let mut info = WorkerInfo::named(worker, spec.model, "simulated");
                    info.hive = hive;
                    info.slots = spec.slots;
                    info.capabilities.resume = true;
                    Ok(Arc::new(info))
                };
                self.after(delay, Input::Spawned { worker, result });
            }
            Effect::Stop { worker, .. } => {
                let delay = self.rng.millis(0, 100);
                self.after(delay, Input::Stopped { worker });
            }
            Effect::Connect { worker, .. } => {
                let delay = self.rng.millis(0, 20);
                self.after(delay, Input::Connected { worker, result: Ok(()) });
            }
            Effect::Probe { worker, .. } => {
                let delay = self.rng.millis(0, 20);
                self.after(delay, Input::Probed { worker, result: Ok(WorkerHealth::default()) });
            }
            Effect::ReportHive { hive } => {
                if self.machines.get(&hive).is_some_and(|machine| machine.reachable) {
                    self.after(
                        Duration::from_millis(5),
                        Input::Hive { hive, fact: HiveFact::Started },
                    );
                }
            }
            Effect::Admitted { .. }
            | Effect::Unheeded { .. }
            | Effect::PolicyHealth(_)
            | Effect::Forget { .. }
            | Effect::Answer { .. }
            | Effect::Note(_)
            | Effect::Drained => {}
        }
    }

    fn record(&mut self, n: Option<u64>, changes: &[Change]) {
        let Some(n) = n else { return };
        let fails = self.rng.per_mille(self.plan.faults.records);
        if !fails {
            for change in changes {
                if let Change::JobEnded { job, .. } = change {
                    self.recorded_ends.insert(*job);
                }
            }
        }
        let result =
            if fails { Err(Error::new(ErrorKind::Storage, "simulated full disk")) } else { Ok(()) };
        let delay = self.rng.millis(0, 2);
        self.after(delay, Input::Recorded { n, result });
    }

    fn start(&mut self, lease: LeaseId, job: JobId, worker: WorkerId) {
        self.trace(2, lease.0);
        if self.ended.contains_key(&job) {
            self.break_invariant(format!("job {job} was started after its end"));
        }
        let slots = self.plan.slots;
        if self.stage.engine.view().worker(worker).is_some_and(|view| view.leased > view.info.slots)
        {
            self.break_invariant(format!("worker {worker} has more leases than its {slots} slots"));
        }
        let busy = self.busy.entry(worker).or_default();
        *busy += 1;
        if *busy > slots && self.plan.faults == super::Faults::default() {
            self.break_invariant(format!("a slot of worker {worker} was granted twice"));
        }
        let (least, most) = self.plan.service;
        let delay = self.rng.millis(least.as_millis() as u64, most.as_millis() as u64);
        let result = if self.rng.per_mille(self.plan.faults.attempts) {
            let kinds = [
                ErrorKind::WorkerLost,
                ErrorKind::WorkerBusy,
                ErrorKind::ContextExceeded,
                ErrorKind::WorkerFault,
            ];
            AttemptResult::Failed(Error::new(
                kinds[self.rng.below(4) as usize],
                "simulated failure",
            ))
        } else {
            AttemptResult::Done { finish: Finish::Stop, usage: Usage::default(), stop_text: None }
        };
        let produced = self.rng.below(4) as u32;
        let end = AttemptEnd { result, produced, resumable: true };
        let key = self.after(delay, Input::AttemptEnded { lease, end });
        self.running.insert(lease, (key, worker));
    }

    /// Aborts an attempt. Half of the attempts end at once; the others only when they are done, or never.
    fn abort(&mut self, lease: LeaseId) {
        let Some((key, _)) = self.running.get(&lease).copied() else {
            return;
        };
        match self.rng.below(8) {
            0 => {
                self.stage.cancel(key);
                self.vacate(lease);
            }
            1..4 => {
                self.stage.cancel(key);
                let delay = self.rng.millis(0, 30);
                let end =
                    AttemptEnd { result: AttemptResult::Aborted, produced: 2, resumable: true };
                let key = self.after(delay, Input::AttemptEnded { lease, end });
                if let Some(running) = self.running.get_mut(&lease) {
                    running.0 = key;
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, job: JobId, outcome: &Outcome) {
        let (high, low) = (3, self.ended.len() as u64);
        self.trace(high, low);
        let completed = matches!(outcome, Outcome::Complete { .. });
        if self.ended.insert(job, completed).is_some() {
            self.break_invariant(format!("job {job} ended twice"));
        }
        if self.plan.faults.records == 0 && !self.recorded_ends.contains(&job) {
            self.break_invariant(format!(
                "the end of job {job} was reported before it was recorded"
            ));
        }
        self.report.accepted = self.accepted.len();
        self.report.completed += usize::from(completed);
    }
}
