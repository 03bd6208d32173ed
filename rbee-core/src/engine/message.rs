//! What goes into the engine and what comes out of it.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Advice, PolicyHealth, Question};
use crate::{
    error::{Error, ErrorKind, Result},
    event::{Finish, Outcome, Usage},
    hive::{HiveInfo, HiveReport},
    id::{HiveId, JobId, LeaseId, TenantId, Ticket, WorkerId},
    job::Job,
    load_request::LoadRequest,
    model_on_disk::ModelOnDisk,
    model_ref::ModelRef,
    models::Damage,
    registry::{Change, Snapshot, TenantRecord},
    scheduler::{Ask, Placement},
    worker::{WorkerHealth, WorkerInfo},
    worker_spec::WorkerSpec,
};

/// One thing that happened. Inputs carry data only: handles on workers and hives stay outside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Input {
    /// A checked job asks to be admitted. Answered by [`Effect::Accept`].
    Submit(Submission),
    /// Jobs that are admitted together, or not at all. Each is answered by an [`Effect::Accept`]. A policy that admits jobs
    /// may still refuse one of them.
    SubmitAll(Vec<Submission>),
    /// Whoever made a submission no longer waits for the answer. A job that the policy still thinks about, and that nobody
    /// else waits for, does not join the queue; one that has joined it is left alone.
    Withdraw {
        /// The number of the submission.
        n: u64,
        /// Its job.
        job: JobId,
    },
    /// The client wants no more of a job, or is gone. Unknown and ended jobs are ignored.
    Cancel {
        /// The job.
        job: JobId,
    },
    /// The client lets the job go on without a reader, and can come back for it.
    Detach {
        /// The job.
        job: JobId,
    },
    /// Answers an [`Effect::Record`] that has a number.
    Recorded {
        /// The number.
        n: u64,
        /// Whether it was written.
        result: Result<()>,
    },
    /// The store failed to write, or writes again. While it cannot write no job is admitted.
    Store {
        /// Why it cannot; none once it can.
        fault: Option<Error>,
    },
    /// Answers an [`Effect::Consult`].
    Advised {
        /// The question.
        ticket: Ticket,
        /// What the policy says, or why it says nothing.
        advice: Advice,
    },
    /// Answers an [`Effect::ChooseHive`].
    HiveChosen {
        /// The question.
        ticket: Ticket,
        /// What the policy says, or why it cannot. The built-in policy decides unless this starts a worker or refuses.
        answer: Result<Placement>,
    },
    /// An attempt is over, and its stream is dropped: the slot is free.
    AttemptEnded {
        /// The attempt.
        lease: LeaseId,
        /// How it ended.
        end: AttemptEnd,
    },
    /// The stream of an attempt is silent for longer than usual. Told once, until [`Input::Heard`].
    Silent {
        /// The attempt.
        lease: LeaseId,
        /// What is known of it.
        silence: Silence,
    },
    /// The stream of an attempt that was silent has given something.
    Heard {
        /// The attempt.
        lease: LeaseId,
    },
    /// Answers an [`Effect::Spawn`].
    Spawned {
        /// The worker.
        worker: WorkerId,
        /// Who it is, or why it could not be started.
        result: Result<Arc<WorkerInfo>>,
    },
    /// Answers an [`Effect::Stop`]; the worker is gone in either case, as far as the queen is concerned.
    Stopped {
        /// The worker.
        worker: WorkerId,
    },
    /// A download goes on.
    ProvisionProgress {
        /// The hive.
        hive: HiveId,
        /// The model.
        model: ModelRef,
    },
    /// Answers an [`Effect::Provision`].
    Provisioned {
        /// The hive.
        hive: HiveId,
        /// The model.
        model: ModelRef,
        /// What it is, or why it cannot be had.
        result: Result<ModelOnDisk>,
    },
    /// Answers an [`Effect::Verify`].
    Verified {
        /// The hive.
        hive: HiveId,
        /// The model.
        model: ModelRef,
        /// The files that are damaged, or why that is not known.
        result: Result<Vec<Damage>>,
    },
    /// Answers an [`Effect::RemoveModel`].
    ModelRemoved {
        /// The hive.
        hive: HiveId,
        /// The model.
        model: ModelRef,
        /// Whether it is removed.
        result: Result<()>,
    },
    /// Answers an [`Effect::Probe`].
    Probed {
        /// The worker.
        worker: WorkerId,
        /// How it is.
        result: Result<WorkerHealth>,
    },
    /// Answers an [`Effect::Connect`].
    Connected {
        /// The worker.
        worker: WorkerId,
        /// Whether there is a handle on it now.
        result: Result<()>,
    },
    /// Something about a hive.
    Hive {
        /// The hive.
        hive: HiveId,
        /// What.
        fact: HiveFact,
    },
    /// What the store held for this queen when it opened, or what was taken over from a dead one.
    Restore {
        /// The rows.
        snapshot: Box<Snapshot>,
    },
    /// The operator wants something. Answered by [`Effect::Answer`].
    Command {
        /// The number of the answer.
        n: u64,
        /// What.
        command: Command,
    },
    /// Another policy answers from now on: everything that was told to wait is asked about again. What the one before
    /// still answers is heeded, and says nothing about this one.
    PolicyChanged {
        /// It is to be asked which jobs may join the queue.
        admits: bool,
    },
    /// The queen is going down, or its rows are another's: from now on nothing begins and nothing changes. The last records
    /// are the ends of jobs whose clients cannot come back, so that nothing is run later for nobody; after that only
    /// [`Input::Recorded`] is listened to, so that what was written is told.
    Freeze,
    /// Time has passed: [`Engine::next_wake`](super::Engine::next_wake) is reached.
    Tick,
}

