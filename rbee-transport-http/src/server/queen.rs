//! A queen, exposed over HTTP: the APIs of OpenAI, Anthropic and Ollama, and its own.
//!
//! Every request passes the [`middleware`]: it gets its correlation id, its token is checked, and an error gets the
//! shape of the API that the route belongs to. There is one file for each group of routes.

mod answer_stream;
mod batches;
mod bounds;
mod caller;
mod catalog;
mod connector;
mod doctor;
mod estimate;
mod field_rules;
mod fields;
mod health;
mod hives;
mod jobs;
mod json_escape;
mod keep_alive;
mod limits;
mod loading;
mod local_user;
mod logs;
mod messages;
mod middleware;
mod model_facts;
mod ollama;
mod openai;
#[cfg_attr(not(feature = "openapi"), path = "queen/no_openapi.rs")]
mod openapi;
mod policy;
mod replays;
mod requested_name;
mod rerank;
mod responses;
mod retry;
mod rfc3339;
mod sender;
mod shutdown;
mod tenants;
mod visible;
mod work_stream;
mod workers;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use axum::{
    Router,
    routing::{delete, get, post, put},
};
use http::{HeaderName, header};
use rbee_core::Queen;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use batches::BatchLimits;
pub use connector::{AddEvent, AddProgress, HiveConnector, HiveMachines};
pub use doctor::HealthCheck;
pub use limits::QueenLimits;

use batches::Batches;
use bounds::Bounds;
use model_facts::FileFacts;

use super::{AllowedHost, AllowedOrigin, LogRing, guard::Guard, request_metrics};
use crate::{
    token::SharedToken,
    wire::{
        self, batches as files,
        messages::{COUNT_TOKENS, MESSAGES},
        ollama as api,
        openai::MODEL,
        policy as rules, queen as paths,
    },
};

/// Exposes a queen to every client that can reach the port. [`QueenServer`] adds a token and the other features of a
/// daemon.
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

/// The builder of a queen's routes.
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
type OnShutdown = Arc<dyn Fn(paths::ShutdownOrder) + Send + Sync>;

/// The state that the routes share.
struct Inner {
    queen: Queen,
    token: Option<SharedToken>,
    guard: Guard,
    metrics_need_token: bool,
    connector: Option<Arc<dyn HiveConnector>>,
    health_checks: Vec<Arc<dyn HealthCheck>>,
    /// Directories whose files clients may name.
    file_roots: Vec<PathBuf>,
    /// False if no client counts as a local user.
    local_users: bool,
    /// Tenants are known, or were since the start.
    had_tenants: AtomicBool,
    /// True if the text of a control token in a bare prompt stands for that token.
    raw_completions: bool,
    file_facts: FileFacts,
    metrics: Option<Render>,
    logs: Option<LogRing>,
    on_shutdown: Option<OnShutdown>,
    bounds: Arc<Bounds>,
    batches: Option<Arc<Batches>>,
    stop: CancellationToken,
    began: Instant,
    /// When it began to serve, in seconds of the Unix epoch.
    began_at: u64,
}

type Shared = Arc<Inner>;

