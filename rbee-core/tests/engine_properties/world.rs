//! The machines, store and clients around the engine, and the model that watches it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Arc,
    time::Duration,
};

use rbee_core::{
    Ask, Change, ClusterView, Epoch, Error, ErrorKind, Finish, HiveId, Job, JobId, JobRecord,
    JobStatus, LeaseId, LeastLoaded, LiveJob, ModelRef, Now, Placement, Priority, Scheduler,
    Settings, Snapshot, Ticket, Time, Usage, WallTime, WorkerHealth, WorkerId, WorkerInfo,
    WorkerSpec, WorkerState,
    engine::{AttemptEnd, AttemptResult, Command, Effect, Engine, HiveFact, Input, Note},
};

use super::{Op, parts};

/// Steps within which the engine has to come to rest.
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
    questions: Vec<(Ticket, Ask)>,
    runs: BTreeMap<LeaseId, Run>,
    spawns: Vec<(WorkerId, HiveId, WorkerSpec)>,
    stops: Vec<WorkerId>,
    connects: Vec<WorkerId>,
    probes: Vec<WorkerId>,
    provisions: Vec<(HiveId, ModelRef)>,
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
            ..Settings::default()
        };
        let mut world = Self {
            engine: Engine::new(settings, Epoch(1), 7),
            now: Time::default(),
            machines: BTreeMap::new(),
            jobs: BTreeMap::new(),
            submitted: Vec::new(),
            records: Vec::new(),
            questions: Vec::new(),
            runs: BTreeMap::new(),
            spawns: Vec::new(),
            stops: Vec::new(),
            connects: Vec::new(),
            probes: Vec::new(),
            provisions: Vec::new(),
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
            world.hive(&hive, HiveFact::Added);
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

    /// Checks an effect against the model, and takes it in.
    fn watch(&mut self, effect: Effect, before: &ClusterView, what: &str) {
        match effect {
            Effect::Record { n, changes } => {
                self.records.extend(n);
                for change in &changes {
                    self.watch_change(change);
                }
            }
            Effect::Accept { job, answer } => {
                let watched = self.jobs.get_mut(&job).expect("a known job");
                watched.accepts += 1;
                assert!(watched.accepts <= watched.submissions, "job {job} was answered twice");
                watched.accepted |= answer.is_ok();
            }
            Effect::Place { ticket, ask, .. } => {
                assert!(!self.jobs[&ask.job.id].finished, "a question about an ended job");
                self.questions.push((ticket, ask));
            }
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
            Effect::Provision { hive, model } => self.provisions.push((hive, model)),
            Effect::Spawn { worker, hive, spec } => {
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
            Effect::Probe { worker } => self.probes.push(worker),
            Effect::ReportHive { hive } => _ = self.reports_due.insert(hive),
            Effect::Note(Note::Evicted(worker, _)) => {
                let victim = before.worker(worker).expect("only a worker that is there is evicted");
                assert!(victim.is_evictable(), "{victim:?} was evicted ({what})");
            }
            Effect::Answer { n, .. } => {
                assert!(self.commands.remove(&n), "command {n} was answered twice");
            }
            Effect::Forget { .. } | Effect::Note(_) | Effect::Drained => {}
        }
    }

    fn watch_change(&mut self, change: &Change) {
        match change {
            Change::JobQueued(record) => self.jobs.get_mut(&record.id).unwrap().queued = true,
            Change::JobRunning { job, .. } | Change::JobRequeued { job } => {
                let watched = &self.jobs[job];
                assert!(watched.queued && !watched.end_recorded, "{change:?} out of order");
            }
            Change::JobEnded { job, .. } => {
                let watched = self.jobs.get_mut(job).unwrap();
                assert!(watched.queued && !watched.finished);
                watched.end_recorded = true;
            }
            _ => {}
        }
    }

    fn watch_start(&mut self, lease: LeaseId, job: &Arc<Job>, worker: WorkerId) {
        let watched = &self.jobs[&job.id];
        assert!(!watched.finished && !watched.end_recorded);
        let view = self.engine.view().worker(worker).expect("it runs where a worker is");
        assert_eq!(view.state, WorkerState::Ready);
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
        self.jobs.entry(job.id).or_default().submissions += 1;
        self.feed(Input::Submit { job });
    }

    pub(crate) fn apply(&mut self, op: &Op) {
        match *op {
            Op::Submit { model, batch, tenant, deadline } => {
                let mut job = parts::job(self.fresh(), parts::model(model));
                job.priority = if batch { Priority::Batch } else { Priority::Interactive };
                job.tenant = (tenant > 0).then(|| format!("tenant-{tenant}").parse().unwrap());
                job.deadline = deadline.map(Duration::from_millis);
                let job = Arc::new(job);
                self.submitted.push(job.clone());
                self.submit(job);
            }
            Op::SubmitAgain(which) => {
                // A job of this name that has ended already is another job: names are not used twice.
                let live = self.submitted.iter().filter(|job| self.engine.has_job(job.id));
                if let Some(job) = pick(&live.cloned().collect::<Vec<_>>(), which) {
                    self.submit(job);
                }
            }
            Op::Cancel(which) => {
                if let Some(job) = pick(&self.submitted, which) {
                    self.feed(Input::Cancel { job: job.id });
                }
            }
            Op::CancelUnknown => self.feed(Input::Cancel { job: parts::job_id(1) }),
            Op::Recorded { which, how, again } => self.answer_record(which, how, again),
            Op::Placed { which, how, pick, again } => self.answer_question(which, how, pick, again),
            Op::AttemptEnded { which, how, produced, resumable, again } => {
                self.end_run(which, how, produced, resumable, again)
            }
            Op::Spawned { which, how, again } => self.answer_spawn(which, how, again),
            Op::Stopped { which, any } => {
                let all = self.all_workers();
                let from = if any { &all } else { &self.stops };
                if let Some(worker) = pick(from, which) {
                    self.stop(worker);
                }
            }
            Op::Connected { which, ok } => {
                if let Some(worker) = take(&mut self.connects, which) {
                    let result = if ok { Ok(()) } else { Err(lost()) };
                    self.feed(Input::Connected { worker, result });
                }
            }
            Op::Probed { which, ok } => {
                if let Some(worker) = take(&mut self.probes, which) {
                    let result = if ok { Ok(WorkerHealth::default()) } else { Err(lost()) };
                    self.feed(Input::Probed { worker, result });
                }
            }
            Op::Provisioned { which, how } => {
                if how == 3 {
                    let (hive, model) = (parts::hive(0), parts::model(2));
                    return self.feed(Input::ProvisionProgress { hive, model });
                }
                if let Some((hive, model)) = take(&mut self.provisions, which) {
                    let result = match how {
                        0 => Err(Error::new(ErrorKind::HiveUnreachable, "cut")),
                        1 => Err(Error::new(ErrorKind::ModelNotFound, "none")),
                        _ => Ok(4 * parts::GIB),
                    };
                    self.feed(Input::Provisioned { hive, model, result });
                }
            }
            Op::Report { hive, how, pick } => self.report(hive, how, pick),
            Op::Exited { which } => {
                let all = self.all_workers();
                if let Some(worker) = pick(&all, which) {
                    let hive = self.remove_from_machine(worker).unwrap_or(parts::hive(0));
                    self.hive(&hive, HiveFact::WorkerExited { worker, why: lost() });
                }
            }
            Op::Hive { hive, how } => self.change_hive(hive, how),
            Op::Command { how, pick, hive } => self.command(how, pick, hive),
            Op::Restore { jobs } => self.restore(jobs),
            Op::Unknown(kind) => self.unknown(kind),
            Op::Wait { millis } => {
                self.now = self.now + Duration::from_millis(millis);
                self.feed(Input::Tick);
            }
            Op::WaitForAlarm => {
                if let Some(at) = self.engine.next_wake() {
                    self.now = at;
                    self.feed(Input::Tick);
                }
            }
        }
    }

    fn all_workers(&self) -> Vec<WorkerId> {
        self.engine.view().workers().map(|view| view.info.id).collect()
    }

    fn remove_from_machine(&mut self, worker: WorkerId) -> Option<HiveId> {
        let (hive, machine) =
            self.machines.iter_mut().find(|(_, machine)| machine.workers.contains_key(&worker))?;
        machine.workers.remove(&worker);
        machine.rev += 1;
        Some(hive.clone())
    }

    fn stop(&mut self, worker: WorkerId) {
        self.stops.retain(|id| *id != worker);
        self.remove_from_machine(worker);
        self.feed(Input::Stopped { worker });
    }

    fn answer_record(&mut self, which: usize, how: u8, again: bool) {
        let n = if again { pick(&self.records, which) } else { take(&mut self.records, which) };
        let Some(n) = n else { return };
        let result = match how {
            0 => Err(Error::new(ErrorKind::Storage, "full")),
            1 => Err(Error::new(ErrorKind::Fenced, "another's")),
            _ => Ok(()),
        };
        self.feed(Input::Recorded { n, result });
    }

    fn answer_question(&mut self, which: usize, how: u8, choice: usize, again: bool) {
        if self.questions.is_empty() {
            return;
        }
        let at = which % self.questions.len();
        let (ticket, ask) = self.questions[at].clone();
        if !again {
            self.questions.remove(at);
        }
        let workers = self.all_workers();
        let hive = parts::hive(choice % 3);
        let answer = match how {
            0 => Ok(Placement::Assign(parts::worker(u128::MAX))),
            1 => Ok(pick(&workers, choice).map_or(Placement::Wait, Placement::Assign)),
            2 => Ok(Placement::Wait),
            3 => Ok(Placement::Reject(Error::new(ErrorKind::Rejected, "no"))),
            4 => Err(Error::new(ErrorKind::Internal, "broken")),
            5 => Ok(Placement::Spawn {
                hive,
                spec: parts::spec(ask.job.model.clone(), choice as u32 % 3),
                evict: workers.into_iter().skip(choice % 5).take(2).collect(),
            }),
            6 => Ok(Placement::Spawn {
                hive,
                spec: parts::spec(parts::model(choice % 3), 2),
                evict: Vec::new(),
            }),
            7 => {
                let view = self.engine.view();
                let victims = view.on_hive(&hive).filter(|worker| worker.is_evictable());
                let evict = victims.map(|worker| worker.info.id).collect();
                let spec = parts::spec(ask.job.model.clone(), 1);
                Ok(Placement::Spawn { hive, spec, evict })
            }
            _ => LeastLoaded::default().place(&ask, self.engine.view()),
        };
        self.feed(Input::Placed { ticket, answer });
    }

    fn end_run(&mut self, which: usize, how: u8, produced: u32, resumable: bool, again: bool) {
        let leases: Vec<_> = self.runs.keys().copied().collect();
        let Some(lease) = pick(&leases, which) else {
            return;
        };
        let failed = |kind| AttemptResult::Failed(Error::new(kind, "made up"));
        let result = match how {
            0 => failed(ErrorKind::WorkerLost),
            1 => failed(ErrorKind::WorkerBusy),
            2 => failed(ErrorKind::ContextExceeded),
            3 => failed(ErrorKind::WorkerFault),
            4 => AttemptResult::Aborted,
            _ => done(),
        };
        self.tell_end(lease, result, produced, resumable);
        if again {
            let result = failed(ErrorKind::WorkerLost);
            self.tell_end(lease, result, produced, resumable);
        }
    }

    fn tell_end(&mut self, lease: LeaseId, result: AttemptResult, produced: u32, resumable: bool) {
        if let Some(run) = self.runs.remove(&lease)
            && produced > 0
            && !run.aborted
            && let Some(view) = self.engine.view().worker(run.worker)
            && let Some(watched) = self.jobs.get_mut(&run.job)
        {
            watched.must_match.get_or_insert(view.info.numerics.clone());
        }
        let end = AttemptEnd { result, produced, resumable };
        self.feed(Input::AttemptEnded { lease, end });
    }

    fn answer_spawn(&mut self, which: usize, how: u8, again: bool) {
        let spawn = if again { pick(&self.spawns, which) } else { take(&mut self.spawns, which) };
        let Some((worker, hive, spec)) = spawn else {
            return;
        };
        let mut info = parts::info(worker, hive.clone(), spec.model, spec.slots);
        match how {
            0 => {
                let result = Err(Error::new(ErrorKind::WorkerFault, "made up"));
                return self.feed(Input::Spawned { worker, result });
            }
            1 => {
                let result = Err(Error::new(ErrorKind::InsufficientVram, "made up"));
                return self.feed(Input::Spawned { worker, result });
            }
            // Who answers is not who was started.
            2 => info.id = pick(&self.all_workers(), which).unwrap_or(parts::worker(77)),
            3 => info.model = parts::model(0),
            4 => info.hive = parts::hive(2),
            5 => info.numerics = "other".into(),
            _ => {}
        }
        if let Some(machine) = self.machines.get_mut(&hive) {
            machine.rev += 1;
            info.since = machine.rev;
            if info.id == worker && info.hive == hive {
                machine.workers.insert(worker, info.clone());
            }
        }
        let result = Ok(Arc::new(info));
        self.feed(Input::Spawned { worker, result });
    }

    fn report(&mut self, hive: usize, how: u8, choice: usize) {
        let id = parts::hive(hive);
        let Some(machine) = self.machines.get(&id) else {
            // Nobody has heard of this one.
            let report = parts::report(1, [], []);
            return self.hive(&id, HiveFact::Report(Box::new(report)));
        };
        let models = [parts::model(0), parts::model(1), parts::model(2)];
        let mut workers: Vec<_> = machine.workers.values().cloned().collect();
        let mut rev = machine.rev;
        match how {
            // One is left out, and one is made up.
            0 => _ = (!workers.is_empty()).then(|| workers.remove(choice % workers.len())),
            1 => workers.push(parts::info(
                parts::worker(choice as u128 + 500),
                id.clone(),
                parts::model(choice % 3),
                choice as u32 % 3,
            )),
            2 => rev = rev.saturating_sub(choice as u64),
            3 => workers.clear(),
            4 => workers.extend(workers.clone()),
            // Another machine's worker.
            5 => workers.extend(
                self.machines
                    .values()
                    .flat_map(|machine| machine.workers.values())
                    .nth(choice % 4)
                    .cloned(),
            ),
            _ => return self.report_truth(&id),
        }
        let report = parts::report(rev, models, workers);
        self.hive(&id, HiveFact::Report(Box::new(report)));
    }

    fn change_hive(&mut self, hive: usize, how: u8) {
        let id = parts::hive(hive);
        match how {
            0 => {
                self.hive(&id, HiveFact::Removed);
                if let Some(machine) = self.machines.get_mut(&id) {
                    machine.member = false;
                    machine.workers.clear();
                }
            }
            1..3 => {
                self.hive(&id, HiveFact::Unreachable(Error::new(ErrorKind::HiveUnreachable, "cut")))
            }
            _ => {
                let machine = self.machines.entry(id.clone()).or_insert(Machine {
                    rev: 1,
                    workers: BTreeMap::new(),
                    member: true,
                });
                machine.member = true;
                self.hive(&id, HiveFact::Added);
            }
        }
    }

    fn command(&mut self, how: u8, choice: usize, hive: usize) {
        let n = self.fresh() as u64;
        // One that is there, or a fresh name: names are not used twice.
        let fresh = parts::worker(self.fresh());
        let worker = pick(&self.all_workers(), choice).unwrap_or(fresh);
        let command = match how {
            0 | 1 => Command::Load {
                worker: if how == 0 { fresh } else { worker },
                hive: parts::hive(hive),
                spec: parts::spec(parts::model(choice % 3), choice as u32 % 3),
                pin: choice.is_multiple_of(2),
            },
            2..4 => Command::Unload(worker),
            4 => Command::Unload(parts::worker(9)),
            5 if choice == 0 => Command::Drain,
            _ => Command::Pin(worker, choice.is_multiple_of(2)),
        };
        self.commands.insert(n);
        self.feed(Input::Command { n, command });
    }

    fn restore(&mut self, jobs: u8) {
        let mut snapshot = Snapshot { epoch: Epoch(1), ..Snapshot::default() };
        for n in 0..jobs {
            let bits = self.fresh();
            let job = Arc::new(parts::job(bits, parts::model(usize::from(n))));
            let running = bits.is_multiple_of(2);
            let wall = WallTime::from_millis(self.now.as_micros() / 1000);
            let live = match running {
                true => LiveJob::queued().started(parts::worker(1), wall),
                false => LiveJob::queued(),
            };
            let watched = self.jobs.entry(job.id).or_default();
            (watched.queued, watched.accepted) = (true, true);
            snapshot.jobs.push(JobRecord {
                id: job.id,
                tenant: None,
                model: job.model.clone(),
                priority: job.priority,
                status: JobStatus::Live(live),
                order: bits as u64,
                submitted_at: wall,
                attempts: bits as u32 % 6,
                correlation_id: job.correlation_id.clone(),
                owner: Epoch(1),
                request: (!bits.is_multiple_of(5)).then_some(job),
                numerics: None,
                pieces: Vec::new(),
                tokens_generated: 0,
            });
        }
        // What was taken over before is told again; what can be run again is known then.
        let mut again = snapshot.clone();
        again.jobs.retain(|record| record.request.is_some() && record.attempts <= 3);
        for snapshot in [snapshot, again] {
            self.feed(Input::Restore { snapshot: Box::new(snapshot) });
        }
    }

    fn unknown(&mut self, kind: u8) {
        let (worker, hive) = (parts::worker(99), parts::hive(9));
        let input = match kind {
            0 => Input::Recorded { n: u64::MAX, result: Ok(()) },
            1 => Input::Placed { ticket: Ticket(u64::MAX), answer: Ok(Placement::Wait) },
            2 => {
                let end = AttemptEnd { result: done(), produced: 1, resumable: true };
                let lease = LeaseId(u64::MAX);
                Input::AttemptEnded { lease, end }
            }
            3 => Input::Stopped { worker },
            4 => Input::Connected { worker, result: Ok(()) },
            5 => Input::Probed { worker, result: Err(lost()) },
            6 => Input::Provisioned { hive, model: parts::model(7), result: Ok(1) },
            _ => Input::Hive { hive, fact: HiveFact::Unreachable(lost()) },
        };
        self.feed(input);
    }

    /// Answers everything truthfully and lets time pass until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        self.come_to_rest();
        let members: Vec<_> = self.members();
        // Twice: what one hive had claimed of another's workers is put right by the second report.
        for _ in 0..2 {
            members.iter().for_each(|hive| self.report_truth(hive));
            self.come_to_rest();
        }
        for (job, watched) in &self.jobs {
            assert_eq!(watched.accepts, watched.submissions, "job {job} was not answered");
            assert!(watched.finished || !watched.accepted, "accepted job {job} never ended");
            assert!(!self.engine.has_job(*job));
        }
        assert!(self.commands.is_empty(), "commands were not answered");
        for hive in members {
            let seen: BTreeSet<_> =
                self.engine.view().on_hive(&hive).map(|view| view.info.id).collect();
            let real: BTreeSet<_> = self.machines[&hive].workers.keys().copied().collect();
            assert_eq!(seen, real, "the view of {hive} is not what runs there");
        }
    }

    fn members(&self) -> Vec<HiveId> {
        let members = self.machines.iter().filter(|(_, machine)| machine.member);
        members.map(|(hive, _)| hive.clone()).collect()
    }

    fn come_to_rest(&mut self) {
        for _ in 0..STEPS {
            if self.answer_one() {
                continue;
            }
            if self.engine.is_quiet() {
                return;
            }
            let at = self.engine.next_wake();
            self.now = at
                .unwrap_or_else(|| panic!("not quiet, and no alarm: {:?}", self.engine.counters()));
            self.feed(Input::Tick);
        }
        panic!("not quiet in time: {:?}", self.engine.counters());
    }

    fn answer_one(&mut self) -> bool {
        if !self.records.is_empty() {
            self.answer_record(0, 9, false);
        } else if !self.questions.is_empty() {
            self.answer_question(0, 9, 0, false);
        } else if let Some((lease, run)) = self.runs.first_key_value() {
            let (lease, aborted) = (*lease, run.aborted);
            let result = if aborted { AttemptResult::Aborted } else { done() };
            self.tell_end(lease, result, 0, true);
        } else if !self.spawns.is_empty() {
            self.answer_spawn(0, 9, false);
        } else if let Some(worker) = self.stops.first().copied() {
            self.stop(worker);
        } else if let Some(worker) = self.connects.pop() {
            let there = self.machines.values().any(|machine| machine.workers.contains_key(&worker));
            let result = if there { Ok(()) } else { Err(lost()) };
            self.feed(Input::Connected { worker, result });
        } else if let Some(worker) = self.probes.pop() {
            let result = Ok(WorkerHealth::default());
            self.feed(Input::Probed { worker, result });
        } else if !self.provisions.is_empty() {
            self.apply(&Op::Provisioned { which: 0, how: 2 });
        } else if let Some(hive) = self.reports_due.pop_first() {
            if self.machines.get(&hive).is_some_and(|machine| machine.member) {
                self.report_truth(&hive);
            }
        } else {
            return false;
        }
        true
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
    AttemptResult::Done { finish: Finish::Stop, usage: Usage::default() }
}
