//! The driver's inbox.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{active_policy::PreparedPolicy, driver::AdmissionQuestion, log::EventLog};
use crate::{
    engine::{Advice, Command, CommandOutput, Engine, Input, Submitted},
    error::{Error, ErrorKind, Result},
    hive::HiveBackend,
    id::{HiveId, Ticket, WorkerId},
    job::Job,
    progress::Progress,
    worker::Worker,
};

/// Messages of those who can wait that may lie in the inbox at once.
const ROOM: usize = 4_096;

/// A job on its way to the driver.
pub(super) struct Submission {
    pub(super) job: Arc<Job>,
    /// The request has named the seed.
    pub(super) has_seed: bool,
    /// Where the events of the job are to be.
    pub(super) log: Arc<EventLog>,
    pub(super) reply: oneshot::Sender<Result<Submitted>>,
}

/// What the driver is told.
pub(super) enum Message {
    /// For the engine.
    Input(Input),
    /// A job.
    Submit(Submission),
    /// Jobs that are admitted together, or not at all.
    SubmitAll(Vec<Submission>),
    /// The policy has answered a question, or is not going to. `admission` is set if it was whether to admit a job.
    Advised { ticket: Ticket, advice: Advice, admission: Option<Box<AdmissionQuestion>> },
    /// Another policy comes into force.
    SetPolicy { policy: PreparedPolicy, version: Option<u64>, reply: oneshot::Sender<()> },
    /// A handle on a worker, and what the engine is to know of it.
    Worker { id: WorkerId, worker: Arc<dyn Worker>, then: Input },
    /// The operator wants something.
    Command { command: Command, progress: Progress, reply: oneshot::Sender<Result<CommandOutput>> },
    /// A machine joins.
    AddHive {
        hive: Arc<dyn HiveBackend>,
        reported: oneshot::Sender<()>,
        reply: oneshot::Sender<Result<()>>,
    },
    /// A machine leaves.
    RemoveHive { hive: HiveId, reply: oneshot::Sender<Result<Arc<dyn HiveBackend>>> },
    /// A machine is stopped, and stays in the fleet.
    StopHive { hive: HiveId, reply: oneshot::Sender<Result<Arc<dyn HiveBackend>>> },
    /// A machine that was stopped or drained works again.
    StartHive { hive: HiveId, reply: oneshot::Sender<Result<()>> },
    /// Tell when the last job has ended; no more are admitted.
    Drain { drained: oneshot::Sender<()> },
    /// Somebody wants to look.
    Look(Box<dyn FnOnce(&Engine) + Send>),
    /// The last turn: stop every attempt, end what nobody can come back for, and tell every reader why. Answered with the
    /// hives.
    Freeze { reply: oneshot::Sender<Vec<Arc<dyn HiveBackend>>>, why: Error },
}

pub(super) struct Envelope {
    pub(super) message: Message,
    /// Room in the inbox, given back when the envelope is dealt with.
    _room: Option<OwnedSemaphorePermit>,
}

/// One channel, so that what one sender says first is heard first. Those who can wait do so while the inbox is full
/// ([`send`](Self::send)). Those who cannot, because they are being dropped, post at once ([`post`](Self::post)): there
/// is one such envelope for each attempt, question, record and handle, and their number is bounded already.
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

    /// Posts at once. After the driver's end nobody hears it, and nobody needs to.
    pub(super) fn send(&self, message: Message) {
        let _ = self.envelopes.send(Envelope { message, _room: None });
    }

    pub(super) fn input(&self, input: Input) {
        self.send(Message::Input(input));
    }

    /// Waits for room, then posts.
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

/// Nobody answers any more.
pub(super) fn gone() -> Error {
    Error::new(ErrorKind::ShuttingDown, "the queen is gone")
}
