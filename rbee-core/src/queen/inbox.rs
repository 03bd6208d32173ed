//! The driver's inbox.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{active_policy::PreparedPolicy, log::EventLog};
use crate::{
    engine::{Advice, Command, CommandOutput, Engine, Input, Submitted},
    error::{Error, ErrorKind, Result},
    hive::HiveBackend,
    id::{HiveId, Ticket, WorkerId},
    job::Job,
    progress::Progress,
    scheduler::{Ask, Scheduler},
    worker::Worker,
};

/// The most messages in the inbox whose senders can wait.
const ROOM: usize = 4_096;

/// A job on its way to the driver.
pub(super) struct Submission {
    pub(super) job: Arc<Job>,
    /// The request named the seed.
    pub(super) has_seed: bool,
    /// The log for the events of the job.
    pub(super) log: Arc<EventLog>,
    pub(super) reply: oneshot::Sender<Result<Submitted>>,
}

/// A question whether a job may join the queue, and the policy that was asked.
pub(super) struct AdmissionQuestion {
    pub(super) ask: Ask,
    pub(super) scheduler: Arc<dyn Scheduler>,
    pub(super) version: Option<u64>,
}

/// A message to the driver.
pub(super) enum Message {
    /// An input of the engine.
    Input(Input),
    /// A job.
    Submit(Submission),
    /// Jobs that are admitted all or none.
    SubmitAll(Vec<Submission>),
    /// The policy has answered a question, or never will. `admission` is set if the question was whether to admit a
    /// job.
    Advised { ticket: Ticket, advice: Advice, admission: Option<Box<AdmissionQuestion>> },
    /// Another policy comes into force.
    SetPolicy { policy: PreparedPolicy, version: Option<u64>, reply: oneshot::Sender<()> },
    /// A handle on a worker, and what the engine is to know of it.
    Worker { id: WorkerId, worker: Arc<dyn Worker>, then: Input },
    /// A command of an operator.
    Command { command: Command, progress: Progress, reply: oneshot::Sender<Result<CommandOutput>> },
    /// A hive joins.
    AddHive {
        hive: Arc<dyn HiveBackend>,
        reported: oneshot::Sender<()>,
        reply: oneshot::Sender<Result<()>>,
    },
    /// A hive leaves.
    RemoveHive { hive: HiveId, reply: oneshot::Sender<Result<Arc<dyn HiveBackend>>> },
    /// A hive is stopped, and stays in the fleet.
    StopHive { hive: HiveId, reply: oneshot::Sender<Result<Arc<dyn HiveBackend>>> },
    /// A hive that was stopped or drained works again.
    StartHive { hive: HiveId, reply: oneshot::Sender<Result<()>> },
    /// Admit no more jobs, and answer when the last one has ended.
    Drain { drained: oneshot::Sender<()> },
    /// Read the engine's state.
    Look(Box<dyn FnOnce(&Engine) + Send>),
    /// The last turn: stop every attempt, end the jobs that nobody can come back for, and send every reader the reason.
    /// Answered with the hives.
    Freeze { reply: oneshot::Sender<Vec<Arc<dyn HiveBackend>>>, why: Error },
}

pub(super) struct Envelope {
    pub(super) message: Message,
    /// A permit for a place in the inbox, returned when the envelope is handled.
    _room: Option<OwnedSemaphorePermit>,
}

/// The driver's inbox: one channel, so that messages of one sender arrive in order. Senders that can wait do so while
/// the inbox is full ([`send_when_room`](Self::send_when_room)). Those that cannot, because they are being dropped,
/// send at once ([`send`](Self::send)): there is one such envelope for each attempt, question, record and handle, and
/// their number is bounded already.
#[derive(Clone, Debug)]
pub(super) struct Inbox {
    envelopes: mpsc::UnboundedSender<Envelope>,
    room: Arc<Semaphore>,
}

pub(super) type Envelopes = mpsc::UnboundedReceiver<Envelope>;

impl Inbox {
    pub(super) fn new() -> (Self, Envelopes) {
        let (envelopes, inbox) = mpsc::unbounded_channel();
        (Self { envelopes, room: Arc::new(Semaphore::new(ROOM)) }, inbox)
    }

    /// Sends at once. After the driver's end the message is lost, which does no harm.
    pub(super) fn send(&self, message: Message) {
        let _ = self.envelopes.send(Envelope { message, _room: None });
    }

    pub(super) fn input(&self, input: Input) {
        self.send(Message::Input(input));
    }

    /// Waits for a place in the inbox, then sends.
    pub(super) async fn send_when_room(&self, message: Message) -> Result<()> {
        let room = self.room.clone().acquire_owned().await.map_err(|_| gone())?;
        self.envelopes.send(Envelope { message, _room: Some(room) }).map_err(|_| gone())
    }

    /// Sends a message that is answered, and waits for the answer.
    pub(super) async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.send_when_room(message(reply)).await?;
        answer.await.map_err(|_| gone())
    }
}

/// The error after the driver's end.
pub(super) fn gone() -> Error {
    Error::new(ErrorKind::ShuttingDown, "the queen is gone")
}
