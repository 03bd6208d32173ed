//! The state machine that makes every decision: data in, data out.
//!
//! It has no input or output, no clock, no threads and no chance of its own. Time comes with every input, random bits
//! come from a seed, and what is to be done comes out as a list of [`Effect`]s. So the same inputs give the same
//! effects: a recorded run can be replayed, and a fleet of thousands simulated in one thread.
//!
//! ```
//! use rbee_core::{Epoch, Now, Settings, engine::{Engine, Input}};
//!
//! let mut engine = Engine::new(Settings::default(), Epoch(1), 42);
//! let mut effects = Vec::new();
//! engine.on(Now::default(), Input::Tick, &mut effects);
//! assert!(effects.is_empty() && engine.is_quiet());
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use crate::{
    Change, ClusterView, Epoch, Error, ErrorKind, HiveId, Job, JobId, LeaseId, ModelRef, Now,
    Outcome, Priority, Result, Settings, Sizing, Snapshot, TenantId, TenantRecord, Time, WorkerId,
    WorkerInfo, WorkerSpec, idempotency::check_repeat,
};

mod admit;
mod commands;
mod ending;
mod freeze;
mod hives;
mod jobs;
mod lanes;
mod leases;
mod marks;
mod memory;
mod message;
mod optimise;
mod placing;
mod provisioning;
mod retry;
mod store;
mod suspicion;
mod tenants;
mod timers;
mod together;
mod workers;

pub use message::{AttemptEnd, AttemptResult, Command, Effect, HiveFact, Input, Note, Silence};
pub use store::StoreFault;

use admit::{Pace, Paces};
use lanes::{LaneId, Lanes, Place};
use leases::Leases;
use marks::Marks;
use memory::Promise;
use optimise::Optimiser;
use retry::Chance;
use suspicion::Suspicions;
use tenants::{TenantChange, Tenants};
use timers::{Alarm, JobAlarm, JobAlarms, Timers};

/// Where a live job is.
#[derive(Debug)]
enum Phase {
    /// In its lane.
    Queued,
    /// On a worker.
    Running(LeaseId),
    /// On a worker still, but told to end; then what.
    Aborting(Then),
    /// Waiting for a retry.
    Backoff,
    /// Its end is being recorded.
    Ending(Ending),
}

/// An end that is not recorded yet.
#[derive(Debug)]
struct Ending {
    outcome: Outcome,
    since: Time,
    /// The change was handed in and is not answered yet.
    is_handed_in: bool,
    /// The readers were told before it was recorded.
    is_told: bool,
}

/// What becomes of a job when its aborted attempt has ended.
#[derive(Debug)]
enum Then {
    End(Outcome),
    Retry(Error),
}

/// A live job.
#[derive(Debug)]
struct Entry {
    job: Arc<Job>,
    place: Place,
    phase: Phase,
    submitted: Time,
    /// How long it had waited when an earlier life of the queen ended.
    waited_before: Duration,
    started: bool,
    /// Attempts that count, with the one under way.
    attempts: u32,
    /// Attempts that were free: see [`Engine::is_free`].
    free: u32,
    /// Workers started because of this job, so that one that never fits cannot start them without end.
    spawns: u32,
    avoid: Arc<BTreeSet<WorkerId>>,
    /// The worker that is or was last at it.
    worker: Option<Arc<WorkerInfo>>,
    /// What a worker must match to continue the stream; none while nothing is produced.
    must_match: Option<Arc<str>>,
    /// When its attempt began.
    running_since: Time,
    /// Tokens that readers have of it.
    produced: u32,
    /// Tokens that it was expected to use when it was admitted.
    expected: u64,
    /// What its tenant's share was charged for it when it was first given a slot; 0 before.
    shared: u64,
    /// The job is in the store: until then nothing else of it is written.
    accepted: bool,
    /// It ends with its client, who waits for it in this life of the queen and cannot come back for it.
    bound: bool,
    /// Its answer stays in the store for as long as its record.
    keeps_output: bool,
    alarms: JobAlarms,
}

impl Entry {
    fn lane(&self) -> LaneId {
        LaneId::of(&self.job)
    }
}

/// A worker on its way.
#[derive(Debug)]
struct Starting {
    hive: HiveId,
    spec: WorkerSpec,
    pin: bool,
    /// Workers that must be gone first.
    waits_for: BTreeSet<WorkerId>,
    issued: bool,
}

