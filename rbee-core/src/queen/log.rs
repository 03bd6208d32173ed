//! The log of one job: every attempt writes to it, and every reader is a cursor on it.
//!
//! So attaching, detaching, resuming and reading slowly are one mechanism: a slow reader is behind in the log and
//! delays nobody, and a reader that comes back is served from the log.

mod reader;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use crate::{
    error::{Error, ErrorKind},
    event::{EventKind, EventRef, Logprobs, Metrics, Outcome, Output, Started},
    id::{LeaseId, TenantId},
    job::EndedJob,
    registry::{JobRecord, TokenChunk},
    worker::Resume,
};

pub use reader::JobEvents;

/// The number of the `error` event of a job that was taken over from a previous run of the queen. Readers may have seen
/// more tokens in that run than are recorded, so a number right after the recorded tokens could be that of a token they
/// have seen. This one is above that of every token: tokens are counted in 32 bits.
const ERROR_AFTER_TAKE_OVER: u64 = 1 << 32;

/// What a job has produced so far, and its readers.
#[derive(Debug, Default)]
struct Inner {
    /// The attempt that holds the write lease.
    writer: Option<LeaseId>,
    started: Option<Started>,
    /// The text of all tokens, concatenated.
    text: String,
    /// The end of each token's text.
    ends: Vec<u32>,
    ids: Vec<Option<u32>>,
    /// The log probabilities of the tokens that have some, by the index of the token.
    logprobs: Vec<(u32, Box<Logprobs>)>,
    /// The memory of the log probabilities, in bytes.
    logprobs_bytes: usize,
    vectors: Option<Arc<Vec<Vec<f32>>>>,
    metrics: Option<Metrics>,
    /// How often `metrics` was set.
    measured: u32,
    end: Option<EventKind>,
    /// Why nothing more is written here although the job has not ended.
    interrupted: Option<Error>,
    /// The job was taken over from a previous run of the queen.
    taken_over: bool,
    /// The tenant of the job, for the metrics.
    tenant: Option<TenantId>,
    /// Tokens that the store has.
    saved: usize,
    /// Ordered by id.
    readers: Vec<Reader>,
    next_reader: u64,
}

/// A reader of the log.
#[derive(Debug)]
struct Reader {
    id: u64,
    /// Its waker while it waits.
    waker: Option<Waker>,
    /// It waits only for the end.
    skips: bool,
}

impl Inner {
    fn chunk(&self, index: usize) -> &str {
        let from = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.text[from..self.ends[index] as usize]
    }

    fn logprobs(&self, index: usize) -> Option<&Logprobs> {
        let place =
            self.logprobs.binary_search_by_key(&index, |(index, _)| *index as usize).ok()?;
        Some(&self.logprobs[place].1)
    }

    fn push_chunk(&mut self, id: Option<u32>, text: &str, logprobs: Option<Box<Logprobs>>) {
        if let Some(logprobs) = logprobs {
            self.logprobs_bytes += logprobs.memory_bytes();
            self.logprobs.push((u32::try_from(self.ids.len()).unwrap_or(u32::MAX), logprobs));
        }
        self.text.push_str(text);
        // The setting max_answer_bytes keeps the text far below 4 GiB.
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
        self.ids.push(id);
    }

    /// The number of numbered items between the start and the end.
    fn items(&self) -> u64 {
        self.ids.len() as u64 + u64::from(self.vectors.is_some())
    }

    /// The number of the terminal event.
    fn end_number(&self) -> u64 {
        match self.end {
            Some(EventKind::Error(_)) if self.taken_over => ERROR_AFTER_TAKE_OVER,
            _ => self.items() + 1,
        }
    }

    /// True if nothing more will be written.
    fn is_closed(&self) -> bool {
        self.end.is_some() || self.interrupted.is_some()
    }

    /// Removes and returns the wakers of readers that wait for what is written now.
    fn wakers(&mut self) -> Vec<Waker> {
        let is_over = self.is_closed();
        let waits = |reader: &&mut Reader| is_over || !reader.skips;
        self.readers.iter_mut().filter(waits).filter_map(|reader| reader.waker.take()).collect()
    }

    /// The index of this reader. It is looked up once for each token and reader.
    fn place_of(&self, id: u64) -> Option<usize> {
        self.readers.binary_search_by_key(&id, |reader| reader.id).ok()
    }

    /// Wakes this reader when something is written, or only at the end.
    fn wake(&mut self, id: u64, waker: &Waker, skips: bool) {
        let Some(at) = self.place_of(id) else { return };
        let reader = &mut self.readers[at];
        reader.skips = skips;
        match &mut reader.waker {
            Some(known) => known.clone_from(waker),
            None => reader.waker = Some(waker.clone()),
        }
    }

