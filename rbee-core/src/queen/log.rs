//! The log of one job: every attempt writes to it, every reader is a cursor on it.
//!
//! So attaching, detaching, resuming and reading slowly are one mechanism: a reader that is behind is behind in the
//! log and holds nobody up, and the log is the buffer that a reader who comes back is served from.

use std::{
    ops::ControlFlow,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;

use crate::{
    Error, ErrorKind, EventKind, EventRef, JobEvent, LeaseId, Metrics, Outcome, Output, Piece,
    Resume, Started,
};

/// What a job has produced so far, and who reads it.
#[derive(Debug, Default)]
struct Inner {
    /// The attempt that may write.
    writer: Option<LeaseId>,
    started: Option<Started>,
    /// The text of all tokens, one after the other.
    text: String,
    /// Where each token's text ends.
    ends: Vec<u32>,
    ids: Vec<Option<u32>>,
    vectors: Option<Arc<Vec<Vec<f32>>>>,
    metrics: Option<Metrics>,
    /// How often `metrics` was set.
    measured: u32,
    end: Option<EventKind>,
    /// Tokens that the store has.
    saved: usize,
    readers: Vec<Reader>,
    next_reader: u64,
}

/// One who reads, or waits to.
#[derive(Debug)]
struct Reader {
    id: u64,
    /// Where it waits: how to wake it.
    waker: Option<Waker>,
    /// It waits for the end alone.
    skips: bool,
}

impl Inner {
    fn piece(&self, index: usize) -> &str {
        let from = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.text[from..self.ends[index] as usize]
    }

    fn push_piece(&mut self, id: Option<u32>, text: &str) {
        self.text.push_str(text);
        // The text is bounded far below 4 GiB by the setting max_answer_bytes.
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
        self.ids.push(id);
    }

    /// Numbered items between the start and the end.
    fn items(&self) -> u64 {
        self.ids.len() as u64 + u64::from(self.vectors.is_some())
    }

    /// Those who wait for what is written now.
    fn wakers(&mut self) -> Vec<Waker> {
        let is_over = self.end.is_some();
        let waits = |reader: &&mut Reader| is_over || !reader.skips;
        self.readers.iter_mut().filter(waits).filter_map(|reader| reader.waker.take()).collect()
    }

    /// Wakes this reader when something is written, or only at the end.
    fn wake(&mut self, id: u64, waker: &Waker, skips: bool) {
        let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == id) else { return };
        reader.skips = skips;
        match &mut reader.waker {
            Some(known) => known.clone_from(waker),
            None => reader.waker = Some(waker.clone()),
        }
    }

    /// The event that a reader at this place is to see next, with its number.
    fn event(&self, next: u64, measured: &mut u32) -> Option<(Option<u64>, EventRef<'_>)> {
        if next == 0 {
            return match (self.started, &self.end) {
                (Some(started), _) => Some((Some(0), EventRef::Started(started))),
                // It ended without ever being started: its number follows from there being no items.
                (None, Some(end)) => Some((Some(self.items() + 1), end.into())),
                (None, None) => None,
            };
        }
        if let Some(metrics) = self.metrics.filter(|_| *measured != self.measured) {
            *measured = self.measured;
            return Some((None, EventRef::Metrics(metrics)));
        }
        let index = next as usize - 1;
        if index < self.ids.len() {
            let (id, text) = (self.ids[index], self.piece(index));
            return Some((Some(next), EventRef::Token { id, text }));
        }
        if index as u64 == self.ids.len() as u64
            && let Some(vectors) = &self.vectors
        {
            return Some((Some(next), EventRef::Vectors(vectors)));
        }
        self.end.as_ref().map(|end| (Some(next), end.into()))
    }
}

/// What became of something an attempt wanted to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It is in the log.
    Written,
    /// Another attempt has the pen now, or the job has ended.
    LostThePen,
    /// The answer would be longer than allowed.
    TooLong,
}

