//! The engine's inputs and effects.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    command::{Command, CommandOutput},
    consult::{Advice, Question},
    note::Note,
    policy_breaker::PolicyHealth,
};
use crate::{
    error::{Error, ErrorKind, Result},
    event::{Finish, Outcome, Usage},
    hive::{HiveInfo, HiveReport},
    id::{HiveId, JobId, LeaseId, Ticket, WorkerId},
    job::Job,
    load_request::LoadRequest,
    model_info::ModelKind,
    model_on_disk::ModelOnDisk,
    model_ref::ModelRef,
    models::Damage,
    registry::{Change, Snapshot},
    scheduler::{Ask, Placement},
    worker::{WorkerHealth, WorkerInfo},
    worker_spec::WorkerSpec,
};

/// One event for the engine. Inputs carry data only: handles on workers and hives stay outside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Input {
    /// A checked job asks to be admitted. Answered by [`Effect::Accept`].
    Submit(Submission),
    /// Jobs that are admitted all or none. Each is answered by an [`Effect::Accept`]. A policy that admits jobs may
    /// still refuse one of them.
    SubmitAll(Vec<Submission>),
    /// The submitter no longer waits for the answer. A job that the policy is still deciding about, and that nobody
    /// else waits for, does not join the queue; one that has joined it is left alone.
    Withdraw {
        /// The number of the submission.
        n: u64,
        /// Its job.
        job: JobId,
    },
    /// The client cancels a job, or has disconnected. Unknown and ended jobs are ignored.
    Cancel {
        /// The job.
        job: JobId,
    },
    /// The client lets the job run without a reader, and can come back for it.
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
    /// The store failed to write, or writes again. While it cannot write, no job is admitted.
    Store {
        /// Why it cannot write; `None` once it can.
        fault: Option<Error>,
    },
    /// Answers an [`Effect::Consult`].
    Advised {
        /// The question.
        ticket: Ticket,
        /// The policy's answer, or why there is none.
        advice: Advice,
    },
    /// Answers an [`Effect::ChooseHive`].
    HiveChosen {
        /// The question.
        ticket: Ticket,
        /// The policy's answer, or why there is none. The built-in policy decides unless this starts a worker or
        /// refuses.
        answer: Result<Placement>,
    },
    /// An attempt is over and its stream is dropped: the slot is free.
    AttemptEnded {
        /// The attempt.
        lease: LeaseId,
        /// How it ended.
        end: AttemptEnd,
    },
    /// The stream of an attempt is silent for longer than usual. Sent once, until [`Input::Heard`].
    Silent {
        /// The attempt.
        lease: LeaseId,
        /// What is known of the silence.
        silence: Silence,
    },
    /// The stream of an attempt that was silent has produced something.
    Heard {
        /// The attempt.
        lease: LeaseId,
    },
    /// Answers an [`Effect::Spawn`].
    Spawned {
        /// The worker.
        worker: WorkerId,
        /// The worker's description, or why it could not be started.
        result: Result<Arc<WorkerInfo>>,
    },
    /// Answers an [`Effect::Stop`]; for the queen the worker is gone in either case.
    Stopped {
        /// The worker.
        worker: WorkerId,
    },
    /// A download makes progress.
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
        /// The model on the disk, or why it cannot be fetched.
        result: Result<ModelOnDisk>,
    },
    /// The queen has looked at a model: what decides whether an engine can read it. The model may be on no hive.
    ModelKind {
        /// The model.
        model: ModelRef,
        /// Its kind.
        kind: ModelKind,
    },
    /// Answers an [`Effect::Verify`].
    Verified {
        /// The hive.
        hive: HiveId,
        /// The model.
        model: ModelRef,
        /// The damaged files, or why that is unknown.
        result: Result<Vec<Damage>>,
    },
    /// Answers an [`Effect::RemoveModel`].
    ModelRemoved {
        /// The hive.
        hive: HiveId,
        /// The model.
        model: ModelRef,
        /// Whether it was removed.
        result: Result<()>,
    },
    /// Answers an [`Effect::Probe`].
    Probed {
        /// The worker.
        worker: WorkerId,
        /// The worker's state.
        result: Result<WorkerHealth>,
    },
    /// Answers an [`Effect::Connect`].
    Connected {
        /// The worker.
        worker: WorkerId,
        /// Whether there is a handle on it now.
        result: Result<()>,
    },
    /// A fact about a hive.
    Hive {
        /// The hive.
        hive: HiveId,
        /// The fact.
        fact: HiveFact,
    },
    /// What the store held for this queen when it opened, or what was taken over from a dead queen.
    Restore {
        /// The rows.
        snapshot: Box<Snapshot>,
    },
    /// An operator's command. Answered by [`Effect::Answer`].
    Command {
        /// The number of the answer.
        n: u64,
        /// The command.
        command: Command,
    },
    /// Another policy answers from now on: the engine asks again about all jobs that wait. Answers of the previous
    /// policy still count, but say nothing about the health of this one.
    PolicyChanged {
        /// True if it must be asked which jobs may join the queue.
        admits: bool,
    },
    /// The queen shuts down, or another queen owns its rows: from now on nothing starts and nothing changes. The last
    /// records are the ends of jobs whose clients cannot come back, so that no later run executes them for nobody.
    /// After that the engine takes only [`Input::Recorded`], so that what was written is reported.
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
    /// The request named the seed. If false, the engine draws one.
    pub has_seed: bool,
}

