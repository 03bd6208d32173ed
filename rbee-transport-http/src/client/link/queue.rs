//! The frames of one run, between the link's task and the reader of the run.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// The frames of a run that its reader has not taken, as they came. Their size is bounded by the run's credit.
#[derive(Debug, Default)]
pub(super) struct RunQueue(Mutex<Queued>);

#[derive(Debug, Default)]
struct Queued {
    frames: Vec<u8>,
    /// The reason why nothing follows, if the connection was lost.
    lost: Option<Lost>,
    reader: Option<Waker>,
}

/// The connection was lost, for this reason.
#[derive(Clone, Debug)]
pub(super) struct Lost(pub(super) std::sync::Arc<str>);

impl RunQueue {
    /// Adds a frame. Returns the reader if it waits.
    pub(super) fn push(&self, frame: &[u8]) -> Option<Waker> {
        let mut queued = self.lock();
        queued.frames.extend_from_slice(frame);
        queued.reader.take()
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