/// A job that asks to be admitted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Submission {
    /// The number of the answer.
    pub n: u64,
    /// The job.
    pub job: Arc<Job>,
    /// The request has named the seed. If not, the engine draws one.
    pub has_seed: bool,
}

impl Submission {
    /// The submission of this number, of a job whose seed is fixed.
    pub fn new(n: u64, job: Arc<Job>) -> Self {
        Self { n, job, has_seed: true }
    }
}

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// The job is accepted and recorded.
    Accepted,
    /// A job that was submitted before under the same key is live: this one is not done again.
    Before,
}

/// A stream that is silent for longer than usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// How long it has been silent.
    pub lasted: Duration,
    /// The worker has accepted the run; else it has not even said that.
    pub began: bool,
    /// The silence alone shows that the worker hangs: its engine sends heartbeats, and how far apart they are is known.
    /// Else it shows that if the worker does not answer a probe either.
    pub is_evident: bool,
    /// Tokens that readers have of the job, of this attempt and those before.
    pub produced: u32,
    /// All of them have ids, so that another worker can continue.
    pub resumable: bool,
}

impl Silence {
    /// What the attempt ends with if the job goes on elsewhere.
    pub(super) fn error(&self) -> Error {
        let (kind, what) = match self.began {
            true => (ErrorKind::WorkerFault, "gave no sign"),
            false => (ErrorKind::WorkerUnreachable, "did not begin"),
        };
        let lasted = self.lasted;
        Error::new(kind, format!("the worker {what} for {lasted:.1?} (setting suspect_after)"))
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttemptEnd {
    /// How.
    pub result: AttemptResult,
    /// Tokens that readers have of the job, of this attempt and those before.
    pub produced: u32,
    /// All of them have ids, so that another worker can continue.
    pub resumable: bool,
}

/// How an attempt ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum AttemptResult {
    /// Properly.
    Done {
        /// Why it ended.
        finish: Finish,
        /// Tokens counted.
        usage: Usage,
    },
    /// With an error.
    Failed(Error),
    /// It was stopped from outside.
    Aborted,
}

/// Something about a hive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum HiveFact {
    /// It belongs to the fleet now, and is reached so; nothing else is known of it.
    Added(Box<HiveInfo>),
    /// Its whole state.
    Report(Box<HiveReport>),
    /// A worker ended that nobody had asked to stop.
    WorkerExited {
        /// The worker.
        worker: WorkerId,
        /// Why.
        why: Error,
    },
    /// It does not answer.
    Unreachable(Error),
    /// An operator has stopped it. It stays in the fleet.
    Stopped,
    /// An operator has started it, after it was stopped or [drained](Command::DrainHive).
    Started,
    /// It is taken out of the fleet.
    Removed,
}

