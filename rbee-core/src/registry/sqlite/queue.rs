//! How records reach the writer.
//!
//! Its thread takes all records that wait, writes them in one transaction, and answers each caller. A record that finds
//! nothing waiting is written by its caller, on the caller's thread: the switch to another thread and back would cost
//! more than the record. That never waits for the disk or for another process: the log is copied into the database by
//! the thread alone, a lock of another process leaves the record to the thread, and so does, for some time, a write that
//! was slow.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    answers::{Answers, Caller, Reply, tell},
    durability::Durability,
    writer::{Record, Writer},
};
use crate::{
    error::Result,
    id::{Epoch, QueenId},
    registry::Snapshot,
};

/// The most messages that wait for the writer; more callers wait until there is a free slot.
const WAITING: usize = 256;

/// The most waiting messages that are processed at once, unless half of the queue is more.
const GROUP: usize = 32;

/// A record that took its caller's thread for longer than this shows that the disk is slow.
const SLOW: Duration = Duration::from_millis(4);
/// For how long the thread writes then.
const SLOW_FOR: Duration = Duration::from_secs(1);

/// A message to the writer's thread.
pub(super) enum Message {
    Record(Record, Caller),
    Open {
        queen: QueenId,
        lease: Duration,
        reply: Reply<Snapshot>,
    },
    Renew {
        epoch: Epoch,
        reply: Reply<Snapshot>,
    },
    Release {
        epoch: Epoch,
        reply: Reply<()>,
    },
    /// Update the mark.
    Mark,
    /// Copy the log into the database.
    Checkpoint,
    #[cfg(test)]
    Act {
        act: Box<dyn FnOnce(&rusqlite::Connection) + Send>,
        reply: Reply<()>,
    },
}

/// A message that waits, or is being processed.
pub(super) struct Queued {
    message: Message,
    waiting: Waiting,
}

/// Counts one message, until it is dropped.
struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// The sending end. The thread ends when every clone is dropped.
#[derive(Clone)]
pub(super) struct Queue {
    messages: mpsc::Sender<Queued>,
    waiting: Arc<AtomicUsize>,
}

/// A [`Queue`] that does not keep the thread running.
#[derive(Clone)]
pub(super) struct WeakQueue {
    messages: mpsc::WeakSender<Queued>,
    waiting: Arc<AtomicUsize>,
}

impl Queue {
    pub(super) fn new() -> (Self, mpsc::Receiver<Queued>) {
        let (messages, received) = mpsc::channel(WAITING);
        (Self { messages, waiting: Arc::default() }, received)
    }

    pub(super) fn downgrade(&self) -> WeakQueue {
        WeakQueue { messages: self.messages.downgrade(), waiting: self.waiting.clone() }
    }

    fn queued(&self, message: Message) -> Queued {
        self.waiting.fetch_add(1, Ordering::Acquire);
        Queued { message, waiting: Waiting(self.waiting.clone()) }
    }

    /// Waits for a place. Returns false if the thread has ended.
    pub(super) async fn send(&self, message: Message) -> bool {
        self.messages.send(self.queued(message)).await.is_ok()
    }

    /// True if no message waits or is being processed.
    fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }
}

impl WeakQueue {
    /// Asks for a new mark, unless the thread has ended.
    pub(super) fn mark(&self) {
        if let Some(messages) = self.messages.upgrade() {
            let queue = Queue { messages, waiting: self.waiting.clone() };
            let _ = queue.messages.blocking_send(queue.queued(Message::Mark));
        }
    }
}

/// The writer, shared by its thread and the callers that write themselves.
pub(super) struct SharedWriter {
    writer: Mutex<Writer>,
    /// Whether callers may write themselves.
    at_once: bool,
    slow_until: Mutex<Option<Instant>>,
}

