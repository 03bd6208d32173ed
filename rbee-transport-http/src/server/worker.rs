//! A worker, exposed over HTTP.

mod events;
mod link;
mod outputs;
mod runs;

use std::{
    fmt,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{StatusCode, header};
use rbee_core::{
    CorrelationId, Error, ErrorKind, Result, Run, Worker, WorkerId,
    hive::{Progress, ProgressUpdate},
};
use tokio_util::sync::CancellationToken;

use super::{Lease, daemon::log_reload, measurements, response, routes, tls::TlsFiles};
use crate::{
    token::Token,
    wire::{
        self, ErrorBody, Shutdown, sse,
        worker::{
            Cancel, Cancelled, CountTokens, CountedTokens, Execute, Health, LINK_PROTOCOL, Phase,
        },
    },
};
use outputs::RunOutputs;
use runs::Runs;

/// The largest body of a request: a prompt, and the tokens of a long answer that is continued, with reserve.
const MOST_BYTES: usize = 64 << 20;
/// The time limit of a health check.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(4);

/// Exposes a worker that is ready, to callers with this token. [`WorkerServer`] also supports loading and a lease.
///
/// ```
/// # use rbee_core::worker::EchoWorker;
/// use rbee_transport_http::{Token, server};
///
/// let router = server::worker(EchoWorker::new("echo".parse()?), Token::random()?);
/// # Ok::<(), rbee_core::Error>(())
/// ```
pub fn worker(worker: Arc<dyn Worker>, token: Token) -> Router {
    let server = WorkerServer::new(worker.info().id);
    server.ready(worker);
    server.router(token)
}

/// A worker process: it responds from the start, while its model loads.
#[derive(Clone)]
pub struct WorkerServer {
    inner: Arc<Inner>,
    render: Option<routes::Render>,
}

impl fmt::Debug for WorkerServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[derive(Debug)]
struct Inner {
    id: WorkerId,
    state: RwLock<Loading>,
    runs: Runs,
    lease: Option<Lease>,
    stop: CancellationToken,
    /// The files of the server's TLS, which can be read again.
    tls: OnceLock<TlsFiles>,
}

#[derive(Debug)]
enum Loading {
    Under(ProgressUpdate),
    Ready(Arc<dyn Worker>),
    Failed(Error),
}

impl WorkerServer {
    /// A worker that was started with this id, and loads its model.
    pub fn new(id: WorkerId) -> Self {
        Self::with_lease(id, None)
    }

    /// As [`new`](Self::new); it ends when this lease expires.
    pub fn with_lease(id: WorkerId, lease: Option<Lease>) -> Self {
        let state = RwLock::new(Loading::Under(ProgressUpdate::default()));
        let stop = CancellationToken::new();
        let inner = Inner { id, state, runs: Runs::default(), lease, stop, tls: OnceLock::new() };
        Self { inner: Arc::new(inner), render: None }
    }

    /// The progress of the load, for the loader to update.
    pub fn progress(&self) -> Progress {
        let inner = Arc::downgrade(&self.inner);
        Progress::new(move |update| {
            let Some(inner) = inner.upgrade() else { return };
            let mut state = inner.state.write().unwrap_or_else(PoisonError::into_inner);
            if let Loading::Under(progress) = &mut *state {
                *progress = update;
            }
        })
    }

    /// Sets the worker once its model is loaded.
    pub fn ready(&self, worker: Arc<dyn Worker>) {
        self.inner.set(Loading::Ready(worker));
    }

    /// Records that the model cannot be loaded.
    pub fn failed(&self, error: Error) {
        self.inner.set(Loading::Failed(error));
    }

    /// Cancelled when the process must end: it got a shutdown request, or its lease has expired.
    pub fn stopped(&self) -> CancellationToken {
        self.inner.stop.clone()
    }

    /// Waits until the lease has expired, and stops. Never returns if there is no lease.
    pub async fn expire(&self) {
        Lease::run_out(self.inner.lease.as_ref()).await;
        tracing::warn!(worker = %self.inner.id, "no heartbeat from the hive; ending");
        self.inner.stop.cancel();
    }

    /// Serves these metrics at `/metrics`, in Prometheus' text format. Without this there is no such path.
    pub fn with_metrics(mut self, render: Arc<dyn Fn() -> String + Send + Sync>) -> Self {
        self.render = Some(render);
        self
    }

    /// Reads these files again when its hive says so. The first call counts.
    pub fn with_tls_files(self, files: TlsFiles) -> Self {
        // The server has the files of the first call.
        let _ = self.inner.tls.set(files);
        self
    }

    /// The protocols of the framed link that it offers.
    pub(super) fn links() -> Vec<String> {
        vec![LINK_PROTOCOL.to_owned()]
    }

    /// The routes, for callers with this token. A worker cannot be served without one: every client that reaches its
    /// port could run jobs on it, and end it.
    pub fn router(&self, token: Token) -> Router {
        let routes = Router::new()
            .route(wire::HEALTH, get(health))
            .route(wire::worker::EXECUTE, post(execute))
            .route(wire::worker::CANCEL, post(cancel))
            .route(wire::worker::COUNT_TOKENS, post(count_tokens))
            .route(wire::worker::LINK, post(link::open))
            .route(wire::LEASE, post(renew))
            .route(wire::worker::RELOAD, post(reload))
            .route(wire::SHUTDOWN, post(shutdown));
        let inner = self.inner.clone();
        let routes = routes::measurements(routes, self.render.clone(), move || {
            let inner = inner.clone();
            async move { inner.measure().await }
        });
        routes::close(routes, self.inner.clone(), token.into())
    }
}

impl Inner {
    fn set(&self, state: Loading) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn worker(&self) -> Result<Arc<dyn Worker>> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            Loading::Ready(worker) => Ok(worker.clone()),
            Loading::Under(_) => Err(Error::new(
                ErrorKind::WorkerBusy,
                format!("worker {} is loading its model", self.id),
            )),
            Loading::Failed(error) => Err(error.clone()),
        }
    }

    /// Its identity and health. A worker that is ready asks its engine.
    async fn health(&self) -> Result<Health> {
        let mut health = Health {
            status: wire::Up::default().status,
            worker: self.id,
            phase: Phase::Loading,
            progress: wire::ProgressBody::default(),
            info: None,
            health: None,
            error: None,
            links: WorkerServer::links(),
        };
        let worker = match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            Loading::Under(progress) => {
                health.progress = (*progress).into();
                return Ok(health);
            }
            Loading::Failed(error) => {
                health.phase = Phase::Failed;
                health.error = Some(ErrorBody::for_queen(error, None).error);
                return Ok(health);
            }
            Loading::Ready(worker) => worker.clone(),
        };
        let late = |_| {
            let message = format!("the engine did not report its health within {HEALTH_TIMEOUT:?}");
            Error::new(ErrorKind::WorkerFault, message)
        };
        health.health =
            Some(tokio::time::timeout(HEALTH_TIMEOUT, worker.health()).await.map_err(late)??);
        health.phase = Phase::Ready;
        health.info = Some((**worker.info()).clone());
        Ok(health)
    }

    /// Sets the metrics that are read from the worker.
    async fn measure(&self) {
        if let Ok(worker) = self.worker()
            && let Ok(Ok(health)) = tokio::time::timeout(HEALTH_TIMEOUT, worker.health()).await
        {
            measurements::worker(worker.info(), &health);
        }
    }

    async fn execute(self: &Arc<Self>, request: Request) -> Result<Body> {
        // Before the body, which may be long.
        self.worker()?;
        let mark = request.extensions().get().cloned();
        let execute = response::read_json(request, MOST_BYTES).await?;
        Ok(events::body_of(self.begin(execute, mark).await?))
    }

    /// Begins a run.
    async fn begin(&self, execute: Execute, mark: Option<CorrelationId>) -> Result<RunOutputs> {
        let worker = self.worker()?;
        let run = Run::from(execute);
        let (job, streamed) = (run.job.id, run.job.streamed);
        let mut entry = self.runs.begin(job, mark);
        let stream = tokio::select! {
            biased;
            () = entry.cancelled() => Err(runs::cancelled(job)),
            stream = worker.execute(run) => stream,
        };
        let stream = stream.inspect_err(|error| entry.tell(Err(error)))?;
        Ok(RunOutputs::new(entry, stream, streamed))
    }
}