/// What an operator can want.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Start a worker of this name.
    Load {
        /// The name, chosen by the caller.
        worker: WorkerId,
        /// Where.
        hive: HiveId,
        /// What.
        spec: WorkerSpec,
        /// Idle workers of that hive to stop first.
        evict: Vec<WorkerId>,
        /// Never evict it.
        pin: bool,
    },
    /// Start a worker of a model, or find the one that is there or on its way. The policy decides what the request leaves
    /// open, and a model that is not on the hive's disk is fetched first. Answered with [`CommandOutput::Worker`].
    LoadModel(LoadRequest),
    /// Put a model on the disk of a hive. Answered with [`CommandOutput::Model`].
    Provision {
        /// The hive.
        hive: HiveId,
        /// The model.
        model: ModelRef,
    },
    /// Read the files of a model on a hive again. Answered with [`CommandOutput::Damage`].
    Verify {
        /// The hive.
        hive: HiveId,
        /// The model.
        model: ModelRef,
    },
    /// Remove a model from the disk of a hive. Refused if a worker there has or gets it.
    RemoveModel {
        /// The hive.
        hive: HiveId,
        /// The model.
        model: ModelRef,
    },
    /// Stop every worker of a hive as soon as its runs have ended, and start none there; or start some again.
    DrainHive(HiveId, bool),
    /// Stop a worker as soon as its runs have ended.
    Unload(WorkerId),
    /// Keep a worker from being evicted, or no longer.
    Pin(WorkerId, bool),
    /// Set up a tenant, or change its limits or keys.
    PutTenant(Box<TenantRecord>),
    /// Remove a tenant that has no jobs.
    RemoveTenant(TenantId),
    /// Admit no more jobs. [`Effect::Drained`] comes when the last one has ended.
    Drain,
}

/// What an operator gets for a command.
#[derive(Clone, Debug, PartialEq)]
pub enum CommandOutput {
    /// It is carried out, and there is nothing to be said of it.
    Done,
    /// The worker that is there or on its way.
    Worker(WorkerId),
    /// The model on the disk.
    Model(Box<ModelOnDisk>),
    /// The files that are damaged.
    Damage(Vec<Damage>),
}

/// One thing to do. Effects are to be carried out in their order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Write these changes, together, in the order of the effects. If there is a number, answer with
    /// [`Input::Recorded`]. The end of a job, and what has no number, is to be written even if the store fails
    /// meanwhile: it is kept, and answered once it is written or refused for good.
    Record {
        /// The number of the answer.
        n: Option<u64>,
        /// The changes.
        changes: Vec<Change>,
    },
    /// The job of this submission joins the queue: from now on there are events of it.
    Admitted {
        /// The number of the submission.
        n: u64,
        /// The job.
        job: JobId,
    },
    /// Answers an [`Input::Submit`].
    Accept {
        /// The number of the submission.
        n: u64,
        /// The job.
        job: JobId,
        /// Accepted and recorded, or why not.
        answer: Result<Submitted>,
    },
    /// Ask the policy about the present view; answer with [`Input::Advised`].
    Consult {
        /// The number of the question.
        ticket: Ticket,
        /// What is asked, and who is.
        question: Question,
        /// The job, and what the policy may know of the moment.
        ask: Ask,
    },
    /// Ask the policy where a worker of a model is to be started for an operator, about the part of the present view that
    /// the request [allows](LoadRequest::candidates); answer with [`Input::HiveChosen`].
    ChooseHive {
        /// The question's number.
        ticket: Ticket,
        /// The question, as about a job of the model.
        ask: Ask,
        /// What the operator wants.
        request: Box<LoadRequest>,
    },
    /// The answer to this question is not carried out: it does not fit the fleet, or the job, as they are now.
    Unheeded {
        /// The question.
        ticket: Ticket,
    },
    /// How the policy in force fares has changed.
    PolicyHealth(Box<PolicyHealth>),
    /// Begin an attempt; answer with [`Input::AttemptEnded`].
    Start {
        /// The right to the slot.
        lease: LeaseId,
        /// The job.
        job: Arc<Job>,
        /// The worker.
        worker: WorkerId,
        /// 1 for the first.
        attempt: u32,
        /// How long the job had waited before its first start.
        queue_wait: Duration,
    },
    /// Stop an attempt; its end is still to be told.
    Abort {
        /// The attempt.
        lease: LeaseId,
    },
    /// The job is over: give its readers the terminal event. Nothing else writes one.
    Finish {
        /// The job.
        job: JobId,
        /// How it ended.
        outcome: Outcome,
    },
    /// Put a model on a hive's disk; answer with [`Input::Provisioned`].
    Provision {
        /// The hive.
        hive: HiveId,
        /// The model.
        model: ModelRef,
    },
    /// Read the files of a model on a hive again; answer with [`Input::Verified`].
    Verify {
        /// The hive.
        hive: HiveId,
        /// The model.
        model: ModelRef,
    },
    /// Remove a model from the disk of a hive; answer with [`Input::ModelRemoved`].
    RemoveModel {
        /// The hive.
        hive: HiveId,
        /// The model.
        model: ModelRef,
    },
    /// Start a worker; answer with [`Input::Spawned`].
    Spawn {
        /// The worker.
        worker: WorkerId,
        /// The hive.
        hive: HiveId,
        /// What to start.
        spec: WorkerSpec,
    },
    /// Stop a worker; answer with [`Input::Stopped`].
    Stop {
        /// The worker.
        worker: WorkerId,
        /// Its hive.
        hive: HiveId,
    },
    /// Get a handle on a worker that runs already; answer with [`Input::Connected`].
    Connect {
        /// The worker.
        worker: WorkerId,
        /// Its hive.
        hive: HiveId,
    },
    /// Ask a worker how it is; answer with [`Input::Probed`].
    Probe {
        /// The worker.
        worker: WorkerId,
        /// How long it may take to answer.
        within: Duration,
    },
    /// Ask a hive for its state soon: what is known of its memory is out of date.
    ReportHive {
        /// The hive.
        hive: HiveId,
    },
    /// Drop the handle on a worker.
    Forget {
        /// The worker.
        worker: WorkerId,
    },
    /// Answers an [`Input::Command`].
    Answer {
        /// The number of the command.
        n: u64,
        /// What came of it.
        result: Result<CommandOutput>,
    },
    /// Something worth a line in the log and a count.
    Note(Note),
    /// After [`Command::Drain`]: the last job has ended.
    Drained,
}

