//! The only connection that writes, and what it does.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rusqlite::{Connection, hooks::Wal};

use super::{
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

/// The number of old jobs removed at once, which limits how long others wait for it.
const PURGE: usize = 128;

/// The number of pages in the log from which on they are copied into the database. SQLite's own default.
const CHECKPOINT_PAGES: usize = 1_000;

/// The name of the record operation in an error.
pub(super) const RECORD: &str = "record changes in";

/// The changes of one caller, written all or nothing.
pub(super) struct Record {
    pub(super) epoch: Epoch,
    pub(super) ops: Vec<Op>,
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
    pub(super) purging: bool,
    busy_timeout: Duration,
    /// The number of pages in the log.
    log_pages: Arc<AtomicUsize>,
    commits: Arc<AtomicU64>,
    synchronous: &'static str,
    /// The time of the last write of the mark, and the number of commits at that time.
    marked: (WallTime, u64),
}

impl Writer {
    pub(super) fn new(
        mut db: Connection,
        path: Arc<Path>,
        options: &SqliteOptions,
    ) -> Result<Self, Fault> {
        let log_pages = Arc::new(AtomicUsize::new(0));
        let counter = log_pages.clone();
        // It replaces SQLite's own rule, which would wait for the disk on the thread of a caller.
        db.wal_hook(Some(move |_: &mut Wal, pages| {
            counter.store(usize::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Self {
            db,
            path,
            clock: options.clock.clone(),
            keep_ended: options.keep_ended,
            lives: Locks::default(),
            purging: false,
            commits: Arc::default(),
            synchronous: options.durability.synchronous(),
            marked: (WallTime::default(), 0),
            busy_timeout: options.busy_timeout,
            log_pages,
        })
    }

    #[cfg(test)]
    pub(super) fn connection(&self) -> &Connection {
        &self.db
    }

    /// The counter of the transactions with records.
    pub(super) fn commits(&self) -> Arc<AtomicU64> {
        self.commits.clone()
    }

    /// The heartbeat locks.
    pub(super) fn lives(&self) -> Locks {
        self.lives.clone()
    }

    pub(super) fn named<T>(&self, result: Result<T, Refusal>, operation: &str) -> Result<T> {
        result.map_err(|refusal| refusal.during(operation, &self.path))
    }

    /// Writes the records in one transaction if it can. Returns the result of each.
    pub(super) fn write(&self, records: &[Record]) -> Vec<Result<()>> {
        match self.commit(records) {
            Ok(results) => results,
            // One record may contain data that the file cannot store; the other records must not fail because of it.
            Err(Failure::Statement(_)) if records.len() > 1 => {
                records.iter().map(|record| self.write_one(record)).collect()
            }
            Err(failure) => {
                let error = self.storage(failure);
                records.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    fn write_one(&self, record: &Record) -> Result<()> {
        let alone = self.commit(std::slice::from_ref(record));
        let mut results = alone.map_err(|failure| self.storage(failure))?;
        results.pop().unwrap_or(Ok(()))
    }

    /// Writes one record, but does not wait for another process that writes: then returns `None`.
    pub(super) fn write_at_once(&self, record: &Record) -> Option<Result<()>> {
        let set_timeout = |time| self.db.busy_timeout(time).is_ok();
        if !set_timeout(Duration::ZERO) {
            return None;
        }
        let written = self.commit(std::slice::from_ref(record));
        set_timeout(self.busy_timeout);
        match written {
            Err(Failure::Transaction(fault)) if fault.is_busy() => None,
            Err(failure) => Some(Err(self.storage(failure))),
            Ok(mut results) => Some(results.pop().unwrap_or(Ok(()))),
        }
    }

    /// True if the log is long enough to be copied into the database.
    pub(super) fn must_checkpoint(&self) -> bool {
        self.log_pages.load(Ordering::Relaxed) >= CHECKPOINT_PAGES
    }

    /// Copies the pages of the log into the database, as far as no reader needs the old ones. This waits for the disk.
    pub(super) fn checkpoint(&self) {
        let copied = self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        match copied {
            // The next record counts again.
            Ok(()) => self.log_pages.store(0, Ordering::Relaxed),
            Err(error) => {
                tracing::debug!(path = %self.path.display(), %error, "the log is not copied into the database");
            }
        }
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

    pub(super) fn open(&mut self, queen: &QueenId, lease: Duration) -> Result<Snapshot, Refusal> {
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
    pub(super) fn mark_soon(&mut self) {
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

    pub(super) fn renew(&mut self, epoch: Epoch) -> Result<Snapshot, Refusal> {
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

    pub(super) fn release(&mut self, epoch: Epoch) -> Result<(), Refusal> {
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
    pub(super) fn purge(&mut self) {
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
