//! A queen, exposed over HTTP: OpenAI's API, and her own.
//!
//! Every request passes the [`gate`]: it gets its correlation id, shows its token, and an error that comes back is put
//! into OpenAI's shape on OpenAI's routes and into rbee's elsewhere. Behind it, a file for each group of routes.

mod bounds;
mod caller;
mod catalog;
mod connector;
mod doctor;
mod estimate;
mod health;
mod hives;
mod jobs;
mod json_escape;
mod keep_alive;
mod loading;
mod logs;
mod middleware;
mod openai;
#[cfg_attr(not(feature = "openapi"), path = "queen/no_openapi.rs")]
mod openapi;
mod policy;
mod replays;
mod tenants;
mod visible;
mod workers;

use std::{fmt, path::PathBuf, sync::Arc};

use axum::{
    Router,
    routing::{delete, get, post, put},
};
use http::{HeaderName, header};
use rbee_core::Queen;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use connector::HiveConnector;
pub use doctor::HealthCheck;

use bounds::Bounds;

use super::{AllowedHost, AllowedOrigin, LogRing, guard::Guard};
use crate::{
    token::SharedToken,
    wire::{self, openai::MODEL, policy as rules, queen as paths},
};

/// Exposes a queen to whoever can reach the port. [`QueenServer`] does it with a token and whatever else a daemon has.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> rbee_core::Result<()> {
/// use rbee_core::Queen;
/// use rbee_transport_http::server;
///
/// let queen = Queen::builder().build().await?;
/// let router = server::queen(queen);
/// # Ok(())
/// # }
/// ```
pub fn queen(queen: Queen) -> Router {
    QueenServer::new(queen).router()
}

/// Bounds on what clients of a queen can send and hold.
///
/// ```
/// use rbee_transport_http::server::QueenLimits;
///
/// let limits = QueenLimits { tenant_requests: 100, ..QueenLimits::default() };
/// assert_eq!(limits.body_bytes, 8 << 20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueenLimits {
    /// The body of a request, in bytes. 8 MiB.
    pub body_bytes: usize,
    /// All bodies that are being read, or whose jobs are not in the queue yet, in bytes. At least four times
    /// `body_bytes`, also if less is set. All tenants together have three quarters of it, so that the operator can always
    /// send something. A body beyond it is refused at once with
    /// [`SystemAtCapacity`](rbee_core::ErrorKind::SystemAtCapacity). 256 MiB.
    pub total_body_bytes: usize,
    /// Those of one tenant, in bytes. At least twice `body_bytes`, also if less is set. A body beyond it is refused at
    /// once with [`RateLimited`](rbee_core::ErrorKind::RateLimited). 64 MiB.
    pub tenant_body_bytes: usize,
    /// Requests of one tenant at once, streams among them. Behind a [`Server`](super::Server) never more than a quarter of
    /// its connections, and seven eighths for all tenants together, so that the operator can always connect. More are
    /// refused with [`RateLimited`](rbee_core::ErrorKind::RateLimited), or
    /// [`SystemAtCapacity`](rbee_core::ErrorKind::SystemAtCapacity) for all together. `/health` and `/metrics` do not
    /// count. 1,024.
    pub tenant_requests: usize,
    /// Clients that follow the events of one job at once: so many of its tenant, and so many operators. More are refused
    /// with [`RateLimited`](rbee_core::ErrorKind::RateLimited). 16.
    pub job_followers: usize,
}

impl Default for QueenLimits {
    fn default() -> Self {
        Self {
            body_bytes: 8 << 20,
            total_body_bytes: 256 << 20,
            tenant_body_bytes: 64 << 20,
            tenant_requests: 1_024,
            job_followers: 16,
        }
    }
}

/// What a queen is exposed with.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> rbee_core::Result<()> {
/// use rbee_core::Queen;
/// use rbee_transport_http::{Token, server::QueenServer};
///
/// let queen = Queen::builder().build().await?;
/// let router = QueenServer::new(queen).with_token(Token::random()?).router();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until its router is served"]
pub struct QueenServer {
    inner: Inner,
}