/// A record whose writing somebody waits for.
#[derive(Debug)]
enum Awaited {
    Accept(JobId),
    End(JobId),
    /// The end of a job of an earlier life that cannot be run again; without the outcome once its readers were told.
    LostEnd(JobId, Option<Outcome>),
    /// A change that an operator wants, and the number of the answer.
    Tenant(u64, TenantChange),
    /// What an operator wants is done, and this is the number of the answer.
    Done(u64),
}

/// How much of everything there is. All zero when all is quiet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Live jobs.
    pub jobs: usize,
    /// Jobs in the queue.
    pub waiting: usize,
    /// Slots given out.
    pub leases: usize,
    /// Workers on their way.
    pub starting: usize,
    /// Downloads under way.
    pub provisioning: usize,
    /// Questions to the policy that are not answered.
    pub questions: usize,
    /// Records whose writing is waited for.
    pub unrecorded: usize,
    /// Alarms set.
    pub alarms: usize,
}

/// The state machine. See the [module](self).
#[derive(Debug)]
pub struct Engine {
    settings: Arc<Settings>,
    /// Names for models, by which tenants' limits may call them.
    aliases: BTreeMap<String, ModelRef>,
    epoch: Epoch,
    view: ClusterView,
    /// Only ever looked into, so its order does not matter. In boxes, so that a job's own memory is near what it was
    /// made with, and not spread over a table for all that wait.
    jobs: HashMap<JobId, Box<Entry>>,
    lanes: Lanes,
    /// Jobs that wait for a retry, by priority.
    in_backoff: [BTreeSet<JobId>; 2],
    leases: Leases,
    timers: Timers,
    starting: BTreeMap<WorkerId, Starting>,
    /// Downloads under way, with the slots that are going to be started after them.
    provisioning: BTreeMap<(HiveId, ModelRef), u32>,
    awaited: BTreeMap<u64, Awaited>,
    /// When and with what patience each failed worker is probed.
    probes: BTreeMap<WorkerId, u32>,
    suspicions: Suspicions,
    /// Models that the store has a row of, by hive.
    catalogue: BTreeMap<HiveId, BTreeSet<ModelRef>>,
    /// What workers are expected to take, and what of it is promised because the reports of their hive do not show it.
    promises: BTreeMap<WorkerId, Promise>,
    /// The revision of the last report, by hive.
    revisions: BTreeMap<HiveId, u64>,
    /// Models with something to ask about.
    wake: BTreeSet<ModelRef>,
    /// Models that no worker has and that were told to wait: a worker that falls idle may make room for them.
    starved: BTreeSet<ModelRef>,
    /// The one of them that was asked about last.
    last_starved: Option<ModelRef>,
    pace: Pace,
    store_fault: Option<StoreFault>,
    tenants: Tenants,
    paces: Paces,
    optimiser: Optimiser,
    /// How the memory of workers is estimated.
    sizing: Sizing,
    marks: Marks,
    chance: Chance,
    next_number: u64,
    next_order: u64,
    draining: bool,
    drained: bool,
    frozen: bool,
    /// Of this life alone: see [`JobOutline`](crate::JobOutline).
    secret: u64,
}

type Out = Vec<Effect>;

/// Where the order of a life's jobs begins: after that of every earlier life, ended jobs included, so that a listing is
/// in the order of submission. Leaves room for 4 billion jobs a life, in numbers that JSON carries exactly.
const fn first_order(epoch: Epoch) -> u64 {
    epoch.0 << 32
}

impl Engine {
    /// An empty one: no jobs, no hives. `epoch` names the ownership that its records are written under.
    pub fn new(settings: Settings, epoch: Epoch, seed: u64) -> Self {
        Self {
            optimiser: Optimiser::new(&settings),
            sizing: Sizing::default(),
            settings: Arc::new(settings),
            aliases: BTreeMap::new(),
            epoch,
            view: ClusterView::default(),
            jobs: HashMap::new(),
            lanes: Lanes::default(),
            in_backoff: Default::default(),
            leases: Leases::default(),
            timers: Timers::default(),
            starting: BTreeMap::new(),
            provisioning: BTreeMap::new(),
            awaited: BTreeMap::new(),
            probes: BTreeMap::new(),
            suspicions: Suspicions::default(),
            catalogue: BTreeMap::new(),
            promises: BTreeMap::new(),
            revisions: BTreeMap::new(),
            wake: BTreeSet::new(),
            starved: BTreeSet::new(),
            last_starved: None,
            pace: Pace::default(),
            store_fault: None,
            tenants: Tenants::default(),
            paces: Paces::default(),
            marks: Marks::default(),
            chance: Chance::new(seed),
            next_number: 0,
            next_order: first_order(epoch),
            draining: false,
            drained: false,
            frozen: false,
            secret: 0,
        }
    }

