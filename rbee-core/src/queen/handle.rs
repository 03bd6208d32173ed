//! The handle of a submitted job.

use std::{
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;

use super::{JobEvents, Queen};
use crate::{
    answer::AnswerFormat,
    engine::Input,
    error::{Error, ErrorKind, Result},
    event::{EventKind, EventRef, Finish, JobEvent, Logprobs, Metrics, Usage},
    id::{JobId, WorkerId},
    queen::inbox::Message,
};

/// The handle of an accepted job: a stream of its events, and the right to cancel it.
///
/// Dropping it cancels the job, unless the request was [`detached`](crate::Request::detached) or the handle was.
#[derive(Debug)]
pub struct JobHandle {
    id: JobId,
    events: JobEvents,
    queen: Queen,
    cancels: bool,
}

/// A complete answer.
#[derive(Clone, Debug, PartialEq)]
pub struct JobAnswer {
    /// The text.
    pub text: String,
    /// The ids of its tokens, if the engine reports them.
    pub tokens: Vec<u32>,
    /// The log probabilities of its tokens, if the request asked for them.
    pub logprobs: Vec<Logprobs>,
    /// The vectors, for an embedding request; for a rerank, one vector of [scores](Self::scores).
    pub vectors: Arc<Vec<Vec<f32>>>,
    /// Why it ended.
    pub finish: Finish,
    /// The stop text that ended it, if one did and the worker reports it.
    pub stop_text: Option<Box<str>>,
    /// Tokens counted.
    pub usage: Usage,
    /// How long the job had waited in the queue.
    pub queue_wait: Duration,
    /// The worker that started it.
    pub worker: Option<WorkerId>,
    /// The syntax of its parts: see [`ParsedAnswer::of`](crate::answer::ParsedAnswer::of).
    pub format: AnswerFormat,
    /// What the worker measured while it computed the prompt; `None` if its engine does not report it.
    pub metrics: Option<Metrics>,
}

impl JobAnswer {
    /// The scores of a [rerank](crate::Request::rerank), in the order of the documents; a higher score is a more
    /// relevant document. Empty if the worker sent none.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> rbee_core::Result<()> {
    /// use rbee_core::{Queen, Request, worker::EchoWorker};
    ///
    /// let worker = EchoWorker::builder("my-reranker".parse()?).rerank().build();
    /// let queen = Queen::builder().worker(worker).build().await?;
    /// let documents = ["A hive is a home of bees.", "A lily is a flower."];
    /// let request = Request::rerank("my-reranker", "flower", documents);
    /// let answer = queen.submit(request).await?.answer().await?;
    /// assert!(answer.scores()[1] > answer.scores()[0]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn scores(&self) -> &[f32] {
        self.vectors.first().map_or(&[], Vec::as_slice)
    }
}

impl JobHandle {
    pub(super) fn new(id: JobId, events: JobEvents, queen: Queen, cancels: bool) -> Self {
        Self { id, events, queen, cancels }
    }

    /// The id of the job.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// The next event, or `None` after the terminal one, or if the events [broke off](Self::interruption).
    pub async fn next(&mut self) -> Option<JobEvent> {
        self.events.next().await
    }

    /// The next chunk of text, or `None` after a complete answer.
    ///
    /// # Errors
    /// The error of the job, or [`ErrorKind::Interrupted`] if the events [broke off](Self::interruption) before the
    /// end.
    pub async fn next_text(&mut self) -> Result<Option<Box<str>>> {
        while let Some(event) = self.next().await {
            match event.kind {
                EventKind::Token { text, .. } if !text.is_empty() => return Ok(Some(text)),
                EventKind::Error(error) => return Err(error),
                _ => {}
            }
        }
        self.interruption().cloned().map_or(Ok(None), Err)
    }

    /// Waits for the end and returns the complete answer.
    ///
    /// # Errors
    /// The error of the job, or [`ErrorKind::Interrupted`] if the events [broke off](Self::interruption) before the
    /// end.
    pub async fn answer(mut self) -> Result<JobAnswer> {
        // The chunks are only read after the last one, so the task is not woken for each.
        self.events.ended().await;
        let broken = format!("the events of job {} broke off", self.id);
        let mut end = Err(Error::new(ErrorKind::Internal, broken));
        let (mut text, mut tokens, mut vectors) = (String::new(), Vec::new(), Arc::default());
        let mut logprobs = Vec::new();
        let (mut queue_wait, mut worker) = (Duration::ZERO, None);
        let (mut format, mut metrics) = (AnswerFormat::default(), None);
        std::future::poll_fn(|cx| {
            self.events.poll_read(cx, |_, event| {
                match event {
                    EventRef::Started(started) => {
                        (worker, queue_wait) = (started.worker, started.queue_wait);
                        format = started.format;
                    }
                    EventRef::Token { id, text: chunk, logprobs: more } => {
                        text.push_str(chunk);
                        tokens.extend(id);
                        logprobs.extend(more.cloned());
                    }
                    EventRef::Vectors(all) => vectors = all.clone(),
                    EventRef::Metrics(measured) => metrics = Some(measured),
                    EventRef::End { finish, usage, stop_text } => {
                        end = Ok((finish, usage, stop_text.map(Box::from)));
                    }
                    EventRef::Error(error) => end = Err(error.clone()),
                }
                ControlFlow::Continue(())
            })
        })
        .await;
        if let Some(why) = self.interruption() {
            return Err(why.clone());
        }
        let (finish, usage, stop_text) = end?;
        Ok(JobAnswer {
            text,
            tokens,
            logprobs,
            vectors,
            finish,
            stop_text,
            usage,
            queue_wait,
            worker,
            format,
            metrics,
        })
    }

    /// Lends the events that are ready; see [`JobEvents::poll_read`].
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        read: impl FnMut(Option<u64>, EventRef<'_>) -> ControlFlow<()>,
    ) -> Poll<()> {
        self.events.poll_read(cx, read)
    }

    /// True if there is nothing more to read; see [`JobEvents::is_done`].
    pub fn is_done(&self) -> bool {
        self.events.is_done()
    }

    /// Why the events broke off before the end; see [`JobEvents::interruption`].
    pub fn interruption(&self) -> Option<&Error> {
        self.events.interruption()
    }

    /// Cancels the job. Its terminal event says that it was cancelled, unless it had ended already.
    pub fn cancel(&self) {
        self.queen.post_cancel(self.id);
    }

    /// Lets the job go on when this handle is dropped, also in the next run of the queen. It can be found again by its
    /// id, and its answer is kept as long as its record.
    pub fn detach(&mut self) -> JobId {
        if std::mem::take(&mut self.cancels) {
            self.queen.shared.inbox.input(Input::Detach { job: self.id });
        }
        self.id
    }

    /// The job was not accepted: there is nothing to cancel.
    pub(super) fn disarm(&mut self) {
        self.cancels = false;
    }
}

impl Stream for JobHandle {
    type Item = JobEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<JobEvent>> {
        Pin::new(&mut self.events).poll_next(cx)
    }
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        if self.cancels && !self.events.is_done() {
            self.queen.post_cancel(self.id);
        }
    }
}

impl Queen {
    pub(super) fn post_cancel(&self, job: JobId) {
        self.shared.inbox.send(Message::Input(Input::Cancel { job }));
    }
}
