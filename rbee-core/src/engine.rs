//! The state machine that makes every decision: data in, data out.
//!
//! It has no input or output, no clock, no threads and no source of randomness of its own. Time comes with every input,
//! random bits come from a seed, and the engine returns what must be done as a list of [`Effect`]s. So the same inputs
//! give the same effects: a recorded run can be replayed, and a fleet of thousands can be simulated in one thread.
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
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    cluster::ClusterView,
    error::{Error, ErrorKind, Result},
    event::Outcome,
    id::{Epoch, HiveId, IdMap, JobId, LeaseId, TenantId, WorkerId},
    job::Job,
    model_ref::ModelRef,
    priority::Priority,
    registry::{Change, Snapshot, TenantRecord},
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
mod command;
mod commands;
mod config;
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
mod note;
mod operators;
mod placing;
mod policy_breaker;
mod provisioning;
mod retry;
mod sequence;
mod spawns;
mod store;
mod suspicion;
mod tenants;
mod timers;
mod worker_flags;
mod workers;

pub use command::{Command, CommandOutput};
pub(crate) use consult::guarded;
pub use consult::{Advice, Decider, Question};
pub use hive_table::HiveSummary;
pub use message::{
    AttemptEnd, AttemptResult, Effect, HiveFact, Input, Silence, Submission, Submitted,
};
pub use note::Note;
pub use policy_breaker::PolicyHealth;
pub use store::StoreFault;

use admission::PolicyState;
use admit::Service;
use autoscaler::Autoscaler;
use config::Config;
use hive_table::HiveTable;
use lanes::{LaneId, Lanes, QueueKey};
use leases::Leases;
use memory::MemoryState;
use operators::Operators;
use policy_breaker::PolicyGeneration;
use provisioning::Downloads;
use sequence::{Randomness, Sequence};
use spawns::Spawns;
use store::Storage;
use suspicion::WorkerWatch;
use tenants::{TenantChange, Tenants};
use timers::{JobTimer, JobTimers, Timer, Timers};

/// The phase of a live job.
#[derive(Debug)]
enum Phase {
    /// In its lane.
    Queued,
    /// On a worker.
    Running(LeaseId),
    /// Still on a worker, but its attempt is being aborted; then what follows.
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
    /// The readers got it before it was recorded.
    is_told: bool,
}

/// What follows for a job when its aborted attempt has ended.
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
    /// How long it had waited when a previous run of the queen ended.
    waited_before: Duration,
    started: bool,
    /// Attempts that count, including the current one.
    attempts: u32,
    /// Attempts that do not count: see [`Engine::is_free`].
    free: u32,
    /// Workers started because of this job. Limited, so that a job that never fits cannot start workers without end.
    spawns: u32,
    avoid: Arc<BTreeSet<WorkerId>>,
    /// The worker that runs it, or ran it last.
    worker: Option<Arc<WorkerInfo>>,
    /// What a worker must match to continue the stream; `None` while nothing is produced.
    must_match: Option<Arc<str>>,
    /// A previous run of the queen accepted it.
    taken_over: bool,
    /// When its current attempt began.
    running_since: Time,
    /// Tokens that its readers have.
    produced: u32,
    /// Tokens that it was expected to use when it was admitted.
    expected: u64,
    /// What was charged to its tenant's share when it first got a slot; 0 before.
    shared: u64,
    /// The job is in the store. Until then nothing else about it is written.
    accepted: bool,
    /// It ends if its client disconnects: the client waits for it in this run of the queen and cannot come back for it.
    bound: bool,
    /// Its answer stays in the store as long as its record.
    keeps_output: bool,
    timers: JobTimers,
}

impl JobEntry {
    fn lane(&self) -> LaneId {
        LaneId::of(&self.job)
    }
}

/// How far the shutdown of the queen has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Lifecycle {
    /// It takes jobs.
    #[default]
    Running,
    /// It takes no more jobs.
    Draining,
    /// The last job has ended.
    Drained,
    /// Nothing starts and nothing changes.
    Frozen,
}

