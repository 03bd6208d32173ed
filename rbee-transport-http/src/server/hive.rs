//! A hive, exposed over HTTP.

mod exposed;
mod inbounds;
mod models;
mod owner;
mod reach;
mod streams;
mod worker_listeners;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRequestParts, Path, Query, Request, State},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use http::StatusCode;
use rbee_core::{CorrelationId, Error, ErrorKind, HiveBackend, Result, WorkerId};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::{Lease, LogRing, TlsFiles, response, routes};
use crate::{
    token::{SharedToken, Token},
    wire::{
        self, Shutdown,
        hive::{Health, Model, Owner, Spawn, Stop},
        queen::{HiveLogQuery, Listing, LogLine, LogQuery},
    },
};
use exposed::Inner;
pub use reach::Reach;
use worker_listeners::WorkerListeners;

/// The largest body of a request.
const MOST_BYTES: usize = 1 << 20;

/// Exposes a hive on this machine to callers with this token. [`HiveServer`] also supports a lease.
///
/// ```
/// use std::sync::Arc;
/// use rbee_core::InProcessHive;
/// use rbee_transport_http::{Token, server};
///
/// let router = server::hive(Arc::new(InProcessHive::new()), Token::random()?);
/// # Ok::<(), rbee_core::Error>(())
/// ```
pub fn hive(hive: Arc<dyn HiveBackend>, token: Token) -> Router {
    HiveServer::new(hive).router(token)
}

/// A hive's daemon.
#[derive(Clone)]
pub struct HiveServer {
    inner: Arc<Inner>,
    render: Option<routes::Render>,
    logs: Option<LogRing>,
}

impl fmt::Debug for HiveServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl HiveServer {
    /// Exposes this hive. Workers inside this process each get a port of their own on 127.0.0.1, with a token.
    pub fn new(hive: Arc<dyn HiveBackend>) -> Self {
        Self::with_doors(hive, IpAddr::V4(std::net::Ipv4Addr::LOCALHOST))
    }

    /// As [`new`](Self::new); workers inside this process listen on this address.
    pub fn with_doors(hive: Arc<dyn HiveBackend>, host: IpAddr) -> Self {
        Self::with_reach(hive, Arc::new(WorkerListeners::new(host, None)))
    }

    /// As [`with_doors`](Self::with_doors), with TLS on the ports of the workers: for a server that has it itself.
    pub fn with_tls_doors(hive: Arc<dyn HiveBackend>, host: IpAddr, files: TlsFiles) -> Self {
        Self::with_reach(hive, Arc::new(WorkerListeners::new(host, Some(files))))
    }

    /// Exposes a hive whose workers are reached through `reach`.
    pub fn with_reach(hive: Arc<dyn HiveBackend>, reach: Arc<dyn Reach>) -> Self {
        Self::build(hive, reach, None)
    }

    /// Sets the lease after which it ends, which a queen renews.
    pub fn with_lease(self, lease: Lease) -> Self {
        let Inner { hive, reach, .. } = &*self.inner;
        let built = Self::build(hive.clone(), reach.clone(), Some(lease));
        Self { render: self.render, logs: self.logs, ..built }
    }

    fn build(hive: Arc<dyn HiveBackend>, reach: Arc<dyn Reach>, lease: Option<Lease>) -> Self {
        Self { inner: Arc::new(Inner::new(hive, reach, lease)), render: None, logs: None }
    }

    /// The hive that is exposed.
    pub fn hive(&self) -> &Arc<dyn HiveBackend> {
        &self.inner.hive
    }

    /// Cancelled when the daemon must end: it was shut down and its workers are stopped, or its lease has expired.
    pub fn stopped(&self) -> CancellationToken {
        self.inner.stop.clone()
    }

    /// Waits until the lease has expired, and stops. Never returns if there is no lease.
    pub async fn expire(&self) {
        Lease::run_out(self.inner.lease.as_ref()).await;
        tracing::warn!("no heartbeat from a queen; ending");
        self.inner.stop.cancel();
    }

    /// Serves these metrics at `/metrics`, in Prometheus' text format. Without this there is no such path.
    pub fn with_metrics(mut self, render: Arc<dyn Fn() -> String + Send + Sync>) -> Self {
        self.render = Some(render);
        self
    }

    /// Sets the log lines of `/v1/logs`. Without it there are none.
    pub fn with_logs(mut self, logs: LogRing) -> Self {
        self.logs = Some(logs);
        self
    }

    /// The routes, for callers with this token. A hive cannot be served without one: any user of the machine could
    /// start programs with it, and read the orders of its workers. The token can be [replaced](SharedToken::replace)
    /// while it is in use.
    pub fn router(&self, token: impl Into<SharedToken>) -> Router {
        let ring = self.logs.clone();
        let logs = move |request: Request| async move { answer(lines(ring, &request), &request) };
        let routes = Router::new()
            .route(wire::HEALTH, get(health))
            .route(wire::hive::LOGS, get(logs))
            .route(wire::hive::CAPABILITIES, get(capabilities))
            .route(wire::hive::WORKERS, get(workers).post(spawn))
            .route(wire::hive::WORKER, get(worker).delete(stop))
            .route(wire::hive::MODELS, get(list_models).delete(remove_model))
            .route(wire::hive::PROVISION, post(models::provision))
            .route(wire::hive::VERIFY, post(models::verify))
            .route(wire::hive::MANIFEST, get(models::manifest))
            .route(wire::hive::CONTENT, get(models::content))
            .route(wire::hive::MODEL_PART, put(models::take).layer(DefaultBodyLimit::disable()))
            .route(wire::hive::EVENTS, get(events))
            .route(wire::LEASE, post(renew))
            .route(wire::SHUTDOWN, post(shutdown));
        let inner = self.inner.clone();
        let routes = routes::measurements(routes, self.render.clone(), move || {
            let inner = inner.clone();
            async move { inner.measure().await }
        });
        routes::close(routes, self.inner.clone(), token.into())
    }
}