/// Something worth a line in the log and a count.
#[derive(Clone, Debug)]
pub enum Note {
    /// The policy's answer no longer fitted the state.
    StaleAnswer(Ticket),
    /// The policy failed or answered nonsense; the built-in one decides that job.
    PolicyFault(Error),
    /// The policy failed too often in a row: the built-in one decides everything until it is changed. The error is the last
    /// fault.
    PolicySuspended(Error),
    /// The policy does not admit a job.
    RefusedByPolicy(JobId, Error),
    /// A spawn was asked for although enough is being started already.
    SpawnSuppressed(ModelRef),
    /// A hive answers, for the first time or again.
    HiveOnline(HiveId),
    /// A hive does not answer any more.
    HiveOffline(HiveId, Error),
    /// A worker takes jobs: started, or found again.
    WorkerReady(WorkerId, HiveId, ModelRef),
    /// A worker that took jobs is no more.
    WorkerGone(WorkerId, HiveId, ModelRef, Error),
    /// A model's files are being put on a hive's disk.
    Provisioning(HiveId, ModelRef),
    /// A worker is being started.
    Spawning(WorkerId, HiveId, ModelRef),
    /// A worker could not be started.
    SpawnFailed(HiveId, ModelRef, Error),
    /// A worker is stopped to make room.
    Evicted(WorkerId, ModelRef),
    /// A worker is started beside others of its model, because jobs queue up.
    ScaledUp(WorkerId, HiveId, ModelRef),
    /// A worker that was started beside others is stopped: they suffice.
    ScaledBack(WorkerId, ModelRef),
    /// A worker is stopped because it was idle for as long as its model is kept alive.
    Expired(WorkerId, ModelRef),
    /// An attempt failed and the job is tried again.
    Retried(JobId, WorkerId, Error),
    /// A worker said that all its slots were taken although one was granted.
    BusyAnswer(WorkerId),
    /// There is a sign that a worker has died or hangs: it gets no jobs until it is known to be well.
    WorkerSuspected(WorkerId, Error),
    /// A worker that was suspected, or had failed, says that it is well: it gets jobs again.
    WorkerTrusted(WorkerId),
    /// A worker failed too often and gets no jobs until a probe succeeds.
    WorkerFailed(WorkerId),
    /// The readers of a job were told its end before it was recorded; the error says why, if that is known. It is
    /// recorded once the store takes it, unless the store refused it for good.
    Unrecorded(JobId, Option<Error>),
    /// The store cannot be written.
    StoreFailed(Error),
    /// The store writes again, after this long.
    StoreBack(std::time::Duration),
}
