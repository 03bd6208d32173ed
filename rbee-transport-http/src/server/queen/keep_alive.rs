//! The comments that a reader gets while there is nothing else to send.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use rbee_core::{JobId, ModelRef, Queen};
use tokio::time::{Instant, Sleep};

use super::{caller::Caller, loading};

/// A stream sends something at least this often.
const INTERVAL: Duration = Duration::from_secs(5);

type Comment = Pin<Box<dyn Future<Output = String> + Send>>;

/// Ready if nothing was sent for a whole interval. The timer is not reset for every write: it ticks, and checks for a
/// write since the last tick.
pub(super) struct Ticker {
    tick: Pin<Box<Sleep>>,
    heard: bool,
}

impl Ticker {
    pub(super) fn new() -> Self {
        Self { tick: Box::pin(tokio::time::sleep(INTERVAL)), heard: false }
    }

    /// Records a write.
    pub(super) fn heard(&mut self) {
        self.heard = true;
    }

    /// Ready if a comment is due.
    pub(super) fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.tick.as_mut().poll(cx));
            self.tick.as_mut().reset(Instant::now() + INTERVAL);
            if !std::mem::take(&mut self.heard) {
                return Poll::Ready(());
            }
        }
    }
}

/// Describes what a job waits for, if nothing else is sent.
pub(super) struct Waiting {
    queen: Queen,
    job: JobId,
    /// The model of the worker that it waits for, if known.
    model: Option<ModelRef>,
    /// The reader.
    caller: Caller,
    /// True if it waits in the queue.
    queued: bool,
    ticker: Ticker,
    comment: Option<Comment>,
}

impl Waiting {
    pub(super) fn new(queen: &Queen, job: JobId, model: Option<ModelRef>, caller: Caller) -> Self {
        let (queen, ticker) = (queen.clone(), Ticker::new());
        Self { queen, job, model, caller, queued: true, ticker, comment: None }
    }

    /// Records that a worker has begun.
    pub(super) fn begun(&mut self) {
        self.queued = false;
    }

    /// Records that something else was sent.
    pub(super) fn heard(&mut self) {
        self.ticker.heard();
        self.comment = None;
    }

    /// The next comment, when it is due.
    pub(super) fn poll_comment(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        loop {
            if let Some(comment) = &mut self.comment {
                let said = ready!(comment.as_mut().poll(cx));
                self.comment = None;
                return Poll::Ready(said);
            }
            ready!(self.ticker.poll_due(cx));
            let model = self.model.clone().filter(|_| self.queued);
            let line = model.and_then(|model| loading::line(&self.queen, &model, &self.caller));
            let comment = describe(self.queen.clone(), self.job, self.queued, line);
            self.comment = Some(Box::pin(comment));
        }
    }
}

/// A one-line description of what a job waits for.
async fn describe(queen: Queen, job: JobId, queued: bool, loading: Option<String>) -> String {
    if !queued {
        return "working".into();
    }
    if let Some(line) = loading {
        return line;
    }
    match queen.position(job).await {
        Ok(Some(0)) => "queued, next in line".into(),
        Ok(Some(before)) => format!("queued, {before} before you"),
        _ => "starting".into(),
    }
}
