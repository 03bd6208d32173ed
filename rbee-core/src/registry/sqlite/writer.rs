//! The only thread that writes.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::mpsc;

use super::{
    answers::{Answers, Caller, Reply, tell},
    apply,
    fault::{Fault, Refusal},
    loss_mark,
    ops::Op,
    options::SqliteOptions,
    owner_lock::OwnerLock,
    owners,
};
use crate::{
    error::{Error, Result},
    id::{Epoch, QueenId},
    registry::{Snapshot, clock::Clock, rules},
    time::WallTime,
};

/// The most waiting messages that are processed at once, unless half of the queue is more.
const GROUP: usize = 32;

/// The number of old jobs removed at once, which limits how long others wait for it.
const PURGE: usize = 128;

/// The name of the record operation in an error.
pub(super) const RECORD: &str = "record changes in";

/// A message to the writer.
pub(super) enum Message {
    Record(Record),
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
    #[cfg(test)]
    Act {
        act: Box<dyn FnOnce(&Connection) + Send>,
        reply: Reply<()>,
    },
}

/// The changes of one caller, written all or nothing.
pub(super) struct Record {
    pub(super) epoch: Epoch,
    pub(super) ops: Vec<Op>,
    pub(super) caller: Caller,
}

/// The heartbeat locks of the queens that opened here.
pub(super) type Locks = Arc<Mutex<HashMap<Epoch, OwnerLock>>>;

pub(super) fn lock(lives: &Locks) -> MutexGuard<'_, HashMap<Epoch, OwnerLock>> {
    // Every change under the lock leaves it complete.
    lives.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) struct Writer {
    db: Connection,
    path: Arc<Path>,
    clock: Clock,
    keep_ended: Duration,
    lives: Locks,
    /// True if there may be jobs that are too old.
    purging: bool,
    commits: Arc<AtomicU64>,
    synchronous: &'static str,
    /// The time of the last write of the mark, and the number of commits at that time.
    marked: (WallTime, u64),
}

impl Writer {
    pub(super) fn new(db: Connection, path: Arc<Path>, options: &SqliteOptions) -> Self {
        Self {
            db,
            path,
            clock: options.clock.clone(),
            keep_ended: options.keep_ended,
            lives: Locks::default(),
            purging: false,
            commits: Arc::default(),
            synchronous: options.durability.synchronous(),
            marked: (WallTime::default(), 0),
        }
    }

    /// The counter of the transactions with records.
    pub(super) fn commits(&self) -> Arc<AtomicU64> {
        self.commits.clone()
    }

    /// The heartbeat locks.
    pub(super) fn lives(&self) -> Locks {
        self.lives.clone()
    }

