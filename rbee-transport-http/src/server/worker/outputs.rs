//! The outputs of a run, for each way to send them.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::PoisonError,
    task::{Context, Poll, Waker},
    time::Duration,
};

use rbee_core::{Error, ErrorKind, Output, OutputStream, Result};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::runs::{self, RunEntry};
use crate::server::measurements;

/// How long a token is held back that nobody reads at once.
const HOLD: Duration = Duration::from_millis(100);
/// The most tokens that are held back.
const MOST_HELD: usize = 32;

/// The outputs of a run, the last of them an end or an error. Dropping it ends the run. If nobody reads the answer before
/// its end, tokens come several at a time.
pub(super) struct RunOutputs {
    /// `None` once the run is over.
    entry: Option<RunEntry>,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The waker that a cancellation wakes.
    watching: Option<Waker>,
    /// True if there was an output.
    spoke: bool,
    /// The outputs that are held back; `None` if none ever is.
    held: Option<Held>,
}

impl RunOutputs {
    /// The outputs of this stream. `streamed` is true if somebody reads the answer before its end.
    pub(super) fn new(entry: RunEntry, stream: OutputStream, streamed: bool) -> Self {
        *entry.stream().lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
        Self {
            cancelled: Box::pin(entry.cancelled()),
            entry: Some(entry),
            watching: None,
            spoke: false,
            held: (!streamed).then(Held::default),
        }
    }

    /// True if the run was cancelled from outside, and its error is not read yet.
    pub(super) fn is_cancelled(&self) -> bool {
        self.entry.as_ref().is_some_and(RunEntry::is_cancelled)
    }

    /// The next output. `None` after the last one.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Output>>> {
        loop {
            if let Some(output) = self.held.as_mut().and_then(Held::take) {
                return Poll::Ready(Some(output));
            }
            let polled = self.poll_engine(cx);
            let Some(held) = &mut self.held else { return polled };
            match polled {
                Poll::Ready(Some(Ok(Output::Heartbeat)) | None) => return polled,
                Poll::Ready(Some(output)) => held.push(output),
                Poll::Pending => std::task::ready!(held.poll_due(cx)),
            }
        }
    }

    /// The next output of the engine.
    fn poll_engine(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Output>>> {
        let Some(entry) = &mut self.entry else { return Poll::Ready(None) };
        // Only to be woken: a cancelled run has no stream any more.
        if !self.watching.as_ref().is_some_and(|watching| watching.will_wake(cx.waker())) {
            let _ = self.cancelled.as_mut().poll(cx);
            self.watching = Some(cx.waker().clone());
        }
        let mut slot = entry.stream().lock().unwrap_or_else(PoisonError::into_inner);
        let Some(stream) = slot.as_mut() else {
            drop(slot);
            let error = runs::cancelled(entry.job());
            self.end();
            return Poll::Ready(Some(Err(error)));
        };
        let item = std::task::ready!(stream.as_mut().poll_next(cx));
        drop(slot);
        let item = item.unwrap_or_else(|| {
            let message = "the engine's stream broke off before its end";
            Err(Error::new(ErrorKind::WorkerFault, message))
        });
        let is_output = !matches!(item, Ok(Output::Heartbeat));
        if is_output && !std::mem::replace(&mut self.spoke, true) {
            measurements::first_output(entry.began().elapsed());
        }
        let end = match &item {
            Ok(Output::End { usage, .. }) => Some(Ok(*usage)),
            Err(error) => Some(Err(error)),
            Ok(_) => None,
        };
        if let Some(end) = end {
            entry.tell(end);
            self.end();
        }
        Poll::Ready(Some(item))
    }

    /// Drops the run's stream, then its entry in the table.
    fn end(&mut self) {
        if let Some(entry) = self.entry.take() {
            drop(entry.stream().lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

impl Drop for RunOutputs {
    fn drop(&mut self) {
        self.end();
    }
}

/// Tokens of an answer that nobody reads before its end. They are released together: when there are many, when the
/// oldest has been held for long, or with any other output.
#[derive(Default)]
struct Held {
    outputs: VecDeque<Result<Output>>,
    is_released: bool,
    /// When the oldest has been held for long enough.
    due: Option<Pin<Box<Sleep>>>,
}

impl Held {
    /// An output that is released.
    fn take(&mut self) -> Option<Result<Output>> {
        let output = if self.is_released { self.outputs.pop_front() } else { None };
        self.is_released &= !self.outputs.is_empty();
        output
    }

    fn push(&mut self, output: Result<Output>) {
        if self.outputs.is_empty() {
            match &mut self.due {
                Some(due) => due.as_mut().reset(Instant::now() + HOLD),
                None => self.due = Some(Box::pin(tokio::time::sleep(HOLD))),
            }
        }
        let is_token = matches!(output, Ok(Output::Token { .. }));
        self.outputs.push_back(output);
        self.is_released = !is_token || self.outputs.len() >= MOST_HELD;
    }

    /// Ready once tokens are released because the oldest is due.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.due {
            Some(due) if !self.outputs.is_empty() => {
                std::task::ready!(due.as_mut().poll(cx));
                self.is_released = true;
                Poll::Ready(())
            }
            _ => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests;