    /// The next event for a reader at this position, with its number.
    fn event(&self, next: u64, measured: &mut u32) -> Option<(Option<u64>, EventRef<'_>)> {
        if next == 0 {
            return match (self.started, &self.end) {
                (Some(started), _) => Some((Some(0), EventRef::Started(started))),
                // It ended and never started.
                (None, Some(end)) => Some((Some(self.end_number()), end.into())),
                (None, None) => None,
            };
        }
        if let Some(metrics) = self.metrics.filter(|_| *measured != self.measured) {
            *measured = self.measured;
            return Some((None, EventRef::Metrics(metrics)));
        }
        let index = usize::try_from(next - 1).unwrap_or(usize::MAX);
        if index < self.ids.len() {
            let (id, text) = (self.ids[index], self.chunk(index));
            let logprobs = self.logprobs(index);
            return Some((Some(next), EventRef::Token { id, text, logprobs }));
        }
        if index == self.ids.len()
            && let Some(vectors) = &self.vectors
        {
            return Some((Some(next), EventRef::Vectors(vectors)));
        }
        // A reader may be ahead, if the previous run crashed after its last checkpoint: it gets the end, too.
        self.end.as_ref().map(|end| (Some(self.end_number()), end.into()))
    }
}

/// The result of a write of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It is in the log.
    Written,
    /// Another attempt holds the write lease now, or the job has ended.
    LostWriteLease,
    /// The answer would be longer than allowed.
    TooLong,
}

#[derive(Debug, Default)]
pub(super) struct EventLog(Mutex<Inner>);

impl EventLog {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here can panic in the middle of a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log of a job of this tenant.
    pub(super) fn of_tenant(self, tenant: Option<TenantId>) -> Self {
        self.lock().tenant = tenant;
        self
    }

    /// The tenant of the job.
    pub(super) fn tenant(&self) -> Option<TenantId> {
        self.lock().tenant.clone()
    }

    /// The log of a job that a previous run of the queen had started, and that this one has taken over.
    pub(super) fn taken_over(chunks: &[TokenChunk], started: Option<Started>) -> Self {
        let log = Self::restored(chunks, started);
        log.lock().taken_over = true;
        log
    }

    /// The log of a job that has ended, as it was when it ended.
    pub(super) fn of_ended(record: &JobRecord, ended: &EndedJob) -> Self {
        let waited = ended.started_at.map(|started| started - record.submitted_at);
        let started = waited.map(|queue_wait| Started {
            worker: ended.worker,
            queue_wait,
            format: record.format,
        });
        let log = Self::restored(&record.chunks, started);
        let mut inner = log.lock();
        inner.vectors = record.vectors.clone();
        inner.taken_over = record.taken_over;
        drop(inner);
        log.close(&ended.outcome);
        log
    }

    fn restored(chunks: &[TokenChunk], started: Option<Started>) -> Self {
        let log = Self::default();
        let mut inner = log.lock();
        for chunk in chunks {
            inner.push_chunk(chunk.id, &chunk.text, chunk.logprobs.clone());
        }
        inner.saved = chunks.len();
        inner.started = started;
        drop(inner);
        log
    }

    /// Gives the attempt the write lease; the previous holder can write no more. Returns what is there already.
    pub(super) fn begin(&self, lease: LeaseId, started: Started) -> Resume {
        let mut inner = self.lock();
        inner.writer = Some(lease).filter(|_| !inner.is_closed());
        let has_tokens = !inner.ids.is_empty();
        let known = inner.started.get_or_insert(started);
        if !has_tokens {
            // As in the store: the worker of the first token counts.
            known.format = started.format;
        }
        let tokens = inner.ids.iter().map_while(|id| *id).collect();
        let resume = Resume { tokens, text_bytes: inner.text.len() };
        let wakers = inner.wakers();
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
        resume
    }

    /// Appends an output of an attempt. `End` is not for the log: the queen writes the end.
    pub(super) fn push(&self, lease: LeaseId, output: Output, most_bytes: usize) -> Pushed {
        let mut inner = self.lock();
        if inner.writer != Some(lease) || inner.end.is_some() {
            return Pushed::LostWriteLease;
        }
        match output {
            Output::Token { id, text, logprobs } => {
                let more = logprobs.as_ref().map_or(0, |logprobs| logprobs.memory_bytes());
                if inner.text.len() + inner.logprobs_bytes + text.len() + more > most_bytes {
                    return Pushed::TooLong;
                }
                inner.push_chunk(id, &text, logprobs);
            }
            Output::Vectors(vectors) => {
                let bytes: usize = vectors.iter().map(|vector| size_of_val(&vector[..])).sum();
                if bytes > most_bytes {
                    return Pushed::TooLong;
                }
                inner.vectors = Some(Arc::new(vectors));
            }
            Output::Metrics(metrics) => {
                inner.metrics = Some(metrics);
                inner.measured = inner.measured.wrapping_add(1);
            }
            Output::Heartbeat | Output::End { .. } => return Pushed::Written,
        }
        let wakers = inner.wakers();
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
        Pushed::Written
    }