    /// Runs until the registry is dropped and every accepted message is answered.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        let mut inbox = Vec::with_capacity(GROUP);
        let mut records = Vec::with_capacity(GROUP);
        loop {
            let must_wait = !self.purging || !queue.is_empty() || queue.is_closed();
            // At most half of a long queue, so that there is work while the answered callers prepare their next
            // messages: after a group of all messages, the writer would wait for them.
            let group = GROUP.max(queue.len() / 2);
            if must_wait && queue.blocking_recv_many(&mut inbox, group) == 0 {
                break;
            }
            for message in inbox.drain(..) {
                if let Message::Record(record) = message {
                    records.push(record);
                } else {
                    self.write(&mut records);
                    self.answer(message);
                }
            }
            self.write(&mut records);
            if self.purging {
                self.purge();
            }
        }
    }

    fn answer(&mut self, message: Message) {
        match message {
            Message::Record(record) => self.write(&mut vec![record]),
            Message::Open { queen, lease, reply } => {
                let opened = self.open(&queen, lease);
                tell(reply, self.named(opened, "begin a run in"));
            }
            Message::Renew { epoch, reply } => {
                let renewed = self.renew(epoch);
                tell(reply, self.named(renewed, "renew a lease in"));
            }
            Message::Mark => self.mark_soon(),
            Message::Release { epoch, reply } => {
                let released = self.release(epoch);
                tell(reply, self.named(released, "release a run in"));
            }
            #[cfg(test)]
            Message::Act { act, reply } => {
                act(&self.db);
                tell(reply, Ok(()));
            }
        }
    }

    fn named<T>(&self, result: Result<T, Refusal>, operation: &str) -> Result<T> {
        result.map_err(|refusal| refusal.during(operation, &self.path))
    }

    /// Writes the records in one transaction and then answers all of their callers.
    fn write(&self, records: &mut Vec<Record>) {
        if records.is_empty() {
            return;
        }
        let mut answers = Answers::default();
        match self.commit(records) {
            Ok(results) => {
                for (record, result) in records.drain(..).zip(results) {
                    answers.add(record.caller, result);
                }
            }
            // One record may contain data that the file cannot store; the other records must not fail because of it.
            Err(Failure::Statement(_)) if records.len() > 1 => {
                for record in records.drain(..) {
                    let alone = self.commit(std::slice::from_ref(&record));
                    let result = alone
                        .map_err(|failure| self.storage(failure))
                        .and_then(|mut results| results.pop().unwrap_or(Ok(())));
                    answers.add(record.caller, result);
                }
            }
            Err(failure) => {
                let error = self.storage(failure);
                for record in records.drain(..) {
                    answers.add(record.caller, Err(error.clone()));
                }
            }
        }
        answers.send();
    }

    fn storage(&self, failure: Failure) -> Error {
        let (Failure::Statement(fault) | Failure::Transaction(fault)) = failure;
        fault.during(RECORD, &self.path)
    }

    /// Writes the permitted records, and returns the result of each record. After an error nothing was written.
    fn commit(&self, records: &[Record]) -> Result<Vec<Result<()>>, Failure> {
        let transaction = Transaction::begin(&self.db).map_err(Failure::Transaction)?;
        let mut lives = CurrentOwners::default();
        let mut results = Vec::with_capacity(records.len());
        for record in records {
            match self.apply(&mut lives, record) {
                Ok(()) => results.push(Ok(())),
                Err(Refusal::Fenced(error)) => results.push(Err(error)),
                Err(Refusal::Fault(fault)) => return Err(Failure::Statement(fault)),
            }
        }
        transaction.commit().map_err(Failure::Transaction)?;
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(results)
    }

    fn apply(&self, lives: &mut CurrentOwners, record: &Record) -> Result<(), Refusal> {
        if !lives.is_current(&self.db, record.epoch)? {
            return Err(Refusal::Fenced(rules::life_is_over(record.epoch)));
        }
        match &*record.ops {
            // The caller checks whether the file can be written, which only a write shows.
            [] => return Ok(owners::touch(&self.db, record.epoch)?),
            // A single change is refused before it writes, so nothing must be rolled back.
            [op] => return apply::apply(&self.db, record.epoch, op),
            _ => {}
        }
        run(&self.db, "SAVEPOINT record")?;
        let applied = record.ops.iter().try_for_each(|op| apply::apply(&self.db, record.epoch, op));
        match applied {
            Ok(()) => {}
            Err(Refusal::Fenced(_)) => run(&self.db, "ROLLBACK TO record")?,
            // The whole transaction is rolled back.
            Err(Refusal::Fault(_)) => return applied,
        }
        run(&self.db, "RELEASE record")?;
        applied
    }

    fn open(&mut self, queen: &QueenId, lease: Duration) -> Result<Snapshot, Refusal> {
        let snapshot = self.begin(queen, lease)?;
        // An epoch is assigned only after the mark contains it: an epoch that is assigned twice would fence the wrong
        // queen.
        if let Err(fault) = self.mark() {
            if let Some(life) = lock(&self.lives).remove(&snapshot.epoch) {
                life.remove(&self.path);
            }
            return Err(fault.into());
        }
        Ok(snapshot)
    }

    /// Raises the stamp of the database and writes the mark.
    fn mark(&mut self) -> Result<(), Fault> {
        let (now, commits) = (self.clock.now(), self.commits.load(Ordering::Relaxed));
        self.db.pragma_update(None, "synchronous", "FULL")?;
        let stamped = Transaction::begin(&self.db).and_then(|transaction| {
            loss_mark::stamp(&self.db, 0, now)?;
            transaction.commit()
        });
        self.db.pragma_update(None, "synchronous", self.synchronous)?;
        stamped?;
        // Under the write lock, so that of several processes the last one to stamp also writes last.
        let _lock = Transaction::begin(&self.db)?;
        if let Some(mark) = loss_mark::of(&self.db, now)? {
            loss_mark::write(&self.path, &mark)?;
        }
        self.marked = (now, commits);
        Ok(())
    }

    /// The same if something was recorded since the last mark; a failure is retried the next time.
    fn mark_soon(&mut self) {
        if self.commits.load(Ordering::Relaxed) == self.marked.1 {
            return;
        }
        if let Err(error) = self.mark() {
            tracing::warn!(path = %self.path.display(), %error, "the mark of the database is outdated");
        }
    }

    fn begin(&mut self, queen: &QueenId, lease: Duration) -> Result<Snapshot, Refusal> {
        let now = self.clock.now();
        let transaction = Transaction::begin(&self.db)?;
        let life = OwnerLock::take(&self.path)?;
        let name = life.as_ref().map(OwnerLock::name);
        let begun = owners::begin(&self.db, queen, lease, name, now, &self.path)
            .and_then(|epoch| owners::take_over(&self.db, epoch, now, &self.path))
            .and_then(|snapshot| transaction.commit().map(|()| snapshot));
        match (&begun, life) {
            (Ok(snapshot), Some(life)) => drop(lock(&self.lives).insert(snapshot.epoch, life)),
            (Err(_), Some(life)) => life.remove(&self.path),
            (_, None) => {}
        }
        let snapshot = begun?;
        self.purging = true;
        // The heartbeat locks of previous runs of the same queen end here.
        let db = &self.db;
        lock(&self.lives).retain(|epoch, _| owners::is_current(db, *epoch).unwrap_or(true));
        self.sweep();
        Ok(snapshot)
    }

    fn renew(&mut self, epoch: Epoch) -> Result<Snapshot, Refusal> {
        let now = self.clock.now();
        let transaction = Transaction::begin(&self.db)?;
        let renewed = owners::renew(&self.db, epoch, now);
        if let Err(Refusal::Fenced(_)) = renewed {
            // The run is superseded: its heartbeat has no effect any more.
            lock(&self.lives).remove(&epoch);
        }
        renewed?;
        let snapshot = owners::take_over(&self.db, epoch, now, &self.path)?;
        transaction.commit()?;
        self.purging = true;
        if now - self.marked.0 >= loss_mark::INTERVAL {
            self.mark_soon();
        }
        if !snapshot.jobs.is_empty() || !snapshot.hives.is_empty() {
            self.sweep();
        }
        Ok(snapshot)
    }

    fn release(&mut self, epoch: Epoch) -> Result<(), Refusal> {
        let transaction = Transaction::begin(&self.db)?;
        owners::release(&self.db, epoch)?;
        transaction.commit()?;
        if let Some(life) = lock(&self.lives).remove(&epoch) {
            life.remove(&self.path);
        }
        self.mark_soon();
        Ok(())
    }

    /// Removes leftover files of ended runs. Nothing depends on it, so after a failure the next call tries again.
    fn sweep(&self) {
        let swept = Transaction::begin(&self.db).and_then(|transaction| {
            owners::sweep(&self.db, &self.path)?;
            transaction.commit()
        });
        if let Err(error) = swept {
            tracing::debug!(path = %self.path.display(), %error, "cannot remove lock files");
        }
    }

    /// Removes a few of the jobs that are too old.
    fn purge(&mut self) {
        let keep = u64::try_from(self.keep_ended.as_millis()).unwrap_or(u64::MAX);
        let now = self.clock.now().as_millis();
        let before = WallTime::from_millis(now.saturating_sub(keep));
        let purged = Transaction::begin(&self.db).and_then(|transaction| {
            let more = owners::purge(&self.db, before, PURGE)?;
            transaction.commit()?;
            Ok(more)
        });
        self.purging = purged.unwrap_or_else(|error| {
            tracing::warn!(path = %self.path.display(), %error, "jobs that are too old stay for now");
            false
        });
    }
}