impl Inner {
    fn connector(&self) -> Option<&dyn HiveConnector> {
        self.connector.as_deref()
    }
}

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
    /// A server for every client that can reach the port.
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
                local_users: true,
                had_tenants: AtomicBool::new(false),
                raw_completions: false,
                file_facts: FileFacts::default(),
                metrics: None,
                logs: None,
                on_shutdown: None,
                bounds: Bounds::new(QueenLimits::default()),
                batches: None,
                stop: CancellationToken::new(),
                began: Instant::now(),
                began_at: unix_seconds(),
            },
        }
    }

    /// Serves only clients with this token, as the operator, and clients with a tenant's key. `/health` is open to
    /// all, but only reports the status of the queen; `/metrics` is open if that is [set](Self::with_open_metrics).
    ///
    /// Without a token, every client without a key is the operator, except in the mode
    /// [`Platform`](rbee_core::settings::Mode::Platform), which then serves only tenants.
    ///
    /// The token can be [replaced](SharedToken::replace) while it is in use.
    pub fn with_token(mut self, token: impl Into<SharedToken>) -> Self {
        self.inner.token = Some(token.into());
        self.inner.guard.any_host = true;
        self
    }

    /// Allows this host in the `Host` header. Without a token, requests may name only this machine's loopback
    /// interface (`localhost`, `127.0.0.1`, `[::1]`) and the hosts allowed here: otherwise a web page could use the
    /// daemon through a name of its own that resolves to this machine. With a token, any host is allowed.
    pub fn with_allowed_host(mut self, host: AllowedHost) -> Self {
        self.inner.guard.hosts.push(host);
        self
    }

    /// Lets web pages of this origin use the API (CORS). By default no page of another origin can.
    pub fn with_allowed_origin(mut self, origin: AllowedOrigin) -> Self {
        self.inner.guard.origins.push(origin);
        self
    }

    /// Serves `/metrics` without a token, as many scrapers need it. Only the operator gets the metrics of single tenants.
    pub fn with_open_metrics(mut self) -> Self {
        self.inner.metrics_need_token = false;
        self
    }

    /// Sets what connects to hives that are added over the API. Without it none can be added.
    pub fn with_connector(mut self, connector: Arc<dyn HiveConnector>) -> Self {
        self.inner.connector = Some(connector);
        self
    }

    /// Adds a health check to `/v1/doctor`.
    pub fn with_health_check(mut self, check: Arc<dyn HealthCheck>) -> Self {
        self.inner.health_checks.push(check);
        self
    }

    /// Lets clients name models by their file below this directory: `file:/directory/model`. Without it they can name
    /// only models that have an alias or that the queen already knows.
    ///
    /// A local user may name any file that the queen can read, with or without it. That is a client on this machine
    /// of a queen in the mode [`Home`](rbee_core::settings::Mode::Home), with the token if there is one, whose request
    /// was not passed on by a proxy and does not come from a web page. Only a [`Server`](super::Server) on a loopback
    /// address has local users, and only without [allowed hosts](Self::with_allowed_host) and if they are not
    /// [switched off](Self::without_local_users).
    ///
    /// From then on this process refuses models below the directory with links that lead out of it, unless they lead to
    /// another such directory (see [`confine_model_files`](rbee_core::models::confine_model_files)).
    pub fn with_file_root(mut self, directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        // Models are named by absolute paths. This fails only for an empty path, below which there is nothing.
        let directory = std::path::absolute(&directory).unwrap_or(directory);
        rbee_core::models::confine_model_files(&directory);
        self.inner.file_roots.push(directory);
        self
    }

    /// Lets no client name files beyond the [file roots](Self::with_file_root), also none on this machine. For a queen
    /// behind a proxy that leaves no trace in the requests it passes on.
    pub fn without_local_users(mut self) -> Self {
        self.inner.local_users = false;
        self
    }

    /// Reads the text of a control token in a bare prompt as that token, as fill-in-the-middle prompts need it
    /// (`<|fim_prefix|>`). A client that may submit such a prompt can then write a system turn, so it is off by
    /// default: text stays text. Conversations are not affected: their text always stays text.
    pub fn with_raw_completions(mut self) -> Self {
        self.inner.raw_completions = true;
        self
    }

    /// Sets the response of `/metrics`, in Prometheus' text format. Without it there is no such path. The gauges of the
    /// queen are set before each response.
    pub fn with_metrics(mut self, render: Arc<dyn Fn() -> String + Send + Sync>) -> Self {
        self.inner.metrics = Some(render);
        self
    }

    /// Sets the log lines of `/v1/logs`. Without it there is no such path.
    pub fn with_logs(mut self, logs: LogRing) -> Self {
        self.inner.logs = Some(logs);
        self
    }

    /// Lets an operator shut the queen down with `POST /v1/admin/shutdown`: this is called for each such request, must
    /// return at once, and has the application shut down. Without it the request is refused.
    pub fn with_shutdown(
        mut self,
        on_shutdown: Arc<dyn Fn(paths::ShutdownOrder) + Send + Sync>,
    ) -> Self {
        self.inner.on_shutdown = Some(on_shutdown);
        self
    }

    /// Sets other limits.
    pub fn with_limits(mut self, limits: QueenLimits) -> Self {
        self.inner.bounds = Bounds::new(limits);
        self
    }

    /// Keeps files and batches of requests in this directory, which is created if it is missing. Only its owner can access
    /// it, and only one server at a time can use it. Without it the routes of OpenAI's Batch API refuse every request.
    ///
    /// Batches that have not ended are taken up when the [`router`](Self::router) is made, which must then happen within
    /// a Tokio runtime. They are left as they are when [`stop`](Self::stop) is cancelled or the queen shuts down.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> rbee_core::Result<()> {
    /// use rbee_core::Queen;
    /// use rbee_transport_http::server::{BatchLimits, QueenServer};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let queen = Queen::builder().build().await?;
    /// let directory = data.path().join("batches");
    /// let router = QueenServer::new(queen).with_batches(directory, BatchLimits::default())?.router();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Config`](rbee_core::ErrorKind::Config) if the directory cannot be used,
    /// [`Conflict`](rbee_core::ErrorKind::Conflict) if another server uses it.
    pub fn with_batches(
        mut self,
        directory: impl AsRef<Path>,
        limits: BatchLimits,
    ) -> rbee_core::Result<Self> {
        self.inner.batches = Some(Arc::new(Batches::open(directory.as_ref(), limits)?));
        Ok(self)
    }

    /// When this is cancelled, `/health` reports that the queen shuts down, and batches stop.
    pub fn stop(mut self, stop: CancellationToken) -> Self {
        self.inner.stop = stop;
        self
    }

    /// The routes.
    pub fn router(self) -> Router {
        let cors = self.inner.guard.cors();
        let shared = Arc::new(self.inner);
        batches::start(&shared);
        let router = Router::new()
            .route(paths::CHAT, post(openai::chat))
            .route(paths::COMPLETIONS, post(openai::completions))
            .route(paths::EMBEDDINGS, post(openai::embeddings))
            .route(wire::rerank::RERANK, post(rerank::rerank))
            .route(wire::rerank::RERANK_V2, post(rerank::rerank_v2))
            .route(wire::rerank::RERANK_PLAIN, post(rerank::rerank_plain))
            .route(wire::responses::RESPONSES, post(responses::create))
            .route(wire::responses::RESPONSE, get(responses::retrieve).delete(responses::delete))
            .route(wire::responses::RESPONSE_CANCEL, post(responses::cancel))
            .route(wire::responses::RESPONSE_INPUT_ITEMS, get(responses::input_items))
            .route(paths::MODELS, get(openai::models))
            .route(MODEL, get(openai::model))
            .route(files::FILES, get(batches::list_files).post(batches::upload_file))
            .route(files::FILE, get(batches::show_file).delete(batches::delete_file))
            .route(files::FILE_CONTENT, get(batches::content))
            .route(files::BATCHES, get(batches::list).post(batches::create))
            .route(files::BATCH, get(batches::show))
            .route(files::BATCH_CANCEL, post(batches::cancel))
            .route(MESSAGES, post(messages::create))
            .route(COUNT_TOKENS, post(messages::count_tokens))
            .route(api::VERSION, get(ollama::version))
            .route(api::TAGS, get(ollama::tags))
            .route(api::SHOW, post(ollama::show))
            .route(api::PS, get(ollama::ps))
            .route(api::CHAT, post(ollama::chat))
            .route(api::GENERATE, post(ollama::generate))
            .route(api::EMBED, post(ollama::embed))
            .route(api::EMBEDDINGS, post(ollama::embeddings))
            .route(api::PULL, post(ollama::pull))
            .route(api::DELETE, delete(ollama::delete))
            .route(api::COPY, post(ollama::copy))
            .route(api::CREATE, post(ollama::create))
            .route(api::PUSH, post(ollama::push))
            .route(api::BLOB, post(ollama::blob))
            .route(paths::JOBS, get(jobs::list).post(jobs::submit))
            .route(paths::JOB, get(jobs::show).delete(jobs::cancel))
            .route(paths::JOB_EVENTS, get(jobs::events))
            .route(paths::HIVES, get(hives::list).post(hives::add))
            .route(paths::HIVE, get(hives::show).delete(hives::remove))
            .route(paths::HIVE_START, post(hives::start))
            .route(paths::HIVE_STOP, post(hives::stop))
            .route(paths::HIVE_DRAIN, post(hives::drain))
            .route(paths::HIVE_DOCTOR, get(hives::doctor))
            .route(paths::HIVE_LOGS, get(hives::logs))
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
            .route(wire::SHUTDOWN, post(shutdown::shutdown))
            .route(wire::HEALTH, get(health::health))
            .route(wire::METRICS, get(health::metrics))
            .fallback(middleware::not_found)
            .method_not_allowed_fallback(middleware::method_not_allowed)
            .layer(axum::middleware::from_fn_with_state(shared.clone(), middleware::apply));
        let router = request_metrics::count(router).with_state(shared);
        match cors {
            Some(cors) => router.layer(cors),
            None => router,
        }
    }
}

/// The current time, in seconds of the Unix epoch.
fn unix_seconds() -> u64 {
    rbee_core::time::WallTime::now().as_millis() / 1_000
}

/// The headers of every stream of events.
fn stream_headers() -> [(HeaderName, &'static str); 3] {
    [
        (header::CONTENT_TYPE, wire::sse::CONTENT_TYPE),
        (header::CACHE_CONTROL, "no-store"),
        // A proxy in between must not buffer events.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ]
}