/// A record whose write something waits for.
#[derive(Debug)]
enum PendingWrite {
    Accept {
        /// The number of the submission that is answered.
        n: u64,
        job: JobId,
    },
    End(JobId),
    /// The end of a job of a previous run that cannot run again; without the outcome once its readers got it.
    LostEnd(JobId, Option<Outcome>),
    /// A change that an operator asked for, and the number of the answer.
    Tenant(u64, TenantChange),
    /// An operator's command is done: the number of the answer, and the answer.
    Done(u64, CommandOutput),
}

/// The sizes of the engine's collections. All zero if it is quiet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Live jobs.
    pub jobs: usize,
    /// Jobs in the queue.
    pub waiting: usize,
    /// Slots in use.
    pub leases: usize,
    /// Workers that are being started.
    pub starting: usize,
    /// Downloads in progress.
    pub provisioning: usize,
    /// Operators' commands in progress, without those that only wait for a record.
    pub commands: usize,
    /// Questions to the policy without an answer yet.
    pub questions: usize,
    /// Records whose write is not confirmed yet.
    pub unrecorded: usize,
    /// Timers set.
    pub timers: usize,
}

/// The state machine. See the [module](self).
#[derive(Debug)]
pub struct Engine {
    config: Config,
    view: ClusterView,
    /// Used only for lookups, so its order does not matter. Boxed, so that a job's own memory stays near the memory
    /// allocated with it and is not spread over one table for all waiting jobs.
    jobs: IdMap<JobId, Box<JobEntry>>,
    /// The job that was submitted first, as of the last time this was asked.
    oldest: Option<JobId>,
    lanes: Lanes,
    leases: Leases,
    timers: Timers,
    spawns: Spawns,
    downloads: Downloads,
    operators: Operators,
    storage: Storage,
    watch: WorkerWatch,
    hives: HiveTable,
    memory: MemoryState,
    policy: PolicyState,
    service: Service,
    tenants: Tenants,
    autoscaler: Autoscaler,
    random: Randomness,
    sequence: Sequence,
    lifecycle: Lifecycle,
}

type Out = Vec<Effect>;

impl Engine {
    /// An empty engine: no jobs, no hives. `epoch` names the ownership that its records are written under.
    pub fn new(settings: Settings, epoch: Epoch, seed: u64) -> Self {
        Self {
            autoscaler: Autoscaler::new(&settings),
            config: Config::new(settings, epoch),
            view: ClusterView::default(),
            jobs: IdMap::default(),
            oldest: None,
            lanes: Lanes::default(),
            leases: Leases::default(),
            timers: Timers::default(),
            spawns: Spawns::default(),
            downloads: Downloads::default(),
            operators: Operators::default(),
            storage: Storage::default(),
            watch: WorkerWatch::default(),
            hives: HiveTable::default(),
            memory: MemoryState::default(),
            policy: PolicyState::default(),
            service: Service::default(),
            tenants: Tenants::default(),
            random: Randomness::new(seed),
            sequence: Sequence::new(epoch),
            lifecycle: Lifecycle::default(),
        }
    }

    /// Sets the model aliases that tenants' limits, including the default ones, may use.
    #[must_use]
    pub fn with_aliases(mut self, aliases: BTreeMap<String, ModelRef>) -> Self {
        let settings = Arc::make_mut(&mut self.config.settings);
        settings.default_limits =
            std::mem::take(&mut settings.default_limits).with_references(&aliases);
        self.config.aliases = aliases;
        self
    }

    /// Sets the estimate of the memory of workers: those that it finds and the replicas that it starts.
    /// [`Sizing::default`] by default.
    #[must_use]
    pub fn with_sizing(mut self, sizing: Sizing) -> Self {
        self.config.sizing = sizing;
        self
    }

    /// Hides what is recorded of the prefixes of prompts with this secret.
    pub(crate) fn with_secret(mut self, secret: u64) -> Self {
        self.config.secret = secret;
        self
    }

    /// The cluster as it is now.
    pub fn view(&self) -> &ClusterView {
        &self.view
    }

    /// The ownership that records are written under.
    pub fn epoch(&self) -> Epoch {
        self.config.epoch
    }

    /// When the next [`Input::Tick`] is due.
    pub fn next_wake(&self) -> Option<Time> {
        if self.lifecycle == Lifecycle::Frozen { None } else { self.timers.next() }
    }

