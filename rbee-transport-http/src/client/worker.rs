//! [`HttpWorker`]: a worker in a process of its own.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use futures_core::Stream;
use http::Method;
use rbee_core::{
    Error, ErrorKind, JobId, Output, OutputStream, Result, Run, Worker, WorkerInfo, request::Task,
    worker::WorkerHealth,
};

use super::{Endpoint, EventStream};
use crate::wire::{
    self, ErrorInfo,
    sse::Event,
    worker::{Cancel, Cancelled, CountTokens, CountedTokens, End, Execute, Health, Phase, frame},
};

/// The time limit for a health check.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// The time limit for counting the tokens of a prompt.
const COUNT_TIMEOUT: Duration = Duration::from_secs(30);

/// A worker that is reached over HTTP. Dropping a run's stream closes its connection, which cancels the run.
#[derive(Clone, Debug)]
pub struct HttpWorker {
    endpoint: Endpoint,
    info: Arc<WorkerInfo>,
}

impl HttpWorker {
    /// The worker behind this endpoint, with this description.
    pub fn new(endpoint: Endpoint, info: Arc<WorkerInfo>) -> Self {
        Self { endpoint, info }
    }

    /// Asks the worker behind this endpoint for its description.
    ///
    /// # Errors
    /// [`ErrorKind::WorkerUnreachable`] if it does not respond, [`ErrorKind::WorkerBusy`] while it loads, or the
    /// error that its load failed with.
    pub async fn connect(endpoint: Endpoint) -> Result<Self> {
        let health = ask(&endpoint).await?;
        let info = ready(health)?.0;
        Ok(Self::new(endpoint, Arc::new(info)))
    }

    /// The endpoint of the worker.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Ends the run of a job, and returns when it is over: true if there was one. Idempotent.
    ///
    /// # Errors
    /// [`ErrorKind::WorkerUnreachable`] if the worker does not respond.
    pub async fn cancel(&self, job: JobId) -> Result<bool> {
        let path = wire::worker::CANCEL;
        let order = Some(&Cancel { job });
        let done = self.endpoint.call::<_, Cancelled>(Method::POST, path, order, HEALTH_TIMEOUT);
        done.await.map(|done| done.was_running).map_err(unreachable)
    }
}

pub(super) async fn ask(endpoint: &Endpoint) -> Result<Health> {
    endpoint.health::<Health>(HEALTH_TIMEOUT).await.map_err(unreachable)
}

/// The description and health of a worker that is ready.
pub(super) fn ready(health: Health) -> Result<(WorkerInfo, WorkerHealth)> {
    match (health.phase, health.info, health.error) {
        (Phase::Ready, Some(info), _) => Ok((info, health.health.unwrap_or_default())),
        (Phase::Failed, _, Some(error)) => Err(error.into()),
        (Phase::Loading, ..) => Err(Error::new(
            ErrorKind::WorkerBusy,
            format!("worker {} is loading its model", health.worker),
        )),
        _ => Err(Error::new(
            ErrorKind::WorkerFault,
            format!("worker {} does not describe itself", health.worker),
        )),
    }
}

/// A worker that does not respond is not there, so nothing has begun on it; errors that it responds with stay
/// unchanged.
pub(super) fn unreachable(error: Error) -> Error {
    let message = match error.kind() {
        ErrorKind::HiveUnreachable => error.message().to_owned(),
        // The token was right when the worker started: another program listens there now.
        ErrorKind::Unauthorized => format!("the worker is no longer there: {error}"),
        _ => return error,
    };
    Error::new(ErrorKind::WorkerUnreachable, message).with_source(error)
}

#[async_trait]
impl Worker for HttpWorker {
    fn info(&self) -> &Arc<WorkerInfo> {
        &self.info
    }

    async fn execute(&self, run: Run) -> Result<OutputStream> {
        let execute = Execute::from(run);
        let correlation_id = Some(&execute.job.correlation_id);
        let path = wire::worker::EXECUTE;
        let answer = self.endpoint.send(Method::POST, path, Some(&execute), correlation_id);
        let events = answer.await.map_err(unreachable)?.events()?;
        Ok(Box::pin(Outputs { events, done: false }))
    }

    async fn health(&self) -> Result<WorkerHealth> {
        Ok(ready(ask(&self.endpoint).await?)?.1)
    }

    async fn count_tokens(&self, task: Arc<Task>) -> Result<u32> {
        let path = wire::worker::COUNT_TOKENS;
        let order = Some(&CountTokens { task });
        let counted =
            self.endpoint.call::<_, CountedTokens>(Method::POST, path, order, COUNT_TIMEOUT);
        counted.await.map(|counted| counted.tokens).map_err(unreachable)
    }
}

/// The outputs of a run, read from its events.
struct Outputs {
    events: EventStream,
    done: bool,
}

impl Stream for Outputs {
    type Item = Result<Output>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.done {
                return Poll::Ready(None);
            }
            let output = match std::task::ready!(Pin::new(&mut self.events).poll_next(cx)) {
                None => {
                    let message = "the worker's stream broke off before its end";
                    Err(Error::new(ErrorKind::WorkerLost, message))
                }
                Some(Err(error)) => Err(error),
                Some(Ok(event)) => match output(&event) {
                    Ok(None) => continue,
                    Ok(Some(output)) => Ok(output),
                    Err(error) => Err(error),
                },
            };
            self.done = matches!(output, Err(_) | Ok(Output::End { .. }));
            return Poll::Ready(Some(output));
        }
    }
}

/// Reads an event; an event of an unknown name is ignored.
fn output(event: &Event) -> Result<Option<Output>> {
    let output = match &*event.name {
        frame::TOKEN => {
            let token: wire::worker::Token<'_> = read(event)?;
            Output::Token { id: token.id, text: token.text.into(), logprobs: token.logprobs }
        }
        frame::VECTORS => Output::Vectors(read(event)?),
        frame::METRICS => Output::Metrics(read(event)?),
        frame::HEARTBEAT => Output::Heartbeat,
        frame::END => {
            let End { finish, usage, stop_text } = read(event)?;
            Output::End { finish, usage, stop_text }
        }
        frame::ERROR => return Err(read::<ErrorInfo>(event)?.into()),
        _ => return Ok(None),
    };
    Ok(Some(output))
}

fn read<'a, T: serde::Deserialize<'a>>(event: &'a Event) -> Result<T> {
    serde_json::from_slice(&event.data).map_err(|cause| {
        let message = format!("an event {:?} of the worker is not understood: {cause}", event.name);
        Error::new(ErrorKind::WorkerFault, message).with_source(cause)
    })
}
