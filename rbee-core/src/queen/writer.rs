//! The task through which everything is written to the registry, in order, many changes at a time.
//!
//! While the store fails, the waiter for a record gets the error at once, except for the end of a job: ends, and
//! records without a waiter, are kept in a backlog and written in order once the store can be written again. It is
//! retried with growing delays. Ends that the registry can keep outside the store in the meantime count as recorded.
//! The engine is notified when the store fails and when it is back; no job is admitted in between.

mod backlog;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::backlog::Backlog;
use super::{inbox::Inbox, log::EventLog};
use crate::{
    engine::Input,
    error::{Error, ErrorKind, Result},
    id::{Epoch, JobId},
    registry::{Change, Registry},
    within::within,
};

/// The most entries that are written together.
const GROUP: usize = 1_024;
/// The most checkpoints that wait to be written; further ones wait in their logs.
const CHECKPOINTS: usize = 1_024;
/// A store that has not answered for this long counts as failed.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The first delay before a failed store is tried again; it doubles with each try.
const RETRY: Duration = Duration::from_millis(100);
/// The longest delay if the cause may pass by itself.
const MAX_RETRY: Duration = Duration::from_secs(5);
/// The longest delay if somebody must repair the store.
const MAX_REPAIR: Duration = Duration::from_secs(30);
/// How long a failing store is retried at the end of the queen.
const LAST_TRIES: Duration = Duration::from_secs(10);
/// The most jobs that are named in the log when their ends are lost.
const NAMED: usize = 20;

/// Changes that are written together.
struct WriteEntry {
    /// The number that the engine waits for.
    n: Option<u64>,
    changes: Vec<Change>,
    /// The log whose tokens that the store does not have are written with it.
    tokens: Option<Tokens>,
    _room: Option<OwnedSemaphorePermit>,
}

struct Tokens {
    job: JobId,
    log: Arc<EventLog>,
    /// They are a checkpoint: if they are not written, they wait in their log.
    is_checkpoint: bool,
    /// The index of the first of them, once they are taken from the log.
    taken: Option<u32>,
}

/// What happens to an entry that the store did not take because it fails.
enum OnFault {
    /// It is written later.
    Keep,
    /// Its waiter gets the error.
    Answer,
    /// It is created again later.
    Drop,
}

impl WriteEntry {
    fn plain(changes: Vec<Change>) -> Self {
        Self { n: None, changes, tokens: None, _room: None }
    }

    fn on_fault(&self) -> OnFault {
        let is_end = matches!(self.changes[..], [.., Change::JobEnded { .. }]);
        match (&self.tokens, self.n) {
            (Some(tokens), _) if tokens.is_checkpoint => OnFault::Drop,
            (_, Some(_)) if !is_end => OnFault::Answer,
            _ => OnFault::Keep,
        }
    }

    /// Moves its changes to the end of the list, and returns how many of its own they are, without tokens. Tokens are
    /// taken from the log only now, when those before them are in the store or are written with them.
    fn move_to(&mut self, changes: &mut Vec<Change>) -> usize {
        if let Some(tokens) = &mut self.tokens
            && !tokens.is_checkpoint
            && let Some((at, chunks)) = tokens.log.take_unsaved()
        {
            tokens.taken = Some(at);
            changes.push(Change::JobTokens { job: tokens.job, at, chunks });
        }
        let own = self.changes.len();
        changes.append(&mut self.changes);
        own
    }

    /// It was not written: takes its own changes back, and returns its tokens to their log.
    fn take_back(&mut self, own: usize, changes: &mut impl Iterator<Item = Change>) {
        if let Some(tokens) = &mut self.tokens
            && !tokens.is_checkpoint
            && let Some(at) = tokens.taken.take()
        {
            tokens.log.unsave(at);
            changes.next();
        }
        self.changes.extend(changes.take(own));
    }

    /// It will not be written: returns its tokens to their log.
    fn give_up(self) {
        if let Some(Tokens { log, taken: Some(at), .. }) = self.tokens {
            log.unsave(at);
        }
    }
}

/// The handle that takes changes. The number of changes of the engine is bounded by its jobs; checkpoints of answers
/// are taken only while there is room.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    entries: mpsc::UnboundedSender<WriteEntry>,
    room: Arc<Semaphore>,
}

impl Writer {
    /// Starts the task. It ends when every handle is dropped and everything is written; then it gives up the ownership,
    /// unless `crashed` is set, which makes this run look like one that was killed. It ends with an error if the store
    /// did not take everything.
    pub(super) fn start(
        registry: Arc<dyn Registry>,
        epoch: Epoch,
        inbox: Inbox,
        crashed: CancellationToken,
    ) -> (Self, tokio::task::JoinHandle<Result<()>>) {
        let (entries, received) = mpsc::unbounded_channel();
        let store = Store {
            registry,
            epoch,
            inbox,
            backlog: Backlog::default(),
            fault: None,
            keeps_ends: false,
            delay: RETRY,
            next_try: Instant::now(),
        };
        let task = tokio::spawn(store.run(received, crashed));
        (Self { entries, room: Arc::new(Semaphore::new(CHECKPOINTS)) }, task)
    }