impl SharedWriter {
    pub(super) fn new(writer: Writer, durability: Durability) -> Self {
        // Otherwise every record waits for the disk.
        let at_once = durability == Durability::ProcessCrash;
        Self { writer: Mutex::new(writer), at_once, slow_until: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        // A transaction that a panic has cut off is rolled back.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a record now, on this thread. Gives it back if it must go through the queue.
    pub(super) fn write_at_once(
        &self,
        queue: &Queue,
        record: Record,
    ) -> Result<Result<()>, Record> {
        if !self.at_once || !queue.is_idle() || self.is_slow() {
            return Err(record);
        }
        let writer = match self.writer.try_lock() {
            Ok(writer) => writer,
            Err(TryLockError::WouldBlock | TryLockError::Poisoned(_)) => return Err(record),
        };
        let began = Instant::now();
        let Some(result) = writer.write_at_once(&record) else { return Err(record) };
        if began.elapsed() > SLOW {
            *self.slow_until.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(began + SLOW_FOR);
        }
        if writer.must_checkpoint() {
            // If there is no room, somebody else asks after a later record.
            let _ = queue.messages.try_send(queue.queued(Message::Checkpoint));
        }
        Ok(result)
    }

    fn is_slow(&self) -> bool {
        let mut until = self.slow_until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_some_and(|until| until <= Instant::now()) {
            *until = None;
        }
        until.is_some()
    }

    /// The thread. Runs until the registry is dropped and every accepted message is answered.
    pub(super) fn run(&self, mut queue: mpsc::Receiver<Queued>) {
        let mut inbox = Vec::with_capacity(GROUP);
        let (mut records, mut callers) = (Vec::with_capacity(GROUP), Vec::with_capacity(GROUP));
        let mut processed = Vec::with_capacity(GROUP);
        let mut purging = false;
        loop {
            let must_wait = !purging || !queue.is_empty() || queue.is_closed();
            // At most half of a long queue, so that there is work while the answered callers prepare their next
            // messages: after a group of all messages, the writer would wait for them.
            let group = GROUP.max(queue.len() / 2);
            if must_wait && queue.blocking_recv_many(&mut inbox, group) == 0 {
                break;
            }
            let mut writer = self.lock();
            for Queued { message, waiting } in inbox.drain(..) {
                processed.push(waiting);
                if let Message::Record(record, caller) = message {
                    records.push(record);
                    callers.push(caller);
                } else {
                    write(&writer, &mut records, &mut callers);
                    answer(&mut writer, message);
                }
            }
            write(&writer, &mut records, &mut callers);
            if writer.must_checkpoint() {
                writer.checkpoint();
            }
            if writer.purging {
                writer.purge();
            }
            purging = writer.purging;
            drop(writer);
            processed.clear();
        }
    }
}

/// Writes the records, and answers all of their callers.
fn write(writer: &Writer, records: &mut Vec<Record>, callers: &mut Vec<Caller>) {
    if records.is_empty() {
        return;
    }
    let mut answers = Answers::default();
    for (caller, result) in callers.drain(..).zip(writer.write(records)) {
        answers.add(caller, result);
    }
    records.clear();
    answers.send();
}

fn answer(writer: &mut Writer, message: Message) {
    match message {
        Message::Record(record, caller) => write(writer, &mut vec![record], &mut vec![caller]),
        Message::Open { queen, lease, reply } => {
            let opened = writer.open(&queen, lease);
            tell(reply, writer.named(opened, "begin a run in"));
        }
        Message::Renew { epoch, reply } => {
            let renewed = writer.renew(epoch);
            tell(reply, writer.named(renewed, "renew a lease in"));
        }
        Message::Mark => writer.mark_soon(),
        Message::Checkpoint => writer.checkpoint(),
        Message::Release { epoch, reply } => {
            let released = writer.release(epoch);
            tell(reply, writer.named(released, "release a run in"));
        }
        #[cfg(test)]
        Message::Act { act, reply } => {
            act(writer.connection());
            tell(reply, Ok(()));
        }
    }
}