type Shared = State<Arc<Inner>>;

async fn health(State(inner): Shared, request: Request) -> Response {
    let health = async {
        Ok(Health {
            status: wire::Up::default().status,
            hive: inner.hive.info().id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: hostname(),
            pid: std::process::id(),
            rev: inner.hive.report().await?.rev,
        })
    };
    answer(health.await, &request)
}

async fn capabilities(State(inner): Shared, request: Request) -> Response {
    answer(inner.hive.report().await, &request)
}

async fn workers(State(inner): Shared, request: Request) -> Response {
    answer(inner.hive.report().await.map(|report| report.workers), &request)
}

async fn list_models(State(inner): Shared, request: Request) -> Response {
    answer(inner.hive.report().await.map(|report| report.models), &request)
}

async fn spawn(State(inner): Shared, request: Request) -> Response {
    let mark = mark(&request);
    match response::read_json::<Spawn>(request, MOST_BYTES).await {
        Ok(order) => streams::spawn(inner, order),
        Err(error) => response::refuse(&error, mark.as_ref()),
    }
}

async fn worker(State(inner): Shared, request: Request) -> Response {
    let (id, request) = match id(request).await {
        Ok(found) => found,
        Err(refusal) => return refusal,
    };
    answer(inner.address(id).await, &request)
}

async fn stop(State(inner): Shared, request: Request) -> Response {
    let (id, request) = match id(request).await {
        Ok(found) => found,
        Err(refusal) => return refusal,
    };
    let order = query(&request);
    let stopped = async {
        let Stop { grace_ms } = order?;
        inner.hive.stop(id, Duration::from_millis(grace_ms)).await
    };
    done(stopped.await, StatusCode::NO_CONTENT, &request)
}

async fn remove_model(State(inner): Shared, request: Request) -> Response {
    let order = query(&request);
    let removed = async {
        let Model { model } = order?;
        inner.hive.remove_model(&model).await
    };
    done(removed.await, StatusCode::NO_CONTENT, &request)
}

async fn events(State(inner): Shared, request: Request) -> Response {
    let order = query(&request);
    let followed = async {
        let Owner { owner } = order?;
        inner.follow(owner).await
    };
    match followed.await {
        Ok(events) => streams::events(events),
        Err(error) => response::refuse(&error, mark(&request).as_ref()),
    }
}

async fn renew(State(inner): Shared, request: Request) -> Response {
    let mark = mark(&request);
    let renewed = async {
        let Owner { owner } = response::read_json(request, MOST_BYTES).await?;
        let lease = inner.claim(owner)?;
        inner.open_all().await;
        Ok(lease)
    };
    match renewed.await {
        Ok(lease) => response::json(StatusCode::OK, &lease),
        Err(error) => response::refuse(&error, mark.as_ref()),
    }
}

/// Responds when the workers are stopped; the daemon ends then.
async fn shutdown(State(inner): Shared, request: Request) -> Response {
    let mark = mark(&request);
    // In a task of its own: the workers must be stopped even if the client disconnects.
    let told = async {
        let Shutdown { grace_ms } = response::read_json(request, MOST_BYTES).await?;
        let down = tokio::spawn(async move { inner.end(Duration::from_millis(grace_ms)).await });
        down.await.unwrap_or_else(|cause| {
            let message = "the shutdown of the hive was interrupted";
            Err(Error::new(ErrorKind::Internal, message).with_source(cause))
        })
    };
    match told.await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => response::refuse(&error, mark.as_ref()),
    }
}

fn lines(logs: Option<LogRing>, request: &Request) -> Result<Listing<LogLine>> {
    let HiveLogQuery { lines } = query(request)?;
    let Some(logs) = logs else {
        return Err(Error::new(ErrorKind::NotFound, "no log is kept here"));
    };
    let data = logs.tail(&LogQuery { lines, ..LogQuery::default() })?;
    Ok(Listing { data })
}

fn mark(request: &Request) -> Option<CorrelationId> {
    request.extensions().get().cloned()
}

fn answer<T: serde::Serialize>(result: Result<T>, request: &Request) -> Response {
    match result {
        Ok(body) => response::json(StatusCode::OK, &body),
        Err(error) => response::refuse(&error, request.extensions().get()),
    }
}

fn done(result: Result<()>, status: StatusCode, request: &Request) -> Response {
    match result {
        Ok(()) => status.into_response(),
        Err(error) => response::refuse(&error, request.extensions().get()),
    }
}

fn query<T: DeserializeOwned>(request: &Request) -> Result<T> {
    let query = Query::try_from_uri(request.uri()).map_err(|cause| {
        Error::new(ErrorKind::InvalidRequest, format!("the query is not understood: {cause}"))
    })?;
    Ok(query.0)
}

/// The worker in the path.
async fn id(request: Request) -> Result<(WorkerId, Request), Response> {
    let (mut parts, body) = request.into_parts();
    let id = Path::<String>::from_request_parts(&mut parts, &()).await;
    let request = Request::from_parts(parts, body);
    let id = id.map_err(|cause| Error::new(ErrorKind::InvalidRequest, cause.body_text()));
    match id.and_then(|Path(id)| id.parse()) {
        Ok(id) => Ok((id, request)),
        Err(error) => Err(response::refuse(&error, request.extensions().get())),
    }
}

/// The host name of this machine.
pub fn hostname() -> String {
    #[cfg(unix)]
    {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }
    #[cfg(not(unix))]
    {
        std::env::var("COMPUTERNAME").unwrap_or_default()
    }
}