    pub(super) fn write(&self, n: Option<u64>, changes: Vec<Change>) {
        let _ = self.entries.send(WriteEntry { n, ..WriteEntry::plain(changes) });
    }

    /// Writes the end of a job together with the part of its answer that the store does not have yet.
    pub(super) fn write_with_answer(
        &self,
        n: Option<u64>,
        mut changes: Vec<Change>,
        job: JobId,
        log: &Arc<EventLog>,
    ) {
        if let Some(vectors) = log.vectors() {
            changes.insert(0, Change::JobVectors { job, vectors });
        }
        let tokens = Tokens { job, log: log.clone(), is_checkpoint: false, taken: None };
        let _ = self.entries.send(WriteEntry { n, changes, tokens: Some(tokens), _room: None });
    }

    /// Hands in the tokens that the store does not have yet, if there is room; else they wait in their log.
    pub(super) fn checkpoint(&self, job: JobId, log: &Arc<EventLog>) {
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            return;
        };
        if let Some((at, chunks)) = log.take_unsaved() {
            let changes = vec![Change::JobTokens { job, at, chunks }];
            let tokens = Tokens { job, log: log.clone(), is_checkpoint: true, taken: Some(at) };
            let entry = WriteEntry {
                tokens: Some(tokens),
                _room: Some(room),
                ..WriteEntry::plain(changes)
            };
            let _ = self.entries.send(entry);
        }
    }

    /// Checks whether the store can be written, after a caller has seen it fail.
    pub(super) fn probe(&self) {
        self.write(None, Vec::new());
    }
}

/// The store, as the task sees it.
struct Store {
    registry: Arc<dyn Registry>,
    epoch: Epoch,
    inbox: Inbox,
    /// Empty while the store does not fail.
    backlog: Backlog,
    fault: Option<Error>,
    /// Ends are kept outside the store.
    keeps_ends: bool,
    delay: Duration,
    next_try: Instant,
}

