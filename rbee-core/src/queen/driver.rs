//! Runs the engine: inputs in, effects out. Whoever sends a message runs it, one at a time: see [`inbox`](super::inbox).

mod asking;
mod commands;
mod effects;
mod freeze;
mod hives;

use std::{collections::BTreeMap, fs::File, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    active_policy::PolicyRunner,
    attempt::{Attempt, AttemptTask},
    decision_history::{DecisionHistory, HistoryEntry},
    hive_tasks::{self, HiveTasks},
    inbox::{AdmissionQuestion, Handler, Inbox, Message, Rest, Submission},
    load_progress::LoadTracker,
    log::EventLog,
    logs::Logs,
    model_locator::ModelLocator,
    monitor,
    rhythm::Rhythms,
    writer::Writer,
};
use crate::{
    cluster::WorkerState,
    engine::{
        Advice, AttemptEnd, AttemptResult, Command, CommandOutput, Effect, Engine, HiveFact, Input,
        Note, Question, Submitted,
    },
    error::{Error, ErrorKind, Result},
    event::Started,
    hive::HiveBackend,
    id::{HiveId, IdMap, JobId, LeaseId, Ticket, WorkerId},
    model_ref::ModelRef,
    scheduler::{Admission, Scheduler},
    settings::Settings,
    sim::recorded_run::RunRecorder,
    time::{Now, WallTime},
    worker::Worker,
};

use freeze::Last;
use hives::Hive;

pub(super) use freeze::interrupted;

/// What the driver shares with the tasks it starts.
pub(super) struct DriverContext {
    pub(super) inbox: Inbox,
    pub(super) writer: Writer,
    pub(super) logs: Arc<Logs>,
    pub(super) loads: LoadTracker,
    pub(super) models: ModelLocator,
    pub(super) settings: Arc<Settings>,
    pub(super) decisions: DecisionHistory,
    pub(super) kill: CancellationToken,
    /// The time at which the queen's clock was zero.
    pub(super) began: Instant,
}

/// A submitter that waits for the answer.
struct Submitter {
    log: Arc<EventLog>,
    reply: oneshot::Sender<Result<Submitted>>,
}

pub(super) struct Driver {
    engine: Engine,
    policy: PolicyRunner,
    context: DriverContext,
    workers: IdMap<WorkerId, Arc<dyn Worker>>,
    rhythms: Rhythms,
    hives: BTreeMap<HiveId, Hive>,
    attempts: IdMap<LeaseId, AttemptTask>,
    /// By job and by the number of the submission.
    submitters: BTreeMap<(JobId, u64), Submitter>,
    next_submission: u64,
    operators: IdMap<u64, oneshot::Sender<Result<CommandOutput>>>,
    next_command: u64,
    drained: Vec<oneshot::Sender<()>>,
    is_drained: bool,
    /// Records the inputs of the engine and their effects.
    recorder: Option<RunRecorder<File>>,
    /// The order to take the last turn, once it has come.
    last: Option<Last>,
    /// Empty between two messages.
    effects: Vec<Effect>,
}

impl Handler for Driver {
    fn handle(&mut self, message: Message) {
        let mut effects = std::mem::take(&mut self.effects);
        self.deal_with(message, &mut effects);
        self.effects = effects;
    }

    fn tick(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        self.turn(Input::Tick, &mut effects);
        self.effects = effects;
    }

    fn next_wake(&self) -> Option<Instant> {
        let wake = self.engine.next_wake()?;
        Some(self.context.began + Duration::from_micros(wake.as_micros()))
    }

    fn is_over(&self) -> bool {
        self.last.is_some()
    }

    fn finish(self: Box<Self>, rest: Rest) -> BoxFuture<'static, ()> {
        Box::pin(self.freeze(rest))
    }
}

impl Driver {
    pub(super) fn new(engine: Engine, policy: PolicyRunner, context: DriverContext) -> Self {
        Self {
            engine,
            policy,
            context,
            workers: IdMap::default(),
            rhythms: Rhythms::default(),
            hives: BTreeMap::new(),
            attempts: IdMap::default(),
            submitters: BTreeMap::new(),
            next_submission: 0,
            operators: IdMap::default(),
            next_command: 0,
            drained: Vec::new(),
            is_drained: false,
            recorder: None,
            last: None,
            effects: Vec::new(),
        }
    }

    /// Records the run in this file.
    pub(super) fn recorded_by(mut self, recorder: Option<RunRecorder<File>>) -> Self {
        self.recorder = recorder;
        self
    }

    fn now(&self) -> Now {
        Now { at: super::time_since(self.context.began), wall: WallTime::now() }
    }

    /// Handles one input, and everything that follows from it at once. It terminates, because every answer of the
    /// policy moves a job or parks a lane.
    fn turn(&mut self, input: Input, effects: &mut Vec<Effect>) {
        self.tell_engine(input, effects);
        self.carry_out_all(effects);
    }