type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// What the routes share.
struct Inner {
    queen: Queen,
    token: Option<SharedToken>,
    guard: Guard,
    metrics_need_token: bool,
    connector: Option<Arc<dyn HiveConnector>>,
    health_checks: Vec<Arc<dyn HealthCheck>>,
    /// Directories whose files clients may name.
    file_roots: Vec<PathBuf>,
    /// The text of a control token in a bare prompt stands for that token.
    raw_completions: bool,
    metrics: Option<Render>,
    logs: Option<LogRing>,
    bounds: Arc<Bounds>,
    stop: CancellationToken,
    began: Instant,
    /// When she began to serve, in seconds of the Unix epoch.
    began_at: u64,
}

type Shared = Arc<Inner>;

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueenServer")
            .field("queen", &self.queen)
            .field("token", &self.token)
            .field("limits", self.bounds.limits())
            .finish_non_exhaustive()
    }
}

impl QueenServer {
    /// A server for whoever can reach the port.
    pub fn new(queen: Queen) -> Self {
        Self {
            inner: Inner {
                queen,
                token: None,
                guard: Guard::default(),
                metrics_need_token: true,
                connector: None,
                health_checks: Vec::new(),
                file_roots: Vec::new(),
                raw_completions: false,
                metrics: None,
                logs: None,
                bounds: Bounds::new(QueenLimits::default()),
                stop: CancellationToken::new(),
                began: Instant::now(),
                began_at: unix_seconds(),
            },
        }
    }

    /// Serves only those who have this token, as the operator, and those with a tenant's key. `/health` is open to all,
    /// but says no more than whether the queen is up; `/metrics` is open if that is [set](Self::with_open_metrics).
    ///
    /// Without a token everybody is the operator who sends no key, but in the mode
    /// [`Platform`](rbee_core::settings::Mode::Platform), where only tenants are served then.
    ///
    /// The token may be one that is [replaced](SharedToken::replace) while it is served.
    pub fn with_token(mut self, token: impl Into<SharedToken>) -> Self {
        self.inner.token = Some(token.into());
        self.inner.guard.any_host = true;
        self
    }

    /// Lets requests name this host in `Host`. Without a token requests may name only this machine's loopback interface
    /// (`localhost`, `127.0.0.1`, `[::1]`) and the hosts that are allowed so: a web page could use the daemon
    /// otherwise, by a name of its own that resolves to this machine. With a token any host may be named.
    pub fn with_allowed_host(mut self, host: AllowedHost) -> Self {
        self.inner.guard.hosts.push(host);
        self
    }

    /// Lets web pages of this origin use the API (CORS). Without it no page of another origin can.
    pub fn with_allowed_origin(mut self, origin: AllowedOrigin) -> Self {
        self.inner.guard.origins.push(origin);
        self
    }

    /// Serves `/metrics` without a token, as many a scraper wants it.
    pub fn with_open_metrics(mut self) -> Self {
        self.inner.metrics_need_token = false;
        self
    }

    /// What reaches the machines that are added over the API. Without it none can be added.
    pub fn with_connector(mut self, connector: Arc<dyn HiveConnector>) -> Self {
        self.inner.connector = Some(connector);
        self
    }

    /// One more health check that is made when `/v1/doctor` is asked.
    pub fn with_health_check(mut self, check: Arc<dyn HealthCheck>) -> Self {
        self.inner.health_checks.push(check);
        self
    }

    /// Lets clients name models by their file below this directory: `file:/directory/model`. Without it they can name
    /// those that have an alias, or that the queen knows already.
    ///
    /// From then on this process reads models below the directory only from files that are there in truth, whatever
    /// links there are (see [`confine_model_files`](rbee_core::models::confine_model_files)).
    pub fn with_file_root(mut self, directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        // As models are named: by absolute paths. It fails for an empty one alone, below which nothing is.
        let directory = std::path::absolute(&directory).unwrap_or(directory);
        rbee_core::models::confine_model_files(&directory);
        self.inner.file_roots.push(directory);
        self
    }

    /// Takes the text of a control token in a bare prompt for that token, as a prompt that fills in the middle needs
    /// it (`<|fim_prefix|>`). Whoever may submit such a prompt can write a system turn then, so it is off by default:
    /// text stays text. It is not for conversations, whose text always stays text.
    pub fn with_raw_completions(mut self) -> Self {
        self.inner.raw_completions = true;
        self
    }