/// The place where a transaction failed.
enum Failure {
    /// At one of its records.
    Statement(Fault),
    /// At its beginning or its end.
    Transaction(Fault),
}

/// The runs that the current transaction has checked.
#[derive(Default)]
struct CurrentOwners(Vec<(Epoch, bool)>);

impl CurrentOwners {
    fn is_current(&mut self, db: &Connection, epoch: Epoch) -> Result<bool, Fault> {
        if let Some((_, known)) = self.0.iter().find(|(asked, _)| *asked == epoch) {
            return Ok(*known);
        }
        let current = owners::is_current(db, epoch)?;
        self.0.push((epoch, current));
        Ok(current)
    }
}

/// A transaction that holds the write lock. It is rolled back unless it is committed.
struct Transaction<'a>(&'a Connection);

impl<'a> Transaction<'a> {
    fn begin(db: &'a Connection) -> Result<Self, Fault> {
        run(db, "BEGIN IMMEDIATE")?;
        Ok(Self(db))
    }

    fn commit(self) -> Result<(), Fault> {
        run(self.0, "COMMIT")
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // SQLite itself rolls back on some errors. If the rollback fails, the next BEGIN reports it.
        if !self.0.is_autocommit() {
            let _ = run(self.0, "ROLLBACK");
        }
    }
}

fn run(db: &Connection, sql: &'static str) -> Result<(), Fault> {
    db.prepare_cached(sql)?.execute([])?;
    Ok(())
}
