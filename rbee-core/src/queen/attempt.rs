//! One attempt at a job: reads a worker's stream at full speed into the job's log.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use tokio::{task::AbortHandle, time::Instant};
use tracing::Instrument;

use super::{
    inbox::Inbox,
    log::{EventLog, Pushed},
    rhythm::{Rhythm, Tick, Watch},
    writer::Writer,
};
use crate::{
    engine::{AttemptEnd, AttemptResult, Input, Silence},
    error::{Error, ErrorKind, Result},
    event::{Output, Started},
    id::LeaseId,
    job::Job,
    metrics,
    settings::Settings,
    task::Task,
    worker::{Run, Worker},
};

/// Tokens between two checkpoints.
const CHECKPOINT_TOKENS: u32 = 32;
/// Outputs that are taken in a row before other tasks get to run.
const TURN: u32 = 64;

pub(super) struct Attempt {
    pub(super) lease: LeaseId,
    pub(super) job: Arc<Job>,
    pub(super) attempt: u32,
    pub(super) worker: Arc<dyn Worker>,
    pub(super) log: Arc<EventLog>,
    pub(super) started: Started,
    pub(super) settings: Arc<Settings>,
    pub(super) writer: Writer,
    /// The heartbeat intervals of the worker's streams.
    pub(super) rhythm: Rhythm,
    /// The usual gap between two heartbeats of the worker, or else of its peers, if it is known.
    pub(super) usual_gap: Option<Duration>,
}

/// Returns the lease to the engine however the task ends.
struct LeaseGuard {
    lease: LeaseId,
    job: Arc<Job>,
    log: Arc<EventLog>,
    /// Tokens of the answer when the attempt began.
    before: u32,
    writer: Writer,
    inbox: Inbox,
    result: Option<AttemptResult>,
}

impl LeaseGuard {
    /// Ends the attempt with this result. Its stream is dropped already.
    fn give_back(mut self, result: AttemptResult) {
        self.result = Some(result);
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        let (produced, resumable) = self.log.progress();
        let result = self.result.take().unwrap_or(AttemptResult::Aborted);
        let prompt = match &result {
            AttemptResult::Done { usage, .. } => usage.prompt_tokens,
            AttemptResult::Failed(_) | AttemptResult::Aborted => 0,
        };
        let tokens = produced.saturating_sub(self.before);
        tracing::debug!(prompt_tokens = prompt, tokens, "the attempt is over");
        metrics::computed(&self.job, prompt, tokens);
        // The last tokens go to the store before the lease is returned. A finished answer is deleted from the store
        // instead, unless it is kept, and then its end writes the last tokens.
        if !matches!(result, AttemptResult::Done { .. }) {
            self.writer.checkpoint(self.job.id, &self.log);
        }
        let end = AttemptEnd { result, produced, resumable };
        self.inbox.input(Input::AttemptEnded { lease: self.lease, end });
    }
}

/// The task of an attempt. Dropping it aborts the attempt.
pub(super) struct AttemptTask(AbortHandle);

impl Drop for AttemptTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Attempt {
    /// Starts the task. Dropping it aborts the attempt.
    pub(super) fn spawn(self, inbox: Inbox) -> AttemptTask {
        let guard = LeaseGuard {
            lease: self.lease,
            job: self.job.clone(),
            log: self.log.clone(),
            before: self.log.len(),
            writer: self.writer.clone(),
            inbox: inbox.clone(),
            result: None,
        };
        let span = tracing::info_span!(
            "attempt",
            job = self.job.id.text().as_str(),
            correlation_id = self.job.correlation_id.as_str(),
            worker = self.worker.info().id.text().as_str(),
            attempt = self.attempt,
        );
        let task = async move {
            // Dropped after the stream, even if the task is aborted.
            let guard = guard;
            let drive = AssertUnwindSafe(self.drive(&inbox)).catch_unwind();
            let result = match drive.await {
                Ok(Ok(result)) => result,
                Ok(Err(error)) => AttemptResult::Failed(error),
                Err(panic) => AttemptResult::Failed(panicked(&*panic)),
            };
            guard.give_back(result);
        };
        AttemptTask(tokio::spawn(task.instrument(span)).abort_handle())
    }