#[derive(Debug, Default)]
pub(super) struct JobLog(Mutex<Inner>);

impl JobLog {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log of a job that an earlier life of the queen had begun.
    pub(super) fn restored(pieces: &[Piece], started: Option<Started>) -> Self {
        let log = Self::default();
        let mut inner = log.lock();
        for piece in pieces {
            inner.push_piece(piece.id, &piece.text);
        }
        inner.saved = pieces.len();
        inner.started = started;
        drop(inner);
        log
    }

    /// The attempt takes the pen; whoever held it writes no more. Answers with what is there already.
    pub(super) fn begin(&self, lease: LeaseId, started: Started) -> Resume {
        let mut inner = self.lock();
        inner.writer = Some(lease);
        inner.started.get_or_insert(started);
        let tokens = inner.ids.iter().map_while(|id| *id).collect();
        let resume = Resume { tokens, text_bytes: inner.text.len() };
        let wakers = inner.wakers();
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
        resume
    }

    /// Appends what an attempt says. `End` is not for the log: the queen writes the end.
    pub(super) fn push(&self, lease: LeaseId, output: Output, most_bytes: usize) -> Pushed {
        let mut inner = self.lock();
        if inner.writer != Some(lease) || inner.end.is_some() {
            return Pushed::LostThePen;
        }
        match output {
            Output::Token { id, text } => {
                if inner.text.len() + text.len() > most_bytes {
                    return Pushed::TooLong;
                }
                inner.push_piece(id, &text);
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
            Output::End { .. } => return Pushed::Written,
        }
        let wakers = inner.wakers();
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
        Pushed::Written
    }

    /// Writes the one terminal event. Says whether it was the first to do so.
    pub(super) fn close(&self, outcome: &Outcome) -> bool {
        let mut inner = self.lock();
        if inner.end.is_some() {
            return false;
        }
        inner.writer = None;
        inner.end = Some(match outcome {
            Outcome::Complete { finish, usage } => {
                EventKind::End { finish: *finish, usage: *usage }
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
        let wakers = inner.wakers();
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    /// Tokens so far.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.lock().ids.len()).unwrap_or(u32::MAX)
    }

    /// Tokens so far, and whether all of them have ids.
    pub(super) fn progress(&self) -> (u32, bool) {
        let inner = self.lock();
        let count = u32::try_from(inner.ids.len()).unwrap_or(u32::MAX);
        (count, inner.ids.iter().all(Option::is_some))
    }

    /// The tokens that the store does not have yet, with their place; they count as saved from now on.
    pub(super) fn take_unsaved(&self) -> Option<(u32, Vec<Piece>)> {
        let mut inner = self.lock();
        let from = inner.saved;
        if from == inner.ids.len() {
            return None;
        }
        inner.saved = inner.ids.len();
        let piece = |k: usize| Piece { id: inner.ids[k], text: inner.piece(k).into() };
        Some((
            u32::try_from(from).unwrap_or(u32::MAX),
            (from..inner.ids.len()).map(piece).collect(),
        ))
    }

    /// The store did not take the tokens from this place on after all.
    pub(super) fn unsave(&self, from: u32) {
        let mut inner = self.lock();
        inner.saved = inner.saved.min(from as usize);
    }

    /// Memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let inner = self.lock();
        let vectors = inner.vectors.as_deref().map_or(0, |vectors| {
            vectors.iter().map(|vector| size_of_val(&vector[..])).sum::<usize>()
        });
        // Its places in the tables, and what the allocator needs for each of its parts.
        const BESIDE: usize = 256;
        size_of::<Self>()
            + BESIDE
            + inner.text.capacity()
            + inner.ends.capacity() * size_of::<u32>()
            + inner.ids.capacity() * size_of::<Option<u32>>()
            + inner.readers.capacity() * size_of::<Reader>()
            + vectors
    }

    /// A reader that begins after this event, or at the beginning.
    pub(super) fn read(self: &Arc<Self>, after: Option<u64>) -> JobEvents {
        let mut inner = self.lock();
        let reader = inner.next_reader;
        inner.next_reader += 1;
        inner.readers.push(Reader { id: reader, waker: None, skips: false });
        drop(inner);
        let next = after.map_or(0, |after| after.saturating_add(1));
        JobEvents { log: self.clone(), next, measured: 0, reader, done: false }
    }
}

/// The events of a job, from where the reader began to the one terminal event.
///
/// Reading slowly delays nobody; dropping it ends nothing.
#[derive(Debug)]
pub struct JobEvents {
    log: Arc<JobLog>,
    next: u64,
    measured: u32,
    reader: u64,
    done: bool,
}

impl JobEvents {
    /// The next event, or `None` after the terminal one.
    pub async fn next(&mut self) -> Option<JobEvent> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Has the terminal event been read?
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Waits until the terminal event is there, and is not woken for any other. It reads nothing: what came before is
    /// still to be read then, at once.
    pub async fn ended(&mut self) {
        std::future::poll_fn(|cx| {
            let mut inner = self.log.lock();
            if self.done || inner.end.is_some() {
                return Poll::Ready(());
            }
            inner.wake(self.reader, cx.waker(), true);
            Poll::Pending
        })
        .await;
    }

    /// Lends every event that is there to `read`, with its position, until it has had enough: a token costs no copy and
    /// no allocation. Pending when there are no more yet; ready when `read` has had enough, or after the last one.
    ///
    /// The log is locked meanwhile: `read` must be quick, and must not ask anything of the queen.
    ///
    /// ```
    /// use std::{future::poll_fn, ops::ControlFlow};
    /// use rbee_core::{EventRef, Queen, Request};
    /// # use rbee_core::EchoWorker;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> rbee_core::Result<()> {
    /// # let my_worker = EchoWorker::builder("my-model".parse()?).build();
    /// let queen = Queen::builder().worker(my_worker).build().await?;
    /// let job = queen.submit(Request::chat("my-model").user("Hi").max_tokens(8)).await?.detach();
    /// let (mut events, mut text) = (queen.attach(job, None).await?, String::new());
    /// while !events.is_done() {
    ///     poll_fn(|cx| {
    ///         events.poll_read(cx, |_, event| {
    ///             if let EventRef::Token { text: piece, .. } = event {
    ///                 text.push_str(piece);
    ///             }
    ///             ControlFlow::Continue(())
    ///         })
    ///     })
    ///     .await;
    /// }
    /// # assert_eq!(text.split_whitespace().count(), 8);
    /// # Ok(())
    /// # }
    /// ```
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(Option<u64>, EventRef<'_>) -> ControlFlow<()>,
    ) -> Poll<()> {
        let mut inner = self.log.lock();
        while !self.done {
            // A reader that was told of more than there is (by a queen that crashed ahead of its last checkpoint)
            // waits until the same tokens are made again; one past the end has seen everything.
            if inner.end.is_some() && self.next > inner.items() + 1 {
                self.done = true;
                break;
            }
            let Some((seq, event)) = inner.event(self.next, &mut self.measured) else {
                inner.wake(self.reader, cx.waker(), false);
                return Poll::Pending;
            };
            self.next += u64::from(seq.is_some());
            self.done = event.is_terminal();
            if read(seq, event).is_break() {
                break;
            }
        }
        Poll::Ready(())
    }
}

impl Stream for JobEvents {
    type Item = JobEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<JobEvent>> {
        let mut next = None;
        let polled = self.poll_read(cx, |seq, event| {
            next = Some(JobEvent { seq, kind: event.to_kind() });
            ControlFlow::Break(())
        });
        polled.map(|()| next)
    }
}

impl Drop for JobEvents {
    fn drop(&mut self) {
        self.log.lock().readers.retain(|reader| reader.id != self.reader);
    }
}

#[cfg(test)]
mod tests;
