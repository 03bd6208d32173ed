//! The state machine that makes every decision: data in, data out.
//!
//! It has no input or output, no clock, no threads and no chance of its own. Time comes with every input, random bits
//! come from a seed, and what is to be done comes out as a list of [`Effect`]s. So the same inputs give the same
//! effects: a recorded run can be replayed, and a fleet of thousands simulated in one thread.
//!
//! ```
//! use rbee_core::{engine::{Engine, Input}, id::Epoch, time::Now, Settings};
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
    cluster::ClusterView,
    error::{Error, ErrorKind, Result},
    event::Outcome,
    id::{Epoch, HiveId, JobId, LeaseId, TenantId, WorkerId},
    job::Job,
    model_ref::ModelRef,
    priority::Priority,
    registry::{Change, Snapshot, TenantRecord},
    rng::Rng,
    settings::Settings,
    sizing::Sizing,
    time::{Now, Time},
    worker::WorkerInfo,
    worker_spec::WorkerSpec,
};

mod admission;
mod admit;
mod autoscaler;
mod batch;
mod commands;
mod consult;
mod ending;
mod freeze;
mod hive_table;
mod hives;
mod jobs;
mod lanes;
mod leases;
mod load_model;
mod memory;
mod message;
mod operators;
mod placing;
mod policy_breaker;
mod provisioning;
mod retry;
mod spawns;
mod store;
mod suspicion;
mod tenants;
mod timers;
mod worker_flags;
mod workers;

pub(crate) use consult::guarded;
pub use consult::{Advice, Decider, Question};
pub use hive_table::HiveSummary;
pub use message::{
    AttemptEnd, AttemptResult, Command, CommandOutput, Effect, HiveFact, Input, Note, Silence,
    Submission, Submitted,
};
pub use policy_breaker::PolicyHealth;
pub use store::StoreFault;

use admission::Admissions;
use admit::{ServiceTimes, Throughput};
use autoscaler::Autoscaler;
use hive_table::HiveTable;
use lanes::{LaneId, Lanes, QueueKey};
use leases::Leases;
use memory::{BlockedModels, MemoryReservations};
use operators::Operators;
use policy_breaker::{PolicyBreaker, PolicyGeneration};
use provisioning::Downloads;
use spawns::Spawns;
use suspicion::Suspicions;
use tenants::{TenantChange, Tenants};
use timers::{JobTimer, JobTimers, Timer, Timers};
use worker_flags::WorkerFlags;

/// Where a live job is.
#[derive(Debug)]
enum Phase {
    /// In its lane.
    Queued,
    /// On a worker.
    Running(LeaseId),
    /// On a worker still, but told to end; then what.
    Aborting(AfterAbort),
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
enum AfterAbort {
    End(Outcome),
    Retry(Error),
}

/// A live job.
#[derive(Debug)]
struct JobEntry {
    job: Arc<Job>,
    key: QueueKey,
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
    timers: JobTimers,
}

impl JobEntry {
    fn lane(&self) -> LaneId {
        LaneId::of(&self.job)
    }
}

/// How far the queen has gone down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Lifecycle {
    /// It takes jobs.
    #[default]
    Running,
    /// It takes no more jobs.
    Draining,
    /// The last job has ended.
    Drained,
    /// Nothing begins and nothing changes.
    Frozen,
}