    /// Passes an input to the engine. Every input goes through here.
    fn tell_engine(&mut self, input: Input, effects: &mut Vec<Effect>) {
        let now = self.now();
        let Some(recorder) = &mut self.recorder else {
            return self.engine.on(now, input, effects);
        };
        let before = effects.len();
        recorder.input(now, &input);
        self.engine.on(now, input, effects);
        recorder.effects(&effects[before..]);
        if let Some(why) = recorder.stopped() {
            tracing::warn!(why, "the run is no longer recorded");
            self.recorder = None;
        }
    }

    /// Records the question that the policy is about to get.
    fn record_question(&mut self, ticket: Ticket) {
        if let Some(recorder) = &mut self.recorder {
            recorder.asked(ticket);
        }
    }

    fn carry_out_all(&mut self, effects: &mut Vec<Effect>) {
        while !effects.is_empty() {
            for effect in std::mem::take(effects) {
                self.carry_out(effect, effects);
            }
        }
    }

    fn deal_with(&mut self, message: Message, effects: &mut Vec<Effect>) {
        match message {
            Message::Advised { ticket, advice, admission } => {
                self.advised(ticket, advice, admission, effects);
                self.carry_out_all(effects);
            }
            Message::Input(input) => {
                self.watch_input(&input);
                self.turn(input, effects);
            }
            Message::Submit(submission) => {
                let submission = self.await_answer(submission);
                self.turn(Input::Submit(submission), effects);
            }
            Message::SubmitAll(submissions) => {
                let submissions =
                    submissions.into_iter().map(|one| self.await_answer(one)).collect();
                self.turn(Input::SubmitAll(submissions), effects);
            }
            Message::SetPolicy { policy, version, reply } => {
                let admits = policy.admits();
                self.policy.replace(policy, version);
                let _ = reply.send(());
                // The new policy may have a place for jobs that the old one made wait.
                self.turn(Input::PolicyChanged { admits }, effects);
            }
            Message::Worker { id, worker, then } => {
                self.workers.insert(id, worker);
                self.turn(then, effects);
                // The worker was given up in the meantime: the handle may hold all of a model's memory.
                if self.engine.view().worker(id).is_none() {
                    self.workers.remove(&id);
                }
            }
            Message::Command { command, progress, reply } => {
                self.command(command, progress, reply, effects);
            }
            Message::AddHive { hive, reported, reply } => {
                let added = self.add_hive(hive, reported, effects);
                let _ = reply.send(added);
            }
            Message::RemoveHive { hive, reply } => {
                let removed = self.remove_hive(&hive, effects);
                let _ = reply.send(removed);
            }
            Message::StopHive { hive, reply } => {
                let stopped = self.stop_hive(&hive, effects);
                let _ = reply.send(stopped);
            }
            Message::StartHive { hive, reply } => {
                let started = self.start_hive(&hive, effects);
                let _ = reply.send(started);
            }
            Message::Drain { drained } => {
                if self.is_drained {
                    let _ = drained.send(());
                } else {
                    self.drained.push(drained);
                    self.turn(Input::Command { n: 0, command: Command::Drain }, effects);
                }
            }
            Message::ReadyWorker { model, reply } => {
                let _ = reply.send(self.ready_worker(&model));
            }
            Message::Look(look) => {
                // So that the view shows the current time and day.
                self.turn(Input::Tick, effects);
                look(&self.engine);
            }
            Message::Freeze { reply, why } => self.last = Some(Last { reply, why }),
        }
    }

    fn await_answer(&mut self, submission: Submission) -> crate::engine::Submission {
        let Submission { job, has_seed, log, reply } = submission;
        self.next_submission += 1;
        let n = self.next_submission;
        self.submitters.insert((job.id, n), Submitter { log, reply });
        crate::engine::Submission { n, job, has_seed }
    }

    /// Notes what the driver itself needs to know of an input.
    fn watch_input(&mut self, input: &Input) {
        if let Input::AttemptEnded { lease, .. } = input {
            self.attempts.remove(lease);
        }
    }

    /// Hives that can be asked for the files of this model.
    fn holders(&self, model: &ModelRef) -> Vec<Arc<dyn HiveBackend>> {
        let view = self.engine.view();
        let holds = |id: &&HiveId| {
            view.hive(id).is_some_and(|hive| hive.online && hive.models.contains_key(model))
        };
        let holders = self.hives.keys().filter(holds).filter_map(|id| self.hives.get(id));
        holders.map(|hive| hive.backend.clone()).collect()
    }

    /// The least busy worker that is ready and continues text with this model.
    fn ready_worker(&self, model: &ModelRef) -> Option<Arc<dyn Worker>> {
        let ready = self.engine.view().with_model(model).filter(|worker| {
            let is_usable = worker.reachable && !worker.suspected;
            worker.state == WorkerState::Ready && is_usable && worker.info.capabilities.generate
        });
        let worker = ready.min_by_key(|worker| worker.leased)?;
        self.workers.get(&worker.info.id).cloned()
    }

    fn hive_tasks(&self, hive: &HiveId) -> Option<HiveTasks> {
        let backend = self.hives.get(hive)?.backend.clone();
        Some(HiveTasks {
            hive: backend,
            inbox: self.context.inbox.clone(),
            settings: self.context.settings.clone(),
            loads: self.context.loads.clone(),
            models: self.context.models.clone(),
            kill: self.context.kill.clone(),
        })
    }
}
