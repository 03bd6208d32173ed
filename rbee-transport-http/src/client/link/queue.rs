//! The frames of one run, between the link's task and the reader of the run.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::link::{Frame, kind};

/// The frames of a run that its reader has not taken, as they came. Their size is bounded by the run's credit: a worker
/// that sends more breaks the protocol.
#[derive(Debug)]
pub(super) struct RunQueue(Mutex<Queued>);

#[derive(Debug)]
struct Queued {
    frames: Vec<u8>,
    /// The bytes that the worker may send. Below zero after a frame that was larger than the rest.
    credit: i64,
    is_accepted: bool,
    /// The reason why nothing follows, if the connection was lost.
    lost: Option<Lost>,
    reader: Option<Waker>,
}

/// The connection was lost, for this reason.
#[derive(Clone, Debug)]
pub(super) struct Lost(pub(super) std::sync::Arc<str>);

/// The worker has sent more than the credit of the run.
#[derive(Debug)]
pub(super) struct OutOfCredit;

impl RunQueue {
    /// A queue of a run with this credit, in bytes.
    pub(super) fn new(credit: u32) -> Self {
        let (frames, credit) = (Vec::new(), i64::from(credit));
        let queued = Queued { frames, credit, is_accepted: false, lost: None, reader: None };
        Self(Mutex::new(queued))
    }

    /// Adds a frame, with these bytes, unless it has no meaning. Returns the reader if it waits.
    pub(super) fn push(
        &self,
        frame: Frame<'_>,
        bytes: &[u8],
    ) -> Result<Option<Waker>, OutOfCredit> {
        let mut queued = self.lock();
        match frame.kind {
            kind if kind::takes_credit(kind) => {
                if queued.credit <= 0 {
                    return Err(OutOfCredit);
                }
                queued.credit -= i64::try_from(bytes.len()).unwrap_or(i64::MAX);
            }
            kind::ACCEPTED if !queued.is_accepted => queued.is_accepted = true,
            kind::END | kind::ERROR => {}
            // Repeated, or of a newer version.
            _ => return Ok(None),
        }
        queued.frames.extend_from_slice(bytes);
        Ok(queued.reader.take())
    }

    /// The worker may send this many more bytes.
    pub(super) fn add_credit(&self, bytes: u32) {
        let mut queued = self.lock();
        queued.credit = queued.credit.saturating_add(i64::from(bytes));
    }

    /// The bytes that wait for the reader.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.lock().frames.len()
    }

    /// Nothing follows, because the connection was lost. Returns the reader if it waits.
    pub(super) fn lose(&self, lost: &Lost) -> Option<Waker> {
        let mut queued = self.lock();
        queued.lost = Some(lost.clone());
        queued.reader.take()
    }

    /// Exchanges all frames for this empty buffer.
    pub(super) fn poll_take(
        &self,
        empty: &mut Vec<u8>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Lost>> {
        let mut queued = self.lock();
        if !queued.frames.is_empty() {
            std::mem::swap(&mut queued.frames, empty);
            return Poll::Ready(Ok(()));
        }
        if let Some(lost) = &queued.lost {
            return Poll::Ready(Err(lost.clone()));
        }
        if !queued.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            queued.reader = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