/// A record whose writing somebody waits for.
#[derive(Debug)]
enum PendingWrite {
    Accept {
        /// The submission that is answered.
        n: u64,
        job: JobId,
    },
    End(JobId),
    /// The end of a job of an earlier life that cannot be run again; without the outcome once its readers were told.
    LostEnd(JobId, Option<Outcome>),
    /// A change that an operator wants, and the number of the answer.
    Tenant(u64, TenantChange),
    /// What an operator wants is done, and this is the number of the answer, and the answer.
    Done(u64, CommandOutput),
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
    /// Commands of operators that are under way, those that only wait for a record not counted.
    pub commands: usize,
    /// Questions to the policy that are not answered.
    pub questions: usize,
    /// Records whose writing is waited for.
    pub unrecorded: usize,
    /// Alarms set.
    pub timers: usize,
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
    jobs: HashMap<JobId, Box<JobEntry>>,
    lanes: Lanes,
    /// Jobs that wait for a retry, by priority.
    in_backoff: [BTreeSet<JobId>; 2],
    leases: Leases,
    timers: Timers,
    spawns: Spawns,
    downloads: Downloads,
    operators: Operators,
    pending_writes: BTreeMap<u64, PendingWrite>,
    /// When and with what timeout each failed worker is probed.
    probes: BTreeMap<WorkerId, u32>,
    suspicions: Suspicions,
    hives: HiveTable,
    reservations: MemoryReservations,
    /// Models with something to ask about.
    wake: BTreeSet<ModelRef>,
    blocked_on_memory: BlockedModels,
    admissions: Admissions,
    breaker: PolicyBreaker,
    throughput: Throughput,
    store_fault: Option<StoreFault>,
    tenants: Tenants,
    service_times: ServiceTimes,
    autoscaler: Autoscaler,
    /// How the memory of workers is estimated.
    sizing: Sizing,
    worker_flags: WorkerFlags,
    /// Ties, jitter and names.
    rng: Rng,
    /// The seeds of requests that name none: a stream of its own, so that the seed of a request does not depend on how
    /// the jobs before it were placed.
    seeds: Rng,
    next_number: u64,
    next_order: u64,
    lifecycle: Lifecycle,
    /// Of this life alone: see [`JobOutline`](crate::registry::JobOutline).
    secret: u64,
}

type Out = Vec<Effect>;

/// The stream of random numbers that the seeds of requests are.
const SEEDS: u64 = 1;

/// Where the order of a life's jobs begins: after that of every earlier life, ended jobs included, so that a listing is
/// in the order of submission. Leaves room for 4 billion jobs a life, in numbers that JSON carries exactly.
const fn first_order(epoch: Epoch) -> u64 {
    epoch.0 << 32
}

