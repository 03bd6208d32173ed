//! The machines, store and clients around the engine, and the model that checks it.

mod happen;
mod rest;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Arc,
    time::Duration,
};

use rbee_core::{
    Ask, ClusterView, Error, ErrorKind, Finish, HiveId, Job, JobId, LeastLoaded, ModelRef,
    Placement, Priority, Scheduler, Settings, Usage, WorkerId, WorkerInfo, WorkerSpec,
    cluster::WorkerState,
    engine::{
        Advice, AttemptEnd, AttemptResult, Command, Decider, Effect, Engine, HiveFact, Input, Note,
        Question, Silence, Submission, Submitted,
    },
    id::{Epoch, LeaseId, Ticket},
    job::{Idempotency, JobStatus, LiveJob},
    queen::LoadRequest,
    registry::{Change, JobRecord, Snapshot},
    scheduler::Admission,
    time::{Now, Time, WallTime},
    worker::WorkerHealth,
};

use super::{Op, parts};

/// Steps within which the engine must come to rest.
const STEPS: usize = 5_000;

struct Machine {
    rev: u64,
    workers: BTreeMap<WorkerId, WorkerInfo>,
    /// It belongs to the fleet.
    member: bool,
}

#[derive(Default)]
struct Watched {
    submissions: u32,
    accepts: u32,
    admitted: bool,
    accepted: bool,
    queued: bool,
    end_recorded: bool,
    finished: bool,
    must_match: Option<Arc<str>>,
}

struct Run {
    job: JobId,
    worker: WorkerId,
    aborted: bool,
}

pub(crate) struct World {
    engine: Engine,
    now: Time,
    machines: BTreeMap<HiveId, Machine>,
    jobs: BTreeMap<JobId, Watched>,
    submitted: Vec<Arc<Job>>,
    records: Vec<u64>,
    /// Submissions not answered yet, of jobs that have not joined the queue.
    at_the_door: BTreeMap<u64, JobId>,
    questions: Vec<(Ticket, Question, Ask)>,
    runs: BTreeMap<LeaseId, Run>,
    spawns: Vec<(WorkerId, HiveId, WorkerSpec)>,
    stops: Vec<WorkerId>,
    connects: Vec<WorkerId>,
    probes: Vec<WorkerId>,
    provisions: Vec<(HiveId, ModelRef)>,
    /// Pending questions where to load a model.
    choices: Vec<(Ticket, Ask, LoadRequest)>,
    verifications: Vec<(HiveId, ModelRef)>,
    removals: Vec<(HiveId, ModelRef)>,
    reports_due: BTreeSet<HiveId>,
    commands: BTreeSet<u64>,
    next: u128,
    trace: Option<String>,
}

impl World {
    pub(crate) fn new() -> Self {
        let settings = Settings {
            queue_capacity: 60,
            interactive_wait: Duration::from_secs(60),
            batch_wait: Duration::from_secs(120),
            hive_memory: BTreeMap::from([("hive-1".to_owned(), 25 << 30)]),
            ..Settings::default()
        };
        let mut world = Self {
            engine: Engine::new(settings, Epoch(1), 7),
            now: Time::default(),
            machines: BTreeMap::new(),
            jobs: BTreeMap::new(),
            submitted: Vec::new(),
            records: Vec::new(),
            at_the_door: BTreeMap::new(),
            questions: Vec::new(),
            runs: BTreeMap::new(),
            spawns: Vec::new(),
            stops: Vec::new(),
            connects: Vec::new(),
            probes: Vec::new(),
            provisions: Vec::new(),
            choices: Vec::new(),
            verifications: Vec::new(),
            removals: Vec::new(),
            reports_due: BTreeSet::new(),
            commands: BTreeSet::new(),
            next: 1_000,
            trace: None,
        };
        for h in 0..2 {
            let hive = parts::hive(h);
            let id = parts::worker(1 + h as u128);
            let info = parts::info(id, hive.clone(), parts::model(h), 2);
            let machine = Machine { rev: 1, workers: BTreeMap::from([(id, info)]), member: true };
            world.machines.insert(hive.clone(), machine);
            world.hive(&hive, parts::added());
            world.report_truth(&hive);
        }
        world
    }

    pub(crate) fn keep_trace(&mut self) {
        self.trace = Some(String::new());
    }

    pub(crate) fn trace(self) -> String {
        self.trace.unwrap_or_default()
    }

    fn fresh(&mut self) -> u128 {
        self.next += 1;
        self.next
    }