    /// Writes the one terminal event. Returns true if it was not written before.
    pub(super) fn close(&self, outcome: &Outcome) -> bool {
        let mut inner = self.lock();
        if inner.is_closed() {
            return false;
        }
        inner.writer = None;
        inner.end = Some(match outcome {
            Outcome::Complete { finish, usage, stop_text } => {
                EventKind::End { finish: *finish, usage: *usage, stop_text: stop_text.clone() }
            }
            Outcome::Failed(error) => EventKind::Error(error.clone()),
            Outcome::Cancelled => {
                EventKind::Error(Error::new(ErrorKind::Cancelled, "the job was cancelled"))
            }
        });
        // Nothing is added any more, and the log may be kept for long.
        inner.text.shrink_to_fit();
        inner.ends.shrink_to_fit();
        inner.ids.shrink_to_fit();
        inner.logprobs.shrink_to_fit();
        let wakers = inner.wakers();
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    /// Nothing more is written here, although the job has not ended: its readers get what is there, no terminal event,
    /// and this error. Has no effect if the job has ended.
    pub(super) fn interrupt(&self, why: Error) {
        let mut inner = self.lock();
        if inner.is_closed() {
            return;
        }
        inner.writer = None;
        inner.interrupted = Some(why);
        let wakers = inner.wakers();
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// True if it is held by more than its readers and this many others.
    pub(super) fn is_held_by_others(self: &Arc<Self>, others: usize) -> bool {
        let readers = self.lock().readers.len();
        Arc::strong_count(self) > readers + others
    }

    /// Drops the events of a job that has ended: readers that have not read all of them get this error.
    pub(super) fn discard(&self, why: Error) {
        let mut inner = self.lock();
        let Inner { started, tenant, readers, next_reader, .. } = std::mem::take(&mut *inner);
        let interrupted = Some(why);
        *inner = Inner { started, tenant, readers, next_reader, interrupted, ..Inner::default() };
        let wakers = inner.wakers();
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The vectors of the answer, if there are any.
    pub(super) fn vectors(&self) -> Option<Arc<Vec<Vec<f32>>>> {
        self.lock().vectors.clone()
    }

    /// The number of tokens so far.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.lock().ids.len()).unwrap_or(u32::MAX)
    }

    /// The number of tokens so far, and whether all of them have ids.
    pub(super) fn progress(&self) -> (u32, bool) {
        let inner = self.lock();
        let count = u32::try_from(inner.ids.len()).unwrap_or(u32::MAX);
        (count, inner.ids.iter().all(Option::is_some))
    }

    /// The tokens that the store does not have yet, with the index of the first; they count as saved from now on.
    pub(super) fn take_unsaved(&self) -> Option<(u32, Vec<TokenChunk>)> {
        let mut inner = self.lock();
        let from = inner.saved;
        if from == inner.ids.len() {
            return None;
        }
        inner.saved = inner.ids.len();
        let chunk = |k: usize| TokenChunk {
            id: inner.ids[k],
            text: inner.chunk(k).into(),
            logprobs: inner.logprobs(k).map(|logprobs| Box::new(logprobs.clone())),
        };
        Some((
            u32::try_from(from).unwrap_or(u32::MAX),
            (from..inner.ids.len()).map(chunk).collect(),
        ))
    }

    /// The store did not take the tokens from this index on.
    pub(super) fn unsave(&self, from: u32) {
        let mut inner = self.lock();
        inner.saved = inner.saved.min(from as usize);
    }

    /// The memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let inner = self.lock();
        let vectors = inner.vectors.as_deref().map_or(0, |vectors| {
            vectors.iter().map(|vector| size_of_val(&vector[..])).sum::<usize>()
        });
        // Its entries in the tables, and the allocator's overhead for each of its parts.
        const BESIDE: usize = 256;
        size_of::<Self>()
            + BESIDE
            + inner.text.capacity()
            + inner.ends.capacity() * size_of::<u32>()
            + inner.ids.capacity() * size_of::<Option<u32>>()
            + inner.logprobs.capacity() * size_of::<(u32, Box<Logprobs>)>()
            + inner.logprobs_bytes
            + inner.readers.capacity() * size_of::<Reader>()
            + vectors
    }

    /// A reader that starts after this event, or at the beginning.
    pub(super) fn read(self: &Arc<Self>, after: Option<u64>) -> JobEvents {
        let mut inner = self.lock();
        let reader = inner.next_reader;
        inner.next_reader += 1;
        inner.readers.push(Reader { id: reader, waker: None, skips: false });
        drop(inner);
        let next = after.map_or(0, |after| after.saturating_add(1));
        JobEvents::new(self.clone(), next, reader)
    }
}

#[cfg(test)]
mod tests;