    /// What `/metrics` answers with, in Prometheus' text format. Without it there is no such path.
    pub fn with_metrics(mut self, render: Arc<dyn Fn() -> String + Send + Sync>) -> Self {
        self.inner.metrics = Some(render);
        self
    }

    /// What `/v1/logs` answers with. Without it there is no such path.
    pub fn with_logs(mut self, logs: LogRing) -> Self {
        self.inner.logs = Some(logs);
        self
    }

    /// Other bounds.
    pub fn with_limits(mut self, limits: QueenLimits) -> Self {
        self.inner.bounds = Bounds::new(limits);
        self
    }

    /// When this is cancelled, `/health` says that the queen goes down.
    pub fn stop(mut self, stop: CancellationToken) -> Self {
        self.inner.stop = stop;
        self
    }

    /// The routes.
    pub fn router(self) -> Router {
        let cors = self.inner.guard.cors();
        let shared = Arc::new(self.inner);
        let router = Router::new()
            .route(paths::CHAT, post(openai::chat))
            .route(paths::COMPLETIONS, post(openai::completions))
            .route(paths::EMBEDDINGS, post(openai::embeddings))
            .route(paths::MODELS, get(openai::models))
            .route(MODEL, get(openai::model))
            .route(paths::JOBS, get(jobs::list).post(jobs::submit))
            .route(paths::JOB, get(jobs::show).delete(jobs::cancel))
            .route(paths::JOB_EVENTS, get(jobs::events))
            .route(paths::HIVES, get(hives::list).post(hives::add))
            .route(paths::HIVE, get(hives::show).delete(hives::remove))
            .route(paths::HIVE_START, post(hives::start))
            .route(paths::HIVE_STOP, post(hives::stop))
            .route(paths::HIVE_DRAIN, post(hives::drain))
            .route(paths::WORKERS, get(workers::list).post(workers::spawn))
            .route(paths::WORKER, get(workers::show).delete(workers::stop))
            .route(paths::WORKER_PIN, put(workers::pin).delete(workers::unpin))
            .route(paths::CATALOG, get(catalog::list))
            .route(paths::CATALOG_PULL, post(catalog::pull))
            .route(paths::CATALOG_MODEL, get(catalog::show).delete(catalog::remove))
            .route(rules::POLICY, get(policy::show).put(policy::set).delete(policy::reset))
            .route(rules::POLICY_CHECK, post(policy::check))
            .route(rules::POLICY_SCHEMA, get(policy::schema))
            .route(rules::POLICY_REPLAY, post(replays::replay))
            .route(rules::POLICY_VERSIONS, get(policy::versions))
            .route(rules::POLICY_VERSION, get(policy::version))
            .route(rules::POLICY_ROLLBACK, post(policy::roll_back))
            .route(rules::JOB_WHY, get(policy::why))
            .route(wire::tenants::TENANTS, get(tenants::list))
            .route(
                wire::tenants::TENANT,
                get(tenants::show).put(tenants::put).delete(tenants::remove),
            )
            .route(wire::tenants::TENANT_KEYS, post(tenants::issue))
            .route(wire::tenants::TENANT_KEY, delete(tenants::revoke))
            .route(rules::ESTIMATE, post(estimate::estimate))
            .route(paths::LOGS, get(logs::logs))
            .route(paths::DOCTOR, get(doctor::doctor))
            .route(paths::OPENAPI, get(openapi::serve))
            .route(wire::HEALTH, get(health::health))
            .route(wire::METRICS, get(health::metrics))
            .fallback(middleware::not_found)
            .method_not_allowed_fallback(middleware::method_not_allowed)
            .layer(axum::middleware::from_fn_with_state(shared.clone(), middleware::apply))
            .with_state(shared);
        match cors {
            Some(cors) => router.layer(cors),
            None => router,
        }
    }
}

/// Now, in seconds of the Unix epoch.
fn unix_seconds() -> u64 {
    rbee_core::time::WallTime::now().as_millis() / 1_000
}

/// The head of every stream of events.
fn stream_headers() -> [(HeaderName, &'static str); 3] {
    [
        (header::CONTENT_TYPE, wire::sse::CONTENT_TYPE),
        (header::CACHE_CONTROL, "no-store"),
        // A proxy in between is not to hold events back.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ]
}