    async fn drive(&self, inbox: &Inbox) -> Result<AttemptResult> {
        let began = Instant::now();
        let resume = self.log.begin(self.lease, self.started);
        let (produced, has_ids) = self.log.progress();
        if produced > 0 && !has_ids {
            return Err(fault("the answer so far has tokens without ids".into()));
        }
        let mut is_first = self.attempt == 1 && resume.is_empty();
        let run = Run { job: self.job.clone(), attempt: self.attempt, resume };
        let mut watch = Watch::new(&self.settings, self.rhythm.clone(), self.usual_gap);
        let execute = self.worker.execute(run);
        let mut stream = self.watched(&mut watch, inbox, execute).await??;
        watch.begin();
        let (mut unsaved, mut turn) = (0, 0);
        loop {
            // The clock is not read for an output that is ready.
            let item = match stream.next().now_or_never() {
                Some(item) => item,
                None => self.watched(&mut watch, inbox, stream.next()).await?,
            };
            if watch.sign() {
                inbox.input(Input::Heard { lease: self.lease });
            }
            match item {
                None => {
                    return Err(Error::new(
                        ErrorKind::WorkerLost,
                        "the worker's stream broke off before its end",
                    ));
                }
                Some(Err(error)) => return Err(error),
                Some(Ok(Output::End { finish, usage, stop_text })) => {
                    // A worker may claim anything.
                    let stop_text = stop_text.filter(|text| self.job.task.has_stop(text));
                    return Ok(AttemptResult::Done { finish, usage, stop_text });
                }
                Some(Ok(Output::Heartbeat)) => {}
                Some(Ok(output)) => {
                    let is_token = matches!(output, Output::Token { .. });
                    if is_token {
                        self.check_length()?;
                        if std::mem::take(&mut is_first) {
                            let after = self.started.queue_wait + began.elapsed();
                            metrics::first_token(&self.worker.info().model, after);
                        }
                    }
                    match self.log.push(self.lease, output, self.settings.max_answer_bytes) {
                        Pushed::Written => {}
                        Pushed::LostWriteLease => return Ok(AttemptResult::Aborted),
                        Pushed::TooLong => return Err(self.too_long()),
                    }
                    unsaved += u32::from(is_token);
                }
            }
            if unsaved >= CHECKPOINT_TOKENS {
                unsaved = 0;
                self.checkpoint();
            }
            turn += 1;
            if turn == TURN {
                turn = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits for a step of the worker, and reports to the engine if it takes longer than usual.
    async fn watched<T>(
        &self,
        watch: &mut Watch,
        inbox: &Inbox,
        step: impl Future<Output = T>,
    ) -> Result<T> {
        let mut step = std::pin::pin!(step);
        loop {
            let tick = tokio::select! {
                biased;
                done = &mut step => return Ok(done),
                tick = watch.tick() => tick,
            };
            match tick {
                Tick::Usual => {}
                Tick::Suspected => {
                    let (produced, resumable) = self.log.progress();
                    let sends_heartbeats = self.worker.info().capabilities.heartbeats;
                    let silence = Silence {
                        lasted: watch.silence(),
                        began: watch.has_begun(),
                        is_evident: sends_heartbeats && watch.has_begun() && watch.is_known(),
                        produced,
                        resumable,
                    };
                    inbox.input(Input::Silent { lease: self.lease, silence });
                }
                Tick::Stalled => {
                    let limit = self.settings.stall_timeout;
                    let (kind, what) = match watch.has_begun() {
                        true => (ErrorKind::WorkerFault, "sent nothing"),
                        false => (ErrorKind::WorkerUnreachable, "did not start the run"),
                    };
                    let message =
                        format!("the worker {what} for {limit:?} (setting stall_timeout)");
                    return Err(Error::new(kind, message));
                }
            }
        }
    }

    fn too_long(&self) -> Error {
        let most = self.settings.max_answer_bytes;
        match &self.job.task {
            // They are far longer than the text, so the worker is not at fault.
            Task::Generate { sampling, .. } if sampling.logprobs.is_some() => {
                let message = format!(
                    "the answer with its log probabilities is longer than {most} bytes (setting max_answer_bytes); \
                     request fewer of them, or a shorter answer"
                );
                Error::for_client(ErrorKind::InvalidRequest, message).with_param("logprobs")
            }
            _ => fault(format!(
                "the worker's answer is longer than {most} bytes (setting max_answer_bytes)"
            )),
        }
    }

    fn check_length(&self) -> Result<()> {
        let Task::Generate { sampling, .. } = &self.job.task else {
            return Ok(());
        };
        let Some(most) = sampling.max_tokens else {
            return Ok(());
        };
        if self.log.len() >= most {
            return Err(fault(format!("the worker gave more tokens than max_tokens, {most}")));
        }
        Ok(())
    }

    fn checkpoint(&self) {
        self.writer.checkpoint(self.job.id, &self.log);
    }
}

fn fault(message: String) -> Error {
    Error::new(ErrorKind::WorkerFault, message)
}

/// The message of a panic, as an error of the worker.
fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    fault(format!("the worker panicked: {}", super::panic_message(panic)))
}
