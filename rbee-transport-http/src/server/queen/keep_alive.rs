//! What a reader is told while there is nothing else to say.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use rbee_core::{JobId, ModelRef, Queen};
use tokio::time::{Instant, Sleep};

use super::{caller::Caller, loading};

/// A stream says something at least this often.
const INTERVAL: Duration = Duration::from_secs(5);

type Comment = Pin<Box<dyn Future<Output = String> + Send>>;

/// Ready where a whole interval has passed without anything being said. It is not wound up for every word: it ticks
/// on, and looks whether there was one since the last tick.
pub(super) struct Ticker {
    tick: Pin<Box<Sleep>>,
    heard: bool,
}

impl Ticker {
    pub(super) fn new() -> Self {
        Self { tick: Box::pin(tokio::time::sleep(INTERVAL)), heard: false }
    }

    /// Something was said.
    pub(super) fn heard(&mut self) {
        self.heard = true;
    }

    /// Is it time to say something?
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

/// Says what a job waits for, where nothing else is said.
pub(super) struct Waiting {
    queen: Queen,
    job: JobId,
    /// What a worker is waited for, where that is known.
    model: Option<ModelRef>,
    /// Who reads.
    caller: Caller,
    /// It waits in the queue.
    queued: bool,
    ticker: Ticker,
    comment: Option<Comment>,
}

impl Waiting {
    pub(super) fn new(queen: &Queen, job: JobId, model: Option<ModelRef>, caller: Caller) -> Self {
        let (queen, ticker) = (queen.clone(), Ticker::new());
        Self { queen, job, model, caller, queued: true, ticker, comment: None }
    }

    /// A worker has begun.
    pub(super) fn begun(&mut self) {
        self.queued = false;
    }

    /// Something else was said.
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

/// What a job waits for, in a line.
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
