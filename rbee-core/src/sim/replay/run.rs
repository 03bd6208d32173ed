//! The engine, the machines and the clients of one replay, moved from event to event.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use super::{
    Replay, ReplayReport, WorkerLoad,
    machine::Machine,
    waits::{Collected, millis},
};
use crate::{
    Admission, Ask, Epoch, Error, ErrorKind, Finish, HiveId, Job, JobId, LeaseId, LeastLoaded,
    ModelOnDisk, ModelRef, Now, Outcome, Placement, Priority, Result, Scheduler, TenantId,
    TenantRecord, Time, Usage, WorkerId,
    engine::{AttemptEnd, AttemptResult, Command, Effect, Engine, HiveFact, Input, Note},
    sim::{dice::Dice, trace::share},
};

/// How long a hive takes to stop a worker.
const STOPPING: Duration = Duration::from_millis(200);
/// How long it takes until a report that was asked for is there.
const REPORTING: Duration = Duration::from_millis(5);
/// How much slower a download is than a load from the disk.
const DOWNLOAD: u32 = 10;

/// Something that is going to happen on a machine.
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
    ends: (Time, u64),
}

pub(super) struct Running<'a> {
    plan: &'a Replay,
    scheduler: &'a dyn Scheduler,
    fallback: LeastLoaded,
    engine: Engine,
    dice: Dice,
    now: Time,
    /// The places of the arrivals in the trace, the next one last.
    arrivals: Vec<usize>,
    events: BTreeMap<(Time, u64), Event>,
    next: u64,
    /// What the engine has not been told yet, and what it wants done.
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
    violation: Option<String>,
}

impl<'a> Running<'a> {
    pub(super) fn new(plan: &'a Replay, scheduler: &'a dyn Scheduler) -> Self {
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
        Self {
            plan,
            scheduler,
            fallback: LeastLoaded::default(),
            engine: Engine::new(settings, Epoch(1), plan.seed),
            dice: Dice::of(plan.seed),
            now: Time::default(),
            arrivals,
            events: BTreeMap::new(),
            next: 0,
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
            violation: None,
        }
    }