impl Submission {
    /// The submission with this number, of a job whose seed is fixed.
    pub fn new(n: u64, job: Arc<Job>) -> Self {
        Self { n, job, has_seed: true }
    }
}

/// The result of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// The job is accepted and recorded.
    Accepted,
    /// A job submitted before under the same key is live: this one does not run again.
    Before,
}

/// A stream that is silent for longer than usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// How long it has been silent.
    pub lasted: Duration,
    /// The worker has accepted the run; if false, it has not even confirmed that.
    pub began: bool,
    /// The silence alone shows that the worker hangs: its engine sends heartbeats, and their interval is known. If
    /// false, the worker counts as hanging only if it does not answer a probe either.
    pub is_evident: bool,
    /// Tokens that readers have of the job, from this attempt and earlier ones.
    pub produced: u32,
    /// All of them have ids, so another worker can continue.
    pub resumable: bool,
}

impl Silence {
    /// The error that the attempt ends with if the job goes on elsewhere.
    pub(super) fn error(&self) -> Error {
        let (kind, what) = match self.began {
            true => (ErrorKind::WorkerFault, "sent nothing"),
            false => (ErrorKind::WorkerUnreachable, "did not start the run"),
        };
        let lasted = self.lasted;
        Error::new(kind, format!("the worker {what} for {lasted:.1?} (setting suspect_after)"))
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttemptEnd {
    /// The result.
    pub result: AttemptResult,
    /// Tokens that readers have of the job, from this attempt and earlier ones.
    pub produced: u32,
    /// All of them have ids, so another worker can continue.
    pub resumable: bool,
}

/// The result of an attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum AttemptResult {
    /// It completed.
    Done {
        /// Why it ended.
        finish: Finish,
        /// Tokens counted.
        usage: Usage,
        /// The stop text that ended the answer, if the worker reports it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop_text: Option<Box<str>>,
    },
    /// With an error.
    Failed(Error),
    /// It was stopped from outside.
    Aborted,
}

/// A fact about a hive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum HiveFact {
    /// It belongs to the fleet now, with this description and address; nothing else is known of it.
    Added(Box<HiveInfo>),
    /// Its full state.
    Report(Box<HiveReport>),
    /// A worker ended and nobody had asked it to stop.
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
    /// It is removed from the fleet.
    Removed,
}

/// One thing to do. The caller must carry out effects in their order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Write these changes as one batch, in the order of the effects. If there is a number, answer with
    /// [`Input::Recorded`]. The end of a job, and a record without a number, must be written even if the store fails in
    /// the meantime: it is kept, and answered once it is written or finally refused.
    Record {
        /// The number of the answer.
        n: Option<u64>,
        /// The changes.
        changes: Vec<Change>,
    },
    /// The job of this submission joins the queue: from now on it has events.
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
    /// Ask the policy about the current view; answer with [`Input::Advised`].
    Consult {
        /// The number of the question.
        ticket: Ticket,
        /// The question, and which policy is asked.
        question: Question,
        /// The job, and what the policy may know at this time.
        ask: Ask,
    },
    /// Ask the policy where to start a worker of a model for an operator, with the part of the current view that the
    /// request [allows](LoadRequest::candidates); answer with [`Input::HiveChosen`].
    ChooseHive {
        /// The number of the question.
        ticket: Ticket,
        /// The question, as for a job of the model.
        ask: Ask,
        /// The operator's request.
        request: Box<LoadRequest>,
    },
    /// The answer to this question is not carried out: it no longer fits the fleet or the job.
    Unheeded {
        /// The question.
        ticket: Ticket,
    },
    /// The health of the active policy has changed.
    PolicyHealth(Box<PolicyHealth>),
    /// Begin an attempt; answer with [`Input::AttemptEnded`].
    Start {
        /// The lease of the slot.
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
    /// Stop an attempt; its end is still to be reported.
    Abort {
        /// The attempt.
        lease: LeaseId,
    },
    /// The job is over: send its readers the terminal event. Nothing else writes one.
    Finish {
        /// The job.
        job: JobId,
        /// The outcome.
        outcome: Outcome,
    },
    /// Fetch a model to a hive's disk; answer with [`Input::Provisioned`].
    Provision {
        /// The hive.
        hive: HiveId,
        /// The model.
        model: ModelRef,
    },
    /// Check the files of a model on a hive; answer with [`Input::Verified`].
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
    /// Ask a worker for its state; answer with [`Input::Probed`].
    Probe {
        /// The worker.
        worker: WorkerId,
        /// The timeout.
        within: Duration,
    },
    /// Ask a hive for its state soon: the known state of its memory is out of date.
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
        /// The result.
        result: Result<CommandOutput>,
    },
    /// An event for the log and the metrics.
    Note(Note),
    /// After [`Command::Drain`]: the last job has ended.
    Drained,
}