impl Store {
    async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<WriteEntry>,
        crashed: CancellationToken,
    ) -> Result<()> {
        let mut entries = Vec::new();
        loop {
            let fails = self.fault.is_some();
            tokio::select! {
                received = inbox.recv_many(&mut entries, GROUP) => if received == 0 { break },
                () = tokio::time::sleep_until(self.next_try), if fails => {}
            }
            if crashed.is_cancelled() {
                return Ok(());
            }
            let entries = std::mem::take(&mut entries);
            match &self.fault {
                None => self.write(entries).await,
                Some(error) => {
                    let error = error.clone();
                    self.put_aside(entries, &error).await;
                    if Instant::now() >= self.next_try {
                        self.try_again().await;
                    }
                }
            }
        }
        if crashed.is_cancelled() {
            return Ok(());
        }
        self.end().await
    }

    /// Writes what is left, and gives up the ownership.
    async fn end(mut self) -> Result<()> {
        let until = Instant::now() + LAST_TRIES;
        while self.fault.is_some() && !self.backlog.is_empty() {
            if self.next_try > until {
                return Err(self.lost());
            }
            tokio::time::sleep_until(self.next_try).await;
            self.try_again().await;
        }
        if let Err(error) = bounded(self.registry.release(self.epoch)).await {
            tracing::warn!(%error, "the ownership of the store could not be given up; its lease runs out by itself");
        }
        Ok(())
    }

    /// The error for changes that the store did not take before the end of the queen. Ends that are kept outside the
    /// store are not lost.
    fn lost(&self) -> Error {
        let ends = self.backlog.unkept_ends();
        let why = self.fault.as_ref().map_or("", |error| error.message());
        for job in ends.iter().take(NAMED) {
            tracing::error!(%job, "the end of the job is not recorded: it runs again at the next start");
        }
        let ends = match ends.len() {
            0 => "every job that has ended stays ended".to_owned(),
            lost => {
                format!("among them the ends of {lost} jobs, which run again at the next start")
            }
        };
        let left = self.backlog.len();
        let message = format!("the store did not take the last {left} changes, {ends}: {why}");
        let error = Error::new(ErrorKind::Storage, message);
        tracing::error!(%error, "the queen ends, and not everything is recorded");
        error
    }

    async fn write(&mut self, entries: Vec<WriteEntry>) {
        let unwritten = self.write_group(entries).await;
        if let Some((rest, error)) = unwritten {
            self.fail(rest, error).await;
        }
    }

    /// Tries the oldest entries that wait. If none wait, an empty record shows whether the store can be written.
    async fn try_again(&mut self) {
        loop {
            let mut taken = self.backlog.take(GROUP);
            if taken.is_empty() {
                taken.push(WriteEntry::plain(Vec::new()));
            }
            if let Some((rest, error)) = self.write_group(taken).await {
                return self.fail(rest, error).await;
            }
            if self.backlog.is_empty() {
                self.fault = None;
                self.delay = RETRY;
                if std::mem::take(&mut self.keeps_ends)
                    && let Err(error) = bounded(self.registry.keep_ends(self.epoch, &[])).await
                {
                    tracing::debug!(%error, "ends that are recorded are still kept outside the store");
                }
                return self.inbox.input(Input::Store { fault: None });
            }
        }
    }

    /// The store did not take these entries.
    async fn fail(&mut self, rest: Vec<WriteEntry>, error: Error) {
        let longest = if error.retry_after().is_some() { MAX_RETRY } else { MAX_REPAIR };
        self.next_try = Instant::now() + self.delay;
        self.delay = (self.delay * 2).min(longest);
        self.fault = Some(error.clone());
        // Sent before anyone gets the failure of a record, so that no job is admitted that would fail too.
        self.inbox.input(Input::Store { fault: Some(error.clone()) });
        let mut taken = self.sort_out(rest, &error);
        self.keep_ends(&mut taken).await;
        self.backlog.put_back(taken);
    }

    /// Keeps ends outside the store, if the registry can, and answers them: they survive this process. Ends with tokens
    /// to write are not among them.
    async fn keep_ends(&mut self, entries: &mut [WriteEntry]) {
        let is_end = |entry: &&mut WriteEntry| {
            let is_end = matches!(entry.changes[..], [Change::JobEnded { .. }]);
            is_end && entry.n.is_some() && entry.tokens.is_none()
        };
        let mut entries: Vec<_> = entries.iter_mut().filter(is_end).collect();
        let ends: Vec<_> = entries.iter().flat_map(|entry| entry.changes.clone()).collect();
        if ends.is_empty() {
            return;
        }
        match bounded(self.registry.keep_ends(self.epoch, &ends)).await {
            Ok(()) => {
                self.keeps_ends = true;
                for entry in &mut entries {
                    self.report(entry.n.take(), Ok(()));
                }
            }
            Err(error) => tracing::debug!(%error, "ends are not kept outside the store"),
        }
    }

    /// Handles entries that arrive while the store fails.
    async fn put_aside(&mut self, entries: Vec<WriteEntry>, error: &Error) {
        let mut kept = self.sort_out(entries, error);
        self.keep_ends(&mut kept).await;
        kept.into_iter().for_each(|entry| self.backlog.push(entry));
    }

    /// Returns the entries to keep, and answers the others.
    fn sort_out(&self, entries: Vec<WriteEntry>, error: &Error) -> Vec<WriteEntry> {
        let mut kept = Vec::with_capacity(entries.len());
        for entry in entries {
            match entry.on_fault() {
                OnFault::Keep if entry.changes.is_empty() => {}
                OnFault::Keep => kept.push(entry),
                OnFault::Answer => self.report(entry.n, Err(error.clone())),
                OnFault::Drop => entry.give_up(),
            }
        }
        kept
    }

    /// Writes these entries and answers them. If the store fails, returns those that are not written, in order.
    async fn write_group(&self, entries: Vec<WriteEntry>) -> Option<(Vec<WriteEntry>, Error)> {
        let (entries, result) = self.record(entries).await;
        match result {
            Ok(()) => self.report_all(entries, &Ok(())),
            Err(error) if error.kind() == ErrorKind::Storage => return Some((entries, error)),
            Err(error) if entries.len() == 1 => self.report_all(entries, &Err(error)),
            // One row that another queen owns refuses the whole group: the others are written without it.
            Err(_) => return self.write_one_by_one(entries).await,
        }
        None
    }

    async fn write_one_by_one(&self, entries: Vec<WriteEntry>) -> Option<(Vec<WriteEntry>, Error)> {
        let mut entries = entries.into_iter();
        while let Some(entry) = entries.next() {
            let (entry, result) = self.record(vec![entry]).await;
            match result {
                Err(error) if error.kind() == ErrorKind::Storage => {
                    return Some((entry.into_iter().chain(entries).collect(), error));
                }
                result => self.report_all(entry, &result),
            }
        }
        None
    }

    /// Writes these entries together. If they are not written, they are unchanged.
    async fn record(&self, mut entries: Vec<WriteEntry>) -> (Vec<WriteEntry>, Result<()>) {
        let mut changes = Vec::with_capacity(entries.len());
        let own: Vec<_> = entries.iter_mut().map(|entry| entry.move_to(&mut changes)).collect();
        let result = bounded(self.registry.record(self.epoch, &changes)).await;
        if result.is_err() {
            let mut changes = changes.into_iter();
            for (entry, own) in entries.iter_mut().zip(own) {
                entry.take_back(own, &mut changes);
            }
        }
        (entries, result)
    }

    fn report_all(&self, entries: Vec<WriteEntry>, result: &Result<()>) {
        for entry in entries {
            self.report(entry.n, result.clone());
            if result.is_err() {
                entry.give_up();
            }
        }
    }

    fn report(&self, n: Option<u64>, result: Result<()>) {
        match (n, result) {
            (Some(n), result) => self.inbox.input(Input::Recorded { n, result }),
            (None, Err(error)) => tracing::warn!(%error, "a change was not recorded"),
            (None, Ok(())) => {}
        }
    }
}

async fn bounded<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    let answer = async { Ok(answer.await) };
    let answer = within(TIMEOUT, ErrorKind::Storage, "the store did not answer", answer).await;
    answer.map_err(|late| late.with_retry_after(MAX_RETRY))?
}
