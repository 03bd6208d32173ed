//! The driver's inbox.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
};

use futures_util::future::BoxFuture;
use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};

use super::{active_policy::PreparedPolicy, log::EventLog};
use crate::{
    engine::{Advice, Command, CommandOutput, Engine, Input, Submitted},
    error::{Error, ErrorKind, Result},
    hive::HiveBackend,
    id::{HiveId, Ticket, WorkerId},
    job::Job,
    model_ref::ModelRef,
    progress::Progress,
    scheduler::{Ask, Scheduler},
    worker::Worker,
};

/// The most messages in the inbox whose senders can wait.
const ROOM: usize = 4_096;
/// The most messages that one sender handles before it goes on.
const TURN: usize = 256;

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
    /// A worker that is ready and continues text with this model, the least busy one.
    ReadyWorker { model: ModelRef, reply: oneshot::Sender<Option<Arc<dyn Worker>>> },
    /// Read the engine's state.
    Look(Box<dyn FnOnce(&Engine) + Send>),
    /// The last turn: stop every attempt, end the jobs that nobody can come back for, and send every reader the reason.
    /// Answered with the hives.
    Freeze { reply: oneshot::Sender<Vec<Arc<dyn HiveBackend>>>, why: Error },
}

/// A message in the inbox.
struct Envelope {
    message: Message,
    /// A permit for a place in the inbox, returned when the envelope is handled.
    _room: Option<OwnedSemaphorePermit>,
}

/// Handles the messages of an inbox, one after the other.
pub(super) trait Handler: Send {
    /// Handles one message.
    fn handle(&mut self, message: Message);

    /// The time is come that [`next_wake`](Self::next_wake) had named.
    fn tick(&mut self);

    /// When it wants to be called next, if no message comes before.
    fn next_wake(&self) -> Option<Instant>;

    /// True after a message that ends it.
    fn is_over(&self) -> bool;

    /// Ends. The messages that come in the meantime are in the inbox.
    fn finish(self: Box<Self>, rest: Rest) -> BoxFuture<'static, ()>;
}

/// The driver's inbox: one queue, so that messages of one sender are handled in order.
///
/// A message is handled at once, by its sender, unless another sender is at it: then that one handles it too. So a
/// message costs no switch to another task or thread. A sender handles at most [`TURN`] messages; the task of the inbox
/// ([`run`](Self::run)) handles the rest, and watches the clock.
///
/// Senders that can wait do so while there are too many messages ([`send_when_room`](Self::send_when_room)). Those that
/// cannot, because they are being dropped, send at once ([`send`](Self::send)): there is one such message for each
/// attempt, question, record and handle, and their number is bounded already.
#[derive(Clone)]
pub(super) struct Inbox {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    seat: Mutex<Seat>,
    /// Wakes the task.
    task: Notify,
    room: Arc<Semaphore>,
    /// Where everything is started that handling a message starts.
    home: Handle,
}

struct Queue {
    waiting: VecDeque<Envelope>,
    is_closed: bool,
}

/// The place of the handler.
#[derive(Default)]
struct Seat {
    handler: Option<Box<dyn Handler>>,
    /// The time for which the task has set its timer.
    timer: Option<Instant>,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}