    fn hive(&mut self, hive: &HiveId, fact: HiveFact) {
        let hive = hive.clone();
        self.feed(Input::Hive { hive, fact });
    }

    fn report_truth(&mut self, hive: &HiveId) {
        let machine = &self.machines[hive];
        // The third model is on no disk.
        let models = [parts::model(0), parts::model(1)];
        let report = parts::report(machine.rev, models, machine.workers.values().cloned());
        self.hive(hive, HiveFact::Report(Box::new(report)));
    }

    fn feed(&mut self, input: Input) {
        let before = self.engine.view().clone();
        let wall = WallTime::from_millis(self.now.as_micros() / 1000);
        let now = Now { at: self.now, wall };
        let text = self.trace.is_some().then(|| format!("{input:?}"));
        let what = format!("{input:?}");
        let mut effects = Vec::new();
        self.engine.on(now, input, &mut effects);
        if let (Some(trace), Some(text)) = (&mut self.trace, text) {
            writeln!(trace, "{text}\n  {effects:?}").unwrap();
        }
        for effect in effects {
            self.watch(effect, &before, &what);
        }
        let wake = self.engine.next_wake();
        assert!(wake.is_none_or(|at| at > self.now), "an alarm of the past is left");
        let counters = self.engine.counters();
        let leased: u32 = self.engine.view().workers().map(|view| view.leased).sum();
        assert!(
            leased as usize <= counters.leases,
            "{leased} slots taken by {} leases",
            counters.leases
        );
    }

    /// Checks an effect against the model, and applies it.
    fn watch(&mut self, effect: Effect, before: &ClusterView, what: &str) {
        match effect {
            Effect::Record { n, changes } => {
                self.records.extend(n);
                for change in &changes {
                    self.watch_change(change);
                }
            }
            Effect::Admitted { n, job } => {
                assert_eq!(self.at_the_door.remove(&n), Some(job), "no caller waits for job {job}");
                let watched = self.jobs.get_mut(&job).expect("a known job");
                assert!(!watched.admitted || watched.finished, "job {job} joined twice");
                watched.admitted = true;
            }
            Effect::Accept { n, job, answer } => {
                self.at_the_door.remove(&n);
                let watched = self.jobs.get_mut(&job).expect("a known job");
                watched.accepts += 1;
                assert!(watched.accepts <= watched.submissions, "job {job} was answered twice");
                watched.accepted |= answer == Ok(Submitted::Accepted);
            }
            Effect::Consult { ticket, question, ask } => {
                let watched = &self.jobs[&ask.job.id];
                assert!(!watched.finished, "a question about an ended job");
                assert!(!watched.queued || question != Question::Admit, "it is admitted already");
                if self.engine.policy_health().is_suspended {
                    assert_eq!(question, Question::Place(Decider::BuiltIn), "{what}");
                }
                self.questions.push((ticket, question, ask));
            }
            Effect::PolicyHealth(health) => assert_eq!(*health, *self.engine.policy_health()),
            Effect::Start { lease, job, worker, .. } => self.watch_start(lease, &job, worker),
            Effect::Abort { lease } => {
                let run = self.runs.get_mut(&lease).expect("only what runs is aborted");
                assert!(!run.aborted, "lease {lease:?} was aborted twice");
                run.aborted = true;
            }
            Effect::Finish { job, .. } => {
                let watched = self.jobs.get_mut(&job).expect("a known job");
                assert!(!watched.finished, "job {job} ended twice");
                assert!(watched.end_recorded, "job {job} ended before that was recorded");
                watched.finished = true;
                assert!(
                    !self.runs.values().any(|run| run.job == job && !run.aborted),
                    "job {job} ended while it ran"
                );
            }
            Effect::Provision { hive, model } => {
                let key = (hive, model);
                assert!(!self.removals.contains(&key), "{key:?} is fetched while it is removed");
                self.provisions.push(key);
            }
            Effect::ChooseHive { ticket, ask, request } => {
                self.choices.push((ticket, ask, *request));
            }
            Effect::Verify { hive, model } => self.verifications.push((hive, model)),
            Effect::RemoveModel { hive, model } => {
                let is_used =
                    self.engine.view().on_hive(&hive).any(|worker| worker.info.model == model);
                assert!(!is_used, "model {model} is removed from {hive} under a worker");
                self.removals.push((hive, model));
            }
            Effect::Spawn { worker, hive, spec } => {
                let key = (hive.clone(), spec.model.clone());
                assert!(!self.removals.contains(&key), "{key:?} is started while it is removed");
                assert!(
                    !self.spawns.iter().any(|(id, ..)| *id == worker),
                    "worker {worker} was spawned twice"
                );
                self.spawns.push((worker, hive, spec));
            }
            Effect::Stop { worker, .. } => {
                assert!(
                    !self.runs.values().any(|run| run.worker == worker && !run.aborted),
                    "worker {worker} was stopped under a run"
                );
                self.stops.push(worker);
            }
            Effect::Connect { worker, .. } => self.connects.push(worker),
            Effect::Probe { worker, .. } => self.probes.push(worker),
            Effect::ReportHive { hive } => _ = self.reports_due.insert(hive),
            Effect::Note(Note::Evicted(worker, _)) => {
                let victim = before.worker(worker).expect("only a worker that is there is evicted");
                // An operator need not wait until it has min_loaded_elapsed.
                let is_order = what.starts_with("Command") || what.starts_with("HiveChosen");
                let may = if is_order { victim.is_stoppable() } else { victim.is_evictable() };
                assert!(may, "{victim:?} was evicted ({what})");
            }
            Effect::Answer { n, .. } => {
                assert!(self.commands.remove(&n), "command {n} was answered twice");
            }
            Effect::Unheeded { .. } | Effect::Forget { .. } | Effect::Note(_) | Effect::Drained => {
            }
        }
    }

