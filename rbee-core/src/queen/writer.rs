//! Everything that is written to the registry goes through one task, in order, many changes at a time.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{log::JobLog, mailbox::Mailbox};
use crate::{Change, Epoch, Error, ErrorKind, JobId, Registry, Result, engine::Input};

/// Entries written together at the most.
const GROUP: usize = 1_024;
/// Checkpoints that may wait to be written; further ones wait in their logs.
const CHECKPOINTS: usize = 1_024;
/// After this long the store counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);

struct Entry {
    /// Who waits for it.
    n: Option<u64>,
    changes: Vec<Change>,
    /// The log whose tokens are among the changes, and from which one on: where they are not written, they are to be
    /// handed in again.
    tokens: Option<(Arc<JobLog>, u32)>,
    _room: Option<OwnedSemaphorePermit>,
}

/// Where changes are handed in. The number of those that the engine hands in is bounded by its jobs; checkpoints of
/// answers are taken only while there is room.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    entries: mpsc::UnboundedSender<Entry>,
    room: Arc<Semaphore>,
}

impl Writer {
    /// Starts the task. It ends when every handle is dropped and everything is written; then the ownership is given
    /// up, unless `crashed` says that this life is to look like one that was killed.
    pub(super) fn start(
        registry: Arc<dyn Registry>,
        epoch: Epoch,
        mailbox: Mailbox,
        crashed: CancellationToken,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (entries, inbox) = mpsc::unbounded_channel();
        let task = tokio::spawn(run(registry, epoch, inbox, mailbox, crashed));
        (Self { entries, room: Arc::new(Semaphore::new(CHECKPOINTS)) }, task)
    }

    pub(super) fn write(&self, n: Option<u64>, changes: Vec<Change>) {
        let _ = self.entries.send(Entry { n, changes, tokens: None, _room: None });
    }

    /// Writes the end of a job together with what the store does not have yet of its answer.
    pub(super) fn write_with_answer(
        &self,
        n: Option<u64>,
        mut changes: Vec<Change>,
        job: JobId,
        log: &Arc<JobLog>,
    ) {
        let tokens = log.take_unsaved().map(|(at, pieces)| {
            changes.insert(0, Change::JobTokens { job, at, pieces });
            (log.clone(), at)
        });
        if let Some(vectors) = log.vectors() {
            changes.insert(0, Change::JobVectors { job, vectors });
        }
        let _ = self.entries.send(Entry { n, changes, tokens, _room: None });
    }

    /// Hands in the tokens that the store does not have yet, if there is room; else they wait in their log.
    pub(super) fn checkpoint(&self, job: JobId, log: &Arc<JobLog>) {
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            return;
        };
        if let Some((at, pieces)) = log.take_unsaved() {
            let changes = vec![Change::JobTokens { job, at, pieces }];
            let tokens = Some((log.clone(), at));
            let _ = self.entries.send(Entry { n: None, changes, tokens, _room: Some(room) });
        }
    }
}

async fn run(
    registry: Arc<dyn Registry>,
    epoch: Epoch,
    mut inbox: mpsc::UnboundedReceiver<Entry>,
    mailbox: Mailbox,
    crashed: CancellationToken,
) {
    let mut entries = Vec::new();
    while inbox.recv_many(&mut entries, GROUP).await > 0 {
        if crashed.is_cancelled() {
            return;
        }
        write_group(&*registry, epoch, &mut entries, &mailbox).await;
    }
    if crashed.is_cancelled() {
        return;
    }
    if let Err(error) = bounded(registry.release(epoch)).await {
        tracing::warn!(%error, "the ownership of the store could not be given up; its lease runs out by itself");
    }
}

async fn write_group(
    registry: &dyn Registry,
    epoch: Epoch,
    entries: &mut Vec<Entry>,
    mailbox: &Mailbox,
) {
    let mut parts = Vec::with_capacity(entries.len());
    let mut changes = Vec::with_capacity(entries.len());
    for entry in entries.drain(..) {
        changes.extend(entry.changes);
        parts.push((entry.n, entry.tokens, changes.len()));
    }
    let result = bounded(registry.record(epoch, &changes)).await;
    // One row that is another's refuses the whole group: the others are written without it.
    let is_refused = result.as_ref().is_err_and(|error| error.kind() != ErrorKind::Storage);
    let alone = is_refused && parts.len() > 1;
    let mut from = 0;
    for (n, tokens, to) in parts {
        let result = match alone {
            true => bounded(registry.record(epoch, &changes[from..to])).await,
            false => result.clone(),
        };
        if let (Err(_), Some((log, at))) = (&result, tokens) {
            log.unsave(at);
        }
        report(mailbox, n, result);
        from = to;
    }
}

fn report(mailbox: &Mailbox, n: Option<u64>, result: Result<()>) {
    match (n, result) {
        (Some(n), result) => mailbox.input(Input::Recorded { n, result }),
        (None, Err(error)) => tracing::warn!(%error, "a change was not recorded"),
        (None, Ok(())) => {}
    }
}

async fn bounded<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    let late =
        |_| Error::new(ErrorKind::Storage, format!("the store did not answer within {PATIENCE:?}"));
    tokio::time::timeout(PATIENCE, answer).await.map_err(late)?
}
