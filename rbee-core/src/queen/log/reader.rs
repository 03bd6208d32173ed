//! Readers of the log of a job: cursors.

use std::{
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::EventLog;
use crate::{
    error::Error,
    event::{EventRef, JobEvent},
};

/// The events of a job, from the reader's start to the one terminal event.
///
/// A slow reader delays nobody; dropping it cancels nothing. There is no terminal event if the queen shuts down, or loses
/// the job to another queen, before the job has ended, or if the reader is so slow that the events of the ended job are
/// no longer in memory ([`events_bytes`](crate::Settings::events_bytes)). Then [`interruption`](Self::interruption) says
/// so.
#[derive(Debug)]
pub struct JobEvents {
    log: Arc<EventLog>,
    next: u64,
    measured: u32,
    reader: u64,
    done: bool,
    interruption: Option<Error>,
}

impl JobEvents {
    pub(super) fn new(log: Arc<EventLog>, next: u64, reader: u64) -> Self {
        Self { log, next, measured: 0, reader, done: false, interruption: None }
    }

    #[cfg(test)]
    pub(in crate::queen) fn log(&self) -> &Arc<EventLog> {
        &self.log
    }

    /// The next event, or `None` after the terminal one, or if the events [broke off](Self::interruption).
    pub async fn next(&mut self) -> Option<JobEvent> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// True if there is nothing more to read: the terminal event was read, or the events [broke
    /// off](Self::interruption).
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Why the events broke off before the terminal one: an error of the kind
    /// [`Interrupted`](crate::ErrorKind::Interrupted), once all available events have been read. The job may go on in
    /// the next run of the queen: [`Queen::attach`](crate::Queen::attach) continues after the last event that was read.
    pub fn interruption(&self) -> Option<&Error> {
        self.interruption.as_ref()
    }

    /// Waits for the terminal event or until the events break off, and is woken for nothing else. It reads nothing: the
    /// events before are then ready to be read.
    pub async fn ended(&mut self) {
        std::future::poll_fn(|cx| {
            let mut inner = self.log.lock();
            if self.done || inner.is_closed() {
                return Poll::Ready(());
            }
            inner.wake(self.reader, cx.waker(), true);
            Poll::Pending
        })
        .await;
    }

    /// Lends every available event to `read`, with its position, until `read` stops: a token costs no copy and no
    /// allocation. Pending if there are no more yet; ready if `read` has stopped, after the last event, and if the
    /// events [broke off](Self::interruption).
    ///
    /// The log is locked in the meantime: `read` must be quick, and must not call the queen.
    ///
    /// ```
    /// use std::{future::poll_fn, ops::ControlFlow};
    /// use rbee_core::{event::EventRef, Queen, Request};
    /// # use rbee_core::worker::EchoWorker;
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
    ///             if let EventRef::Token { text: chunk, .. } = event {
    ///                 text.push_str(chunk);
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
            // It has seen the end itself. A reader that has seen more than there is (from a queen that crashed after
            // its last checkpoint) waits until the same tokens are produced again, or gets the end.
            if inner.end.is_some() && self.next == inner.end_number() + 1 {
                self.done = true;
                break;
            }
            let Some((seq, event)) = inner.event(self.next, &mut self.measured) else {
                if let Some(why) = &inner.interrupted {
                    self.interruption = Some(why.clone());
                    self.done = true;
                    break;
                }
                inner.wake(self.reader, cx.waker(), false);
                return Poll::Pending;
            };
            self.next = self.next.saturating_add(u64::from(seq.is_some()));
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
        let mut inner = self.log.lock();
        if let Some(at) = inner.place_of(self.reader) {
            inner.readers.remove(at);
        }
    }
}