impl Engine {
    /// An empty one: no jobs, no hives. `epoch` names the ownership that its records are written under.
    pub fn new(settings: Settings, epoch: Epoch, seed: u64) -> Self {
        Self {
            autoscaler: Autoscaler::new(&settings),
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
            spawns: Spawns::default(),
            downloads: Downloads::default(),
            operators: Operators::default(),
            pending_writes: BTreeMap::new(),
            probes: BTreeMap::new(),
            suspicions: Suspicions::default(),
            hives: HiveTable::default(),
            reservations: MemoryReservations::default(),
            wake: BTreeSet::new(),
            blocked_on_memory: BlockedModels::default(),
            admissions: Admissions::default(),
            breaker: PolicyBreaker::default(),
            throughput: Throughput::default(),
            store_fault: None,
            tenants: Tenants::default(),
            service_times: ServiceTimes::default(),
            worker_flags: WorkerFlags::default(),
            rng: Rng::new(seed),
            seeds: Rng::stream(seed, SEEDS),
            next_number: 0,
            next_order: first_order(epoch),
            lifecycle: Lifecycle::default(),
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
        if self.lifecycle == Lifecycle::Frozen { None } else { self.timers.next() }
    }

    /// How much of everything there is.
    pub fn counters(&self) -> Counters {
        Counters {
            jobs: self.jobs.len(),
            waiting: self.waiting(),
            leases: self.leases.len(),
            starting: self.spawns.len(),
            provisioning: self.downloads.len(),
            commands: self.commands(),
            questions: self.lanes.questions() + self.admissions.len(),
            unrecorded: self.pending_writes.len(),
            // Looking after workers that nobody uses is no work that is waited for, and neither is their settling.
            timers: self.timers.len()
                - usize::from(self.waiting() == 0 && self.timers.is_armed(&Timer::Autoscale))
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

    /// How the policy in force fares.
    pub fn policy_health(&self) -> &PolicyHealth {
        self.breaker.health()
    }

    /// How many jobs of its lane go before this one; `None` where it is not waiting.
    pub fn position(&self, job: JobId) -> Option<usize> {
        let entry = self.jobs.get(&job)?;
        self.lanes.ahead(&entry.lane(), &entry.key)
    }

    /// Takes one input and appends what is to be done to `out`. The effects are to be carried out in their order.
    pub fn on(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        if self.lifecycle == Lifecycle::Frozen {
            // What was handed to the store is still told as it was written.
            if let Input::Recorded { n, result } = input {
                self.recorded(now, n, result, out);
            }
            return;
        }
        self.tenants.turn_the_day(now.wall, &mut self.view);
        match input {
            Input::Submit(submission) => self.submit(now, submission, out),
            Input::SubmitAll(submissions) => self.submit_all(now, submissions, out),
            Input::Withdraw { n, job } => self.withdraw(n, job),
            Input::Cancel { job } => self.cancel(now, job, out),
            Input::Detach { job } => self.detach(job),
            Input::Recorded { n, result } => self.recorded(now, n, result, out),
            Input::Store { fault } => self.store(now, fault, out),
            Input::HiveChosen { ticket, answer } => self.hive_chosen(now, ticket, answer, out),
            Input::Advised { ticket, advice } => self.advised(now, ticket, advice, out),
            Input::AttemptEnded { lease, end } => self.attempt_ended(now, lease, end, out),
            Input::Silent { lease, silence } => self.silent(now, lease, silence, out),
            Input::Heard { lease } => self.heard(lease, out),
            Input::Spawned { worker, result } => self.spawned(now, worker, result, out),
            Input::Stopped { worker } => self.stopped(now, worker, out),
            Input::ProvisionProgress { hive, model } => self.provision_progress(now, hive, model),
            Input::Provisioned { hive, model, result } => {
                self.provisioned(now, hive, model, result, out)
            }
            Input::Verified { hive, model, result } => self.verified(hive, model, result, out),
            Input::ModelRemoved { hive, model, result } => {
                self.model_removed(hive, model, result, out)
            }
            Input::Probed { worker, result } => self.probed(now, worker, result, out),
            Input::Connected { worker, result } => self.connected(now, worker, result, out),
            Input::Hive { hive, fact } => self.hive(now, hive, fact, out),
            Input::Restore { snapshot } => self.restore(now, self.understood(*snapshot), out),
            Input::Command { n, command } => self.command(now, n, command, out),
            Input::PolicyChanged { admits } => {
                self.breaker.replace(admits);
                self.wake_all();
            }
            Input::Freeze => return self.freeze(now, out),
            Input::Tick => {}
        }
        while let Some(timer) = self.timers.pop(now.at) {
            self.timer(now, timer, out);
        }
        while let Some(model) = self.wake.pop_first() {
            self.rescue(now, &model, out);
            self.pump(now, &model, out);
        }
        let has_work = self.lanes.waiting() > 0 || self.autoscaler.has_upkeep();
        if has_work && !self.timers.is_armed(&Timer::Autoscale) {
            self.timers.arm(now.at + self.settings.autoscale_interval, Timer::Autoscale);
        } else if !has_work {
            self.timers.disarm(&Timer::Autoscale);
        }
        if self.lifecycle == Lifecycle::Draining && self.jobs.is_empty() {
            self.lifecycle = Lifecycle::Drained;
            out.push(Effect::Drained);
        }
    }

    fn timer(&mut self, now: Now, timer: Timer, out: &mut Out) {
        match timer {
            Timer::Job(JobTimer::QueueWait, job) => self.queue_wait_over(now, job, out),
            Timer::Job(JobTimer::Run, job) => self.run_over(now, job, out),
            Timer::Job(JobTimer::Deadline, job) => self.deadline_over(now, job, out),
            Timer::Job(JobTimer::Retry, job) => self.requeue(job),
            Timer::Job(JobTimer::Ending, job) => self.end_overdue(now, job, out),
            Timer::LostEnd(n) => self.lost_end_overdue(n, out),
            Timer::Abort(lease) => self.abort_overdue(now, lease, out),
            Timer::Spawn(worker) => self.spawn_overdue(now, worker, out),
            Timer::Probe(worker) => self.ask(worker, out),
            Timer::Settle(worker) => self.min_loaded_elapsed(worker),
            Timer::Provision(hive, model) => self.provision_overdue(now, hive, model, out),
            Timer::Respawn(model) => self.wake_model(&model),
            Timer::HiveLost(hive) => self.hive_lost(now, &hive, out),
            Timer::Autoscale => {
                self.autoscale(now, out);
                self.wake_all();
            }
        }
    }

    /// It takes no more jobs and starts no more workers.
    fn is_draining(&self) -> bool {
        self.lifecycle >= Lifecycle::Draining
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