async fn health(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    answer(
        inner.health().await.map(|health| response::json(StatusCode::OK, &health)),
        request.extensions().get(),
    )
}

async fn execute(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let correlation_id = request.extensions().get::<CorrelationId>().cloned();
    let body = inner.execute(request).await;
    let stream = |body| {
        let headers =
            [(header::CONTENT_TYPE, sse::CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")];
        (headers, body).into_response()
    };
    answer(body.map(stream), correlation_id.as_ref())
}

async fn cancel(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let correlation_id = request.extensions().get::<CorrelationId>().cloned();
    let cancelled = async {
        let Cancel { job } = response::read_json(request, MOST_BYTES).await?;
        Ok(Cancelled { was_running: inner.runs.cancel(job).await })
    };
    let cancelled: Result<Cancelled> = cancelled.await;
    answer(
        cancelled.map(|cancelled| response::json(StatusCode::OK, &cancelled)),
        correlation_id.as_ref(),
    )
}

async fn count_tokens(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let correlation_id = request.extensions().get::<CorrelationId>().cloned();
    let counted = async {
        // Before the body, which may be long.
        let worker = inner.worker()?;
        let CountTokens { task } = response::read_json(request, MOST_BYTES).await?;
        Ok(CountedTokens { tokens: worker.count_tokens(task).await? })
    };
    let counted: Result<CountedTokens> = counted.await;
    answer(counted.map(|counted| response::json(StatusCode::OK, &counted)), correlation_id.as_ref())
}

async fn renew(State(inner): State<Arc<Inner>>) -> StatusCode {
    if let Some(lease) = &inner.lease {
        lease.renew();
    }
    StatusCode::NO_CONTENT
}

async fn reload(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let correlation_id = request.extensions().get::<CorrelationId>().cloned();
    let files = inner.tls.get().cloned();
    // Files may be on a network.
    let read = tokio::task::spawn_blocking(move || {
        let Some(files) = files else { return Ok(false) };
        let reloaded = files.reload();
        log_reload("TLS certificate", files.certificates(), &reloaded);
        reloaded
    });
    let reloaded = read.await.unwrap_or_else(|cause| {
        let message = "reading the files of TLS again broke off";
        Err(Error::new(ErrorKind::Internal, message).with_source(cause))
    });
    answer(reloaded.map(|_| StatusCode::NO_CONTENT.into_response()), correlation_id.as_ref())
}

async fn shutdown(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let correlation_id = request.extensions().get::<CorrelationId>().cloned();
    // The caller has already cancelled runs in progress: a worker gives no grace of its own.
    let order = response::read_json::<Shutdown>(request, MOST_BYTES).await;
    let done = order.map(|_| {
        inner.stop.cancel();
        StatusCode::ACCEPTED.into_response()
    });
    answer(done, correlation_id.as_ref())
}

fn answer(result: Result<Response>, correlation_id: Option<&CorrelationId>) -> Response {
    result.unwrap_or_else(|error| response::refuse(&error, correlation_id))
}