    /// What the names stand for by which tenants' limits, and the default ones, may call models.
    #[must_use]
    pub fn with_aliases(mut self, aliases: BTreeMap<String, ModelRef>) -> Self {
        let settings = Arc::make_mut(&mut self.settings);
        settings.default_limits =
            std::mem::take(&mut settings.default_limits).with_references(&aliases);
        self.aliases = aliases;
        self
    }

    /// How the memory of workers is estimated, of those that it finds and of the replicas that it starts.
    /// [`Sizing::default`] if not given.
    #[must_use]
    pub fn with_sizing(mut self, sizing: Sizing) -> Self {
        self.sizing = sizing;
        self
    }

    /// Veils what is recorded of the prefixes of prompts with this secret.
    pub(crate) fn with_secret(mut self, secret: u64) -> Self {
        self.secret = secret;
        self
    }

    /// The cluster as it is now.
    pub fn view(&self) -> &ClusterView {
        &self.view
    }

    /// The ownership that records are written under.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// When an [`Input::Tick`] is due next.
    pub fn next_wake(&self) -> Option<Time> {
        if self.frozen { None } else { self.timers.next() }
    }

    /// How much of everything there is.
    pub fn counters(&self) -> Counters {
        Counters {
            jobs: self.jobs.len(),
            waiting: self.waiting(),
            leases: self.leases.len(),
            starting: self.starting.len(),
            provisioning: self.provisioning.len(),
            questions: self.lanes.questions(),
            unrecorded: self.awaited.len(),
            // Looking after workers that nobody uses is no work that is waited for, and neither is their settling.
            alarms: self.timers.len()
                - usize::from(self.waiting() == 0 && self.timers.is_armed(&Alarm::Optimise))
                - self.timers.settling(),
        }
    }

    /// How many jobs wait, in a queue or for a retry, by priority.
    pub fn waiting_by_priority(&self) -> [(Priority, usize); 2] {
        let backoff = |priority| self.in_backoff[lanes::class(priority)].len();
        Priority::ALL
            .map(|priority| (priority, self.lanes.waiting_at(priority) + backoff(priority)))
    }

    /// Is there nothing to do, nothing under way and nothing to wait for?
    pub fn is_quiet(&self) -> bool {
        self.counters() == Counters::default()
            && self.view.lanes().next().is_none()
            && self.view.workers().all(|worker| worker.leased == 0)
            && self.tenants.are_quiet()
    }

    /// Is the job live?
    pub fn has_job(&self, job: JobId) -> bool {
        self.jobs.contains_key(&job)
    }