    /// The sizes of the engine's collections.
    pub fn counters(&self) -> Counters {
        Counters {
            jobs: self.jobs.len(),
            waiting: self.waiting(),
            leases: self.leases.len(),
            starting: self.spawns.len(),
            provisioning: self.downloads.len(),
            commands: self.commands(),
            questions: self.lanes.questions() + self.policy.admissions.len(),
            unrecorded: self.storage.pending.len(),
            // The upkeep of unused workers and their settling are not counted: nothing waits for them.
            timers: self.timers.len()
                - usize::from(self.waiting() == 0 && self.timers.is_armed(&Timer::Autoscale))
                - self.timers.settling(),
        }
    }

    /// The number of jobs that wait, in a queue or for a retry, by priority.
    pub fn waiting_by_priority(&self) -> [(Priority, usize); 2] {
        let backoff = |priority| self.lanes.in_backoff[lanes::class(priority)].len();
        Priority::ALL
            .map(|priority| (priority, self.lanes.waiting_at(priority) + backoff(priority)))
    }

    /// True if there is nothing to do, nothing in progress and nothing to wait for.
    pub fn is_quiet(&self) -> bool {
        self.counters() == Counters::default()
            && self.view.lanes().next().is_none()
            && self.view.workers().all(|worker| worker.leased == 0)
            && self.tenants.are_quiet()
    }

    /// True if the job is live.
    pub fn has_job(&self, job: JobId) -> bool {
        self.jobs.contains_key(&job)
    }

    /// The health of the active policy.
    pub fn policy_health(&self) -> &PolicyHealth {
        self.policy.breaker.health()
    }

    /// The number of jobs of its lane ahead of this one; `None` if it is not waiting.
    pub fn position(&self, job: JobId) -> Option<usize> {
        let entry = self.jobs.get(&job)?;
        self.lanes.ahead(&entry.lane(), &entry.key)
    }

    /// Takes one input and appends the effects to `out`. The caller must carry them out in their order.
    pub fn on(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        if self.lifecycle == Lifecycle::Frozen {
            // What was handed to the store is still reported as it was written.
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
            Input::ModelKind { model, kind } => self.view.note_kind(&model, kind),
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
                self.policy.breaker.replace(admits);
                self.wake_all();
            }
            Input::Freeze => return self.freeze(now, out),
            Input::Tick => {}
        }
        while let Some(timer) = self.timers.pop(now.at) {
            self.timer(now, timer, out);
        }
        while let Some(model) = self.lanes.wake.pop_first() {
            self.rescue(now, &model, out);
            self.pump(now, &model, out);
        }
        let has_work = self.lanes.waiting() > 0 || self.autoscaler.has_upkeep();
        if has_work && !self.timers.is_armed(&Timer::Autoscale) {
            self.timers.arm(now.at + self.config.settings.autoscale_interval, Timer::Autoscale);
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

    /// True if the engine takes no more jobs and starts no more workers.
    fn is_draining(&self) -> bool {
        self.lifecycle >= Lifecycle::Draining
    }

    fn waiting(&self) -> usize {
        self.lanes.waiting() + self.lanes.in_backoff.iter().map(BTreeSet::len).sum::<usize>()
    }

    fn number(&mut self) -> u64 {
        self.sequence.number += 1;
        self.sequence.number
    }

    /// Something changed that may help any job of this model: the policy is asked again about every parked lane of it.
    fn wake_model(&mut self, model: &ModelRef) {
        self.lanes.wake_model(model);
        self.lanes.wake.insert(model.clone());
    }

    fn wake_all(&mut self) {
        for model in self.lanes.models() {
            self.wake_model(&model);
        }
    }

    /// All tenants that were set up, by name, with their usage of today.
    pub fn tenants(&self) -> Vec<TenantRecord> {
        self.tenants.records().collect()
    }

    /// The record of one tenant.
    pub fn tenant(&self, tenant: &TenantId) -> Option<TenantRecord> {
        self.tenants.record(tenant)
    }

    /// Resolves the aliases in the limits: they are recorded as their author wrote them, and apply to the models meant.
    fn understood(&self, mut snapshot: Snapshot) -> Snapshot {
        for tenant in &mut snapshot.tenants {
            tenant.limits =
                std::mem::take(&mut tenant.limits).with_references(&self.config.aliases);
        }
        snapshot
    }
}