impl Inbox {
    /// An inbox whose messages wait until it [runs](Self::run), on the current runtime.
    pub(super) fn new() -> Self {
        let shared = Shared {
            queue: Mutex::new(Queue { waiting: VecDeque::new(), is_closed: false }),
            seat: Mutex::default(),
            task: Notify::new(),
            room: Arc::new(Semaphore::new(ROOM)),
            home: Handle::current(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Sends at once. After the driver's end the message is lost, which does no harm.
    pub(super) fn send(&self, message: Message) {
        self.shared.push(Envelope { message, _room: None });
    }

    pub(super) fn input(&self, input: Input) {
        self.send(Message::Input(input));
    }

    /// Waits for a place in the inbox, then sends.
    pub(super) async fn send_when_room(&self, message: Message) -> Result<()> {
        let room = match self.shared.room.clone().try_acquire_owned() {
            Ok(room) => room,
            Err(_) => self.shared.room.clone().acquire_owned().await.map_err(|_| gone())?,
        };
        if self.shared.push(Envelope { message, _room: Some(room) }) { Ok(()) } else { Err(gone()) }
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

    /// Takes no more messages, and drops those that wait.
    #[cfg(feature = "test-util")]
    pub(super) fn close(&self) {
        drop(self.shared.close());
    }

    /// The task of the inbox. When it ends or is dropped, the handler is dropped, and the inbox takes no more messages.
    pub(super) async fn run(self, handler: Box<dyn Handler>) {
        let shared = self.shared;
        lock(&shared.seat).handler = Some(handler);
        let _end = CloseOnDrop(shared.clone());
        loop {
            shared.handle_all();
            let wake = match shared.set_timer() {
                // Whoever sent in the meantime has left it to this task.
                Next::Timer(_) if !shared.is_empty() => continue,
                Next::Timer(at) => at,
                Next::Finish(handler) => return handler.finish(Rest(shared.clone())).await,
                Next::Closed => return,
            };
            let timer = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shared.task.notified() => {}
                () = timer => {
                    let mut seat = lock(&shared.seat);
                    if let Some(handler) = &mut seat.handler {
                        handler.tick();
                    }
                }
            }
        }
    }
}

/// What the task does next.
enum Next {
    /// It waits, until this time or longer.
    Timer(Option<Instant>),
    Finish(Box<dyn Handler>),
    Closed,
}

impl Shared {
    /// Returns false if the inbox is closed.
    fn push(&self, envelope: Envelope) -> bool {
        {
            let mut queue = lock(&self.queue);
            if queue.is_closed {
                return false;
            }
            queue.waiting.push_back(envelope);
        }
        self.handle_all();
        true
    }

    /// Returns the messages that wait. They must be dropped outside of the locks, because that may send.
    fn close(&self) -> VecDeque<Envelope> {
        let mut queue = lock(&self.queue);
        queue.is_closed = true;
        std::mem::take(&mut queue.waiting)
    }

    fn pop(&self) -> Option<Envelope> {
        lock(&self.queue).waiting.pop_front()
    }

    fn is_empty(&self) -> bool {
        lock(&self.queue).waiting.is_empty()
    }

    /// Handles the messages that wait, unless somebody is at it: whoever that is looks for more before it leaves.
    fn handle_all(&self) {
        while !self.is_empty() {
            match self.seat.try_lock() {
                Ok(mut seat) => {
                    if !self.handle_some(&mut seat) {
                        return;
                    }
                }
                // A handler that panicked is dropped by the task.
                Err(TryLockError::WouldBlock | TryLockError::Poisoned(_)) => return,
            }
        }
    }

    /// Returns false if the rest is for the task.
    fn handle_some(&self, seat: &mut Seat) -> bool {
        let Some(handler) = &mut seat.handler else {
            self.task.notify_one();
            return false;
        };
        let _home = self.home.enter();
        let _notice = NotifyOnPanic(&self.task);
        for _ in 0..TURN {
            if handler.is_over() {
                break;
            }
            let Some(Envelope { message, .. }) = self.pop() else { break };
            handler.handle(message);
        }
        let wake = handler.next_wake();
        let is_sooner = wake.is_some_and(|wake| seat.timer.is_none_or(|timer| wake < timer));
        let is_done = !handler.is_over() && self.is_empty();
        if is_sooner || !is_done {
            self.task.notify_one();
        }
        is_done
    }

    fn set_timer(&self) -> Next {
        // What a handler that panicked has done of its last message is unknown.
        let Ok(mut seat) = self.seat.lock() else { return Next::Closed };
        match &seat.handler {
            None => Next::Closed,
            Some(handler) if handler.is_over() => match seat.handler.take() {
                Some(handler) => Next::Finish(handler),
                None => Next::Closed,
            },
            Some(handler) => {
                seat.timer = handler.next_wake();
                Next::Timer(seat.timer)
            }
        }
    }
}

/// Wakes the task if the handler panics on the thread of a sender.
struct NotifyOnPanic<'a>(&'a Notify);

impl Drop for NotifyOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.notify_one();
        }
    }
}

/// Closes the inbox when its task ends or is dropped.
struct CloseOnDrop(Arc<Shared>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        let left = self.0.close();
        self.0.room.close();
        let handler = lock(&self.0.seat).handler.take();
        // Outside of the locks: what is dropped may send.
        drop((left, handler));
    }
}

/// The messages that come while the handler ends.
pub(super) struct Rest(Arc<Shared>);

impl Rest {
    /// The next message; waits for it.
    pub(super) async fn next(&self) -> Message {
        loop {
            if let Some(Envelope { message, .. }) = self.0.pop() {
                return message;
            }
            self.0.task.notified().await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The error after the driver's end.
pub(super) fn gone() -> Error {
    Error::new(ErrorKind::ShuttingDown, "the queen is gone")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics at the first message.
    struct Broken(Option<oneshot::Sender<()>>);

    impl Handler for Broken {
        fn handle(&mut self, _: Message) {
            panic!("a defect");
        }
        fn tick(&mut self) {}
        fn next_wake(&self) -> Option<Instant> {
            None
        }
        fn is_over(&self) -> bool {
            self.0.is_none()
        }
        fn finish(self: Box<Self>, _: Rest) -> BoxFuture<'static, ()> {
            Box::pin(async {})
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_driver_that_panics_is_dropped_and_its_queen_is_gone() {
        let inbox = Inbox::new();
        let (held, dropped) = oneshot::channel();
        let task = tokio::spawn(inbox.clone().run(Box::new(Broken(Some(held)))));
        tokio::task::yield_now().await;
        let sender = inbox.clone();
        let sent = tokio::spawn(async move { sender.input(Input::Tick) });
        assert!(sent.await.unwrap_err().is_panic());
        task.await.unwrap();
        dropped.await.unwrap_err();
        let asked = inbox.ask(|drained| Message::Drain { drained }).await;
        assert_eq!(asked.unwrap_err().kind(), ErrorKind::ShuttingDown);
    }
}