    /// Is this the same request again as the live job of its name?
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] where it asks for something else.
    pub fn check_repeat(&self, job: &Job) -> Result<()> {
        let before = self.jobs.get(&job.id).and_then(|entry| entry.job.idempotency.as_deref());
        check_repeat(job, before)
    }

    /// How many jobs of its lane go before this one; `None` where it is not waiting.
    pub fn position(&self, job: JobId) -> Option<usize> {
        let entry = self.jobs.get(&job)?;
        self.lanes.ahead(&entry.lane(), &entry.place)
    }

    /// Takes one input and appends what is to be done to `out`. The effects are to be carried out in their order.
    pub fn on(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        if self.frozen {
            // What was handed to the store is still told as it was written.
            if let Input::Recorded { n, result } = input {
                self.recorded(now, n, result, out);
            }
            return;
        }
        self.tenants.turn_the_day(now.wall, &mut self.view);
        match input {
            Input::Submit { job } => self.submit(now, job, out),
            Input::Cancel { job } => self.end(now, job, Outcome::Cancelled, out),
            Input::Detach { job } => self.detach(job),
            Input::Recorded { n, result } => self.recorded(now, n, result, out),
            Input::Store { fault } => self.store(now, fault, out),
            Input::Placed { ticket, answer } => self.placed(now, ticket, answer, out),
            Input::AttemptEnded { lease, end } => self.attempt_ended(now, lease, end, out),
            Input::Silent { lease, silence } => self.silent(now, lease, silence, out),
            Input::Heard { lease } => self.heard(lease, out),
            Input::Spawned { worker, result } => self.spawned(now, worker, result, out),
            Input::Stopped { worker } => self.stopped(now, worker, out),
            Input::ProvisionProgress { hive, model } => self.provision_progress(now, hive, model),
            Input::Provisioned { hive, model, result } => {
                self.provisioned(now, hive, model, result, out)
            }
            Input::Probed { worker, result } => self.probed(now, worker, result, out),
            Input::Connected { worker, result } => self.connected(now, worker, result, out),
            Input::Hive { hive, fact } => self.hive(now, hive, fact, out),
            Input::Restore { snapshot } => self.restore(now, self.understood(*snapshot), out),
            Input::Command { n, command } => self.command(now, n, command, out),
            Input::PolicyChanged => self.wake_all(),
            Input::Freeze => return self.freeze(now, out),
            Input::Tick => {}
        }
        while let Some(alarm) = self.timers.pop(now.at) {
            self.alarm(now, alarm, out);
        }
        while let Some(model) = self.wake.pop_first() {
            self.rescue(now, &model, out);
            self.pump(now, &model, out);
        }
        let has_work = self.lanes.waiting() > 0 || self.optimiser.has_upkeep();
        if has_work && !self.timers.is_armed(&Alarm::Optimise) {
            self.timers.arm(now.at + self.settings.optimise_interval, Alarm::Optimise);
        } else if !has_work {
            self.timers.disarm(&Alarm::Optimise);
        }
        if self.draining && !self.drained && self.jobs.is_empty() {
            self.drained = true;
            out.push(Effect::Drained);
        }
    }

    fn alarm(&mut self, now: Now, alarm: Alarm, out: &mut Out) {
        match alarm {
            Alarm::Job(JobAlarm::QueueWait, job) => self.queue_wait_over(now, job, out),
            Alarm::Job(JobAlarm::Run, job) => self.run_over(now, job, out),
            Alarm::Job(JobAlarm::Deadline, job) => self.deadline_over(now, job, out),
            Alarm::Job(JobAlarm::Retry, job) => self.requeue(job),
            Alarm::Job(JobAlarm::Ending, job) => self.end_overdue(now, job, out),
            Alarm::LostEnd(n) => self.lost_end_overdue(n, out),
            Alarm::Abort(lease) => self.abort_overdue(now, lease, out),
            Alarm::Spawn(worker) => self.spawn_overdue(now, worker, out),
            Alarm::Probe(worker) => self.ask(worker, out),
            Alarm::Settle(worker) => self.settled(worker),
            Alarm::Provision(hive, model) => self.provision_overdue(now, hive, model, out),
            Alarm::Respawn(model) => self.wake_model(&model),
            Alarm::HiveLost(hive) => self.hive_lost(now, &hive, out),
            Alarm::Optimise => {
                self.optimise(now, out);
                self.wake_all();
            }
        }
    }

    fn waiting(&self) -> usize {
        self.lanes.waiting() + self.in_backoff.iter().map(BTreeSet::len).sum::<usize>()
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Something changed that may help any job of this model: every parked lane of it is asked about again.
    fn wake_model(&mut self, model: &ModelRef) {
        self.lanes.wake_model(model);
        self.wake.insert(model.clone());
    }

    fn wake_all(&mut self) {
        for model in self.lanes.models() {
            self.wake_model(&model);
        }
    }

    /// All tenants that were set up, by name, with what they have used today.
    pub fn tenants(&self) -> Vec<TenantRecord> {
        self.tenants.records().collect()
    }

    /// One of them.
    pub fn tenant(&self, tenant: &TenantId) -> Option<TenantRecord> {
        self.tenants.record(tenant)
    }

    /// Limits are recorded in the words of whoever set them, and hold by what those mean.
    fn understood(&self, mut snapshot: Snapshot) -> Snapshot {
        for tenant in &mut snapshot.tenants {
            tenant.limits = std::mem::take(&mut tenant.limits).with_references(&self.aliases);
        }
        snapshot
    }
}
