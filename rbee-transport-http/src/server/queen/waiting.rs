//! What a reader is told while there is nothing else to say.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use rbee_core::{JobId, Queen};
use tokio::time::Sleep;

/// A stream says something at least this often.
const INTERVAL: Duration = Duration::from_secs(5);

type Comment = Pin<Box<dyn Future<Output = String> + Send>>;

/// Makes a comment where a whole interval has passed without anything being said.
pub(super) struct Waiting {
    queen: Queen,
    job: JobId,
    /// It waits in the queue.
    queued: bool,
    tick: Pin<Box<Sleep>>,
    /// Something was said since the last tick.
    heard: bool,
    comment: Option<Comment>,
}

impl Waiting {
    pub(super) fn new(queen: &Queen, job: JobId) -> Self {
        Self {
            queen: queen.clone(),
            job,
            queued: true,
            tick: Box::pin(tokio::time::sleep(INTERVAL)),
            heard: false,
            comment: None,
        }
    }

    /// A worker has begun.
    pub(super) fn begun(&mut self) {
        self.queued = false;
    }

    /// Something else was said.
    pub(super) fn heard(&mut self) {
        self.heard = true;
        self.comment = None;
    }

    /// The next comment, when it is due.
    pub(super) fn poll_comment(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        while self.tick.as_mut().poll(cx).is_ready() {
            self.tick.as_mut().reset(tokio::time::Instant::now() + INTERVAL);
            if !std::mem::take(&mut self.heard) && self.comment.is_none() {
                self.comment = Some(Box::pin(describe(self.queen.clone(), self.job, self.queued)));
            }
        }
        let Some(comment) = &mut self.comment else { return Poll::Pending };
        let comment = std::task::ready!(comment.as_mut().poll(cx));
        self.comment = None;
        Poll::Ready(comment)
    }
}

/// What a job waits for, in a line.
async fn describe(queen: Queen, job: JobId, queued: bool) -> String {
    if !queued {
        return "working".into();
    }
    match queen.position(job).await {
        Ok(Some(0)) => "queued, next in line".into(),
        Ok(Some(before)) => format!("queued, {before} before you"),
        _ => "starting".into(),
    }
}