    fn watch_change(&mut self, change: &Change) {
        match change {
            Change::JobQueued(record) => {
                let watched = self.jobs.get_mut(&record.id).unwrap();
                assert!(watched.admitted && watched.accepts < watched.submissions);
                watched.queued = true;
            }
            Change::JobRunning { job, .. } | Change::JobRequeued { job, .. } => {
                let watched = &self.jobs[job];
                assert!(watched.queued && !watched.end_recorded, "{change:?} out of order");
            }
            Change::JobEnded { job, .. } => {
                let watched = self.jobs.get_mut(job).unwrap();
                // An end that was sent before its record may be handed in again, because the store did not take it the
                // first time.
                assert!(watched.queued && (watched.end_recorded || !watched.finished));
                watched.end_recorded = true;
            }
            _ => {}
        }
    }

    fn watch_start(&mut self, lease: LeaseId, job: &Arc<Job>, worker: WorkerId) {
        let watched = &self.jobs[&job.id];
        assert!(!watched.finished && !watched.end_recorded);
        let view = self.engine.view().worker(worker).expect("it runs where a worker is");
        assert!(view.state == WorkerState::Ready && !view.suspected, "{view:?}");
        assert_eq!(view.info.model, job.model);
        assert!(
            self.engine.view().hive(&view.info.hive).is_some_and(|hive| hive.online),
            "job {} was started on a hive that is offline",
            job.id
        );
        if let Some(numerics) = &watched.must_match {
            assert_eq!(
                *numerics, view.info.numerics,
                "the stream is continued where it is another"
            );
        }
        assert!(view.leased <= view.info.slots, "a slot of {worker} was granted twice");
        let run = Run { job: job.id, worker, aborted: false };
        assert!(self.runs.insert(lease, run).is_none(), "lease {lease:?} was given twice");
        let of = |by: &dyn Fn(&Run) -> bool| {
            self.runs.values().filter(|run| !run.aborted && by(run)).count()
        };
        assert_eq!(of(&|run| run.job == job.id), 1, "job {} runs twice", job.id);
        assert!(of(&|run| run.worker == worker) <= view.info.slots as usize);
    }

    fn submit(&mut self, job: Arc<Job>) {
        let submission = self.submission(job);
        self.feed(Input::Submit(submission));
    }

    fn submission(&mut self, job: Arc<Job>) -> Submission {
        self.jobs.entry(job.id).or_default().submissions += 1;
        let n = self.fresh() as u64;
        self.at_the_door.insert(n, job.id);
        Submission::new(n, job)
    }
}

fn pick<T: Clone>(from: &[T], which: usize) -> Option<T> {
    (!from.is_empty()).then(|| from[which % from.len()].clone())
}

fn take<T>(from: &mut Vec<T>, which: usize) -> Option<T> {
    (!from.is_empty()).then(|| from.remove(which % from.len()))
}

fn lost() -> Error {
    Error::new(ErrorKind::WorkerLost, "made up")
}

fn done() -> AttemptResult {
    AttemptResult::Done { finish: Finish::Stop, usage: Usage::default(), stop_text: None }
}