    pub(super) fn run_out(mut self) -> Result<ReplayReport, String> {
        let plan = self.plan;
        for (id, limits) in &plan.tenants {
            let (id, limits) = (id.clone(), limits.clone());
            let record = TenantRecord { id, limits, keys: Vec::new(), used_tokens: 0 };
            self.command(Command::PutTenant(Box::new(record)));
        }
        self.settle();
        for hive in &plan.fleet.hives {
            self.machines.insert(hive.id.clone(), Machine::new(hive));
            self.fact(&hive.id, HiveFact::Added);
            self.fact(&hive.id, HiveFact::Labels(hive.labels.clone()));
            if hive.online {
                self.take_report(&hive.id);
            }
            if hive.draining {
                self.command(Command::DrainHive(hive.id.clone(), true));
            }
            for (place, worker) in hive.workers.iter().enumerate().filter(|(_, w)| w.pinned) {
                self.command(Command::Pin(worker.info(hive, place).id, true));
            }
            self.settle();
        }
        let patience = plan.patience();
        while self.violation.is_none() && self.step()? {
            if self.now - Time::default() > patience {
                return Err(format!(
                    "{} jobs have not ended after {patience:?}: {:?}",
                    self.live.len(),
                    self.engine.counters()
                ));
            }
        }
        if let Some(violation) = self.violation {
            return Err(violation);
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
        report.elapsed_ms = millis(self.now - Time::default());
        Ok(report)
    }

    /// Moves to the next moment at which something happens. False when the last job has ended.
    fn step(&mut self) -> Result<bool, String> {
        let trace = &self.plan.trace.arrivals;
        let arrival = self.arrivals.last().map(|place| Time::default() + trace[*place].at);
        if arrival.is_none() && self.live.is_empty() {
            return Ok(false);
        }
        let event = self.events.first_key_value().map(|((at, _), _)| *at);
        let alarm = self.engine.next_wake();
        let Some(next) = [arrival, event, alarm].into_iter().flatten().min() else {
            return Err(format!(
                "{} jobs wait and nothing will happen: {:?}",
                self.live.len(),
                self.engine.counters()
            ));
        };
        self.now = self.now.max(next);
        // What ends goes before what comes, so that a slot that is free at this moment is seen to be.
        if event == Some(next) {
            if let Some((_, event)) = self.events.pop_first() {
                self.happen(event);
            }
        } else if arrival == Some(next) {
            if let Some(place) = self.arrivals.pop() {
                self.arrive(place)?;
            }
        } else {
            self.inputs.push_back(Input::Tick);
        }
        self.settle();
        Ok(true)
    }

    fn clock(&self) -> Now {
        Now { at: self.now, wall: self.plan.trace.start + (self.now - Time::default()) }
    }

    fn after(&mut self, delay: Duration, event: Event) -> (Time, u64) {
        self.next += 1;
        let key = (self.now + delay, self.next);
        self.events.insert(key, event);
        key
    }

    /// Tells the engine everything there is to tell, and does everything it wants done.
    fn settle(&mut self) {
        while let Some(input) = self.inputs.pop_front() {
            self.report.steps += 1;
            let mut effects = std::mem::take(&mut self.effects);
            self.engine.on(self.clock(), input, &mut effects);
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

    fn arrive(&mut self, place: usize) -> Result<(), String> {
        let arrival = &self.plan.trace.arrivals[place];
        let mut job = match arrival.job.job(&self.plan.settings, place as u64) {
            Ok(job) => job,
            Err(error) => return Err(format!("job {place} of the trace: {error}")),
        };
        // It is known to have run this long.
        job.timeout = job.timeout.max(arrival.service.saturating_add(Duration::from_secs(1)));
        let mut job = Arc::new(job);
        if self.scheduler.admits() {
            let ask = Ask::first(job.clone(), self.clock(), self.dice.bits());
            match guarded(|| self.scheduler.admit(&ask, self.engine.view())) {
                Ok(Admission::Accept { rank }) => Arc::make_mut(&mut job).rank = rank,
                Ok(Admission::Refuse(error)) => {
                    count(&mut self.report.rejected, &error);
                    return Ok(());
                }
                Err(_) => self.report.policy_faults += 1,
            }
        }
        self.live.insert(job.id, Live { arrival: place, started: false });
        self.inputs.push_back(Input::Submit { job });
        Ok(())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::AttemptEnds(lease) => self.attempt_ends(lease),
            Event::Ready { worker, hive } => {
                let ready = self.machines.get_mut(&hive).and_then(|machine| machine.ready(worker));
                let result = ready.ok_or_else(|| {
                    let message = format!("worker {worker} was stopped before it was ready");
                    Error::new(ErrorKind::WorkerLost, message)
                });
                self.inputs.push_back(Input::Spawned { worker, result });
            }
            Event::Stopped { worker, hive } => {
                if let Some(machine) = self.machines.get_mut(&hive) {
                    machine.stop(worker);
                }
                self.inputs.push_back(Input::Stopped { worker });
            }
            Event::Downloaded { hive, model } => {
                if let Some(machine) = self.machines.get_mut(&hive) {
                    machine.models.insert(model.model.clone(), model.clone());
                }
                let name = model.model.clone();
                self.inputs.push_back(Input::Provisioned { hive, model: name, result: Ok(model) });
            }
            Event::Report(hive) => self.take_report(&hive),
            Event::Health { worker, hive } => {
                let machine = self.machines.get_mut(&hive);
                if let Some(resident) = machine.and_then(|machine| machine.workers.get_mut(&worker))
                {
                    resident.is_reporting = false;
                    let result = Ok(resident.health());
                    self.inputs.push_back(Input::Probed { worker, result });
                }
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Record { n: Some(n), .. } => {
                self.inputs.push_back(Input::Recorded { n, result: Ok(()) });
            }
            Effect::Accept { job, answer: Err(error) } => {
                self.live.remove(&job);
                count(&mut self.report.rejected, &error);
            }
            Effect::Place { ticket, ask, fallback } => {
                self.hash(1, ticket.0);
                let scheduler = if fallback { &self.fallback } else { self.scheduler };
                let answer = guarded(|| scheduler.place(&ask, self.engine.view()));
                if let Ok(Placement::Assign(worker)) = &answer {
                    self.hash_text(&worker.to_string());
                }
                self.inputs.push_back(Input::Placed { ticket, answer });
            }
            Effect::Start { lease, job, worker, .. } => self.start(lease, &job, worker),
            Effect::Abort { lease } => {
                if let Some(attempt) = self.leave(lease) {
                    self.events.remove(&attempt.ends);
                    let end =
                        AttemptEnd { result: AttemptResult::Aborted, produced: 0, resumable: true };
                    self.inputs.push_back(Input::AttemptEnded { lease, end });
                }
            }
            Effect::Finish { job, outcome } => self.finish(job, &outcome),
            Effect::Provision { hive, model } => self.download(hive, model),
            Effect::Spawn { worker, hive, spec } => {
                self.report.spawns += 1;
                self.hash(4, self.report.spawns as u64);
                let machine = self.machines.get_mut(&hive);
                let begun = machine.map(|machine| machine.begin(worker, &hive, &spec));
                match begun {
                    Some(Ok(bytes)) => {
                        let loading = self.loading(bytes);
                        self.after(loading, Event::Ready { worker, hive });
                    }
                    Some(Err(error)) => {
                        self.inputs.push_back(Input::Spawned { worker, result: Err(error) });
                    }
                    None => {}
                }
            }
            Effect::Stop { worker, hive } => {
                self.report.stops += 1;
                self.after(STOPPING, Event::Stopped { worker, hive });
            }
            Effect::Connect { worker, .. } => {
                self.inputs.push_back(Input::Connected { worker, result: Ok(()) });
            }
            Effect::Probe { worker } => {
                if let Some(hive) =
                    self.engine.view().worker(worker).map(|view| view.info.hive.clone())
                {
                    self.after(REPORTING, Event::Health { worker, hive });
                }
            }
            Effect::ReportHive { hive } => {
                self.after(REPORTING, Event::Report(hive));
            }
            Effect::Note(Note::Evicted(..)) => self.report.evictions += 1,
            Effect::Note(Note::ScaledUp(..)) => self.report.scale_ups += 1,
            Effect::Note(Note::ScaledBack(..)) => self.report.scale_backs += 1,
            Effect::Note(Note::Expired(..)) => self.report.expired += 1,
            Effect::Note(Note::PolicyFault(_)) => self.report.policy_faults += 1,
            Effect::Record { n: None, .. }
            | Effect::Accept { answer: Ok(()), .. }
            | Effect::Forget { .. }
            | Effect::Answer { .. }
            | Effect::Note(_)
            | Effect::Drained => {}
        }
    }

    fn loading(&self, bytes: u64) -> Duration {
        share(Duration::from_secs(1), bytes, self.plan.load_bytes_per_second)
    }

    fn download(&mut self, hive: HiveId, model: ModelRef) {
        let Some(bytes) = self.sizes.get(&model).copied() else {
            let message = format!("no hive of the fleet has model {model}: its size is not known");
            let result = Err(Error::new(ErrorKind::ModelNotFound, message));
            return self.inputs.push_back(Input::Provisioned { hive, model, result });
        };
        self.report.downloads += 1;
        let delay = self.loading(bytes).saturating_mul(DOWNLOAD);
        self.after(delay, Event::Downloaded { hive, model: ModelOnDisk::new(model, bytes) });
    }

    fn start(&mut self, lease: LeaseId, job: &Job, worker: WorkerId) {
        self.hash(2, lease.0);
        let Some(live) = self.live.get_mut(&job.id) else {
            return self.broken(format!("job {} was started after its end", job.id));
        };
        let arrival = &self.plan.trace.arrivals[live.arrival];
        let place = live.arrival;
        if !live.started {
            live.started = true;
            let wait = self.now - (Time::default() + arrival.at);
            self.waits.add(wait);
            self.by_priority.entry(job.priority).or_default().add(wait);
            if let Some(tenant) = &job.tenant {
                self.by_tenant.entry(tenant.clone()).or_default().add(wait);
            }
        }
        let Some(hive) = self.engine.view().worker(worker).map(|view| view.info.hive.clone())
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
        let load = self.report.workers.entry(worker).or_insert_with(|| WorkerLoad {
            hive: info.hive.clone(),
            model: info.model.clone(),
            jobs: 0,
            busy_ms: 0,
        });
        load.jobs += 1;
        let began = self.now;
        let ends = self.after(arrival.service - spared, Event::AttemptEnds(lease));
        self.attempts.insert(lease, Attempt { arrival: place, worker, hive, began, ends });
    }

    /// The attempt leaves its worker.
    fn leave(&mut self, lease: LeaseId) -> Option<Attempt> {
        let attempt = self.attempts.remove(&lease)?;
        let machine = self.machines.get_mut(&attempt.hive)?;
        if let Some(resident) = machine.workers.get_mut(&attempt.worker) {
            resident.running = resident.running.saturating_sub(1);
        }
        if let Some(load) = self.report.workers.get_mut(&attempt.worker) {
            load.busy_ms += (self.now - attempt.began).as_micros() as u64;
        }
        Some(attempt)
    }

    fn attempt_ends(&mut self, lease: LeaseId) {
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
            // The queen hears of it when she asks the next time, as she does of a real one.
            resident.is_reporting = true;
            self.after(self.plan.settings.probe_interval, Event::Health { worker, hive });
        }
        let usage =
            Usage { prompt_tokens: arrival.job.prompt_tokens, completion_tokens: arrival.tokens };
        let result = AttemptResult::Done { finish: Finish::Stop, usage };
        let end = AttemptEnd { result, produced: arrival.tokens, resumable: true };
        self.inputs.push_back(Input::AttemptEnded { lease, end });
    }

    fn finish(&mut self, job: JobId, outcome: &Outcome) {
        let Some(live) = self.live.remove(&job) else {
            return self.broken(format!("job {job} ended twice"));
        };
        self.hash(3, live.arrival as u64);
        match outcome {
            Outcome::Complete { .. } => self.report.completed += 1,
            Outcome::Failed(error) if live.started => count(&mut self.report.failed, error),
            Outcome::Failed(error) => count(&mut self.report.rejected, error),
            Outcome::Cancelled => self.broken(format!("job {job} was cancelled by nobody")),
        }
    }

    fn broken(&mut self, what: String) {
        self.violation.get_or_insert(what);
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

/// A policy that panics has failed to decide.
fn guarded<T>(decide: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decide))
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "the policy's code panicked")))
}
