//! The main functions of a worker process and a hive process: what they serve, and when they end.

use std::{io::BufRead, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use rbee_core::{
    Error, ErrorKind, OutputStream, Result, Run, Worker, WorkerInfo, hive::WorkerFactory,
    request::Task, worker::WorkerHealth,
};
use tokio_util::sync::CancellationToken;

use super::{HiveServer, Lease, Server, TlsFiles, WorkerServer};
#[cfg(unix)]
use crate::dial::Sockets;
use crate::{
    token::SharedToken,
    wire::worker::{EXIT_PORT_TAKEN, Start, WorkerTls},
};

/// The longest order, in bytes.
const MOST_BYTES: u64 = 1 << 20;
/// How long a worker whose model could not be loaded continues, so that its hive can read the error.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long responses in progress may take once the worker ends.
const GRACE: Duration = Duration::from_secs(1);

impl Start {
    /// Reads the order from `input`, the process's standard input. Blocks.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it does not arrive or cannot be parsed. The message never repeats the order: it
    /// contains a token.
    pub fn read(input: impl BufRead) -> Result<Self> {
        let wrong = |why: String| {
            let message = format!(
                "no order on the standard input: {why}; a hive starts this program, with an order in JSON; --help says how to do it by hand"
            );
            Err(Error::new(ErrorKind::Config, message))
        };
        let mut line = Vec::new();
        if let Err(cause) = input.take(MOST_BYTES).read_until(b'\n', &mut line) {
            return wrong(cause.to_string());
        }
        if line.last() != Some(&b'\n') {
            return wrong(format!("it ended after {} bytes without a line end", line.len()));
        }
        match serde_json::from_slice(&line) {
            Ok(start) => Ok(start),
            Err(cause) => wrong(format!("line 1, column {}, is not understood", cause.column())),
        }
    }
}

/// Runs the worker that this order describes: listens, loads the model with the factory, and serves until it gets a
/// shutdown request, `stop` is cancelled, or its lease expires.
///
/// # Errors
/// Any reason why it could not listen or load its model. The hive has had a moment to read the latter.
pub async fn run_worker(
    start: Start,
    factory: impl WorkerFactory,
    stop: CancellationToken,
) -> Result<()> {
    for directory in &start.file_roots {
        rbee_core::models::confine_model_files(directory);
    }
    let server = match &start.sockets {
        #[cfg(unix)]
        Some(directory) => Server::bind_socket(&Sockets::new(directory).path(start.port))?,
        #[cfg(not(unix))]
        Some(_) => {
            let message = "this system has no Unix sockets; start the worker without `sockets`";
            return Err(Error::new(ErrorKind::Config, message));
        }
        None => Server::bind(SocketAddr::new(start.host, start.port)).await?,
    };
    let server = match &start.tls {
        Some(tls) => with_tls(server, tls, &start)?,
        None => server,
    };
    let lease = (start.lease_ms > 0).then(|| Lease::new(Duration::from_millis(start.lease_ms)));
    let host = WorkerServer::with_lease(start.id, lease);
    let host = match server.tls_files() {
        Some(files) => host.with_tls_files(files),
        None => host,
    };
    #[cfg(feature = "metrics")]
    let (host, _upkeep) = match super::Metrics::install() {
        Ok(metrics) => (host.with_metrics(metrics.renderer()), Some(metrics.keep_up())),
        // The application has a recorder of its own.
        Err(_) => (host, None),
    };
    let address = server.address();
    let router = host.router(start.token.clone());
    // Responses continue until the very end, also while the model is being dropped.
    let closed = CancellationToken::new();
    let serving = tokio::spawn(server.run(router, closed.clone(), GRACE));
    let stopped = host.stopped();
    let over = async {
        tokio::select! {
            () = stopped.cancelled() => {}
            () = stop.cancelled() => {}
            () = host.expire() => {}
        }
    };
    tokio::pin!(over);

    let mut spec = start.spec.clone();
    spec.devices.clone_from(&start.devices);
    let loaded = tokio::select! {
        biased;
        () = &mut over => None,
        loaded = factory.load(start.id, &start.hive, &spec, host.progress()) => Some(loaded),
    };
    let outcome = match loaded {
        None => Ok(()),
        Some(Ok(worker)) => {
            let mut info = WorkerInfo::clone(worker.info());
            info.devices = start.spec.devices.clone();
            let scheme = if start.tls.is_some() { "https" } else { "http" };
            info.url = start.sockets.is_none().then(|| format!("{scheme}://{address}").into());
            host.ready(Arc::new(Exposed { worker, info: Arc::new(info) }));
            // Whoever reads this may ask at once.
            tracing::info!(worker = %start.id, model = %start.spec.model, %address, "ready");
            over.await;
            Ok(())
        }
        Some(Err(error)) => {
            host.failed(error.clone());
            let _ = tokio::time::timeout(FAREWELL, over).await;
            Err(error)
        }
    };
    closed.cancel();
    // The server limits the time of its own end.
    let _ = serving.await;
    outcome
}

/// Adds TLS to the address of a worker, and the socket for its hive.
fn with_tls(server: Server, tls: &WorkerTls, start: &Start) -> Result<Server> {
    if start.sockets.is_some() {
        let message =
            "the order has sockets and tls; allowed is one of them, because a socket has no TLS";
        return Err(Error::new(ErrorKind::Config, message));
    }
    let server = server.with_tls_files(TlsFiles::open(&tls.certificates, &tls.key)?);
    #[cfg(unix)]
    return server.with_socket(&Sockets::new(&tls.sockets).path(start.port));
    #[cfg(not(unix))]
    Ok(server)
}

/// Runs a hive's daemon: serves until it gets a shutdown request, `stop` is cancelled, or its lease expires, and
/// stops its workers before it returns; each has `grace` to end.
///
/// # Errors
/// Any reason why the workers could not be stopped.
pub async fn run_hive(
    server: Server,
    hive: HiveServer,
    token: impl Into<SharedToken>,
    stop: CancellationToken,
    grace: Duration,
) -> Result<()> {
    #[cfg(feature = "metrics")]
    let (hive, _upkeep) = match super::Metrics::install() {
        Ok(metrics) => (hive.with_metrics(metrics.renderer()), Some(metrics.keep_up())),
        // The application has a recorder of its own.
        Err(_) => (hive, None),
    };
    let closed = CancellationToken::new();
    let serving = tokio::spawn(server.run(hive.router(token), closed.clone(), GRACE));
    let stopped = hive.stopped();
    tokio::select! {
        () = stopped.cancelled() => {}
        () = stop.cancelled() => {}
        () = hive.expire() => {}
    }
    let down = hive.hive().shutdown(grace).await;
    closed.cancel();
    // The server limits the time of its own end.
    let _ = serving.await;
    down
}

/// The exit status of a daemon whose command line, variables or configuration are wrong.
pub const EXIT_MISUSED: u8 = 2;

/// Writes the error that ends this program on standard error: its kind, its message, and those causes that the message
/// does not contain.
pub fn report(program: &str, error: &Error) {
    eprintln!("{program}: {}: {}", error.kind(), Error::with_causes(error));
}

/// The exit status of a daemon's process after this error, which came up while it ran: one of its own if another
/// program has the port, and 1 otherwise.
pub fn exit_status(error: &Error) -> u8 {
    let error: &(dyn std::error::Error + 'static) = error;
    let is_taken = |cause: &(dyn std::error::Error + 'static)| {
        let cause: Option<&std::io::Error> = cause.downcast_ref();
        cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::AddrInUse)
    };
    match std::iter::successors(Some(error), |cause| cause.source()).any(is_taken) {
        true => EXIT_PORT_TAKEN,
        false => 1,
    }
}

/// A worker as others see it: on its hive's devices, and at its address.
#[derive(Debug)]
struct Exposed {
    worker: Arc<dyn Worker>,
    info: Arc<WorkerInfo>,
}

#[async_trait]
impl Worker for Exposed {
    fn info(&self) -> &Arc<WorkerInfo> {
        &self.info
    }

    async fn execute(&self, run: Run) -> Result<OutputStream> {
        self.worker.execute(run).await
    }

    async fn health(&self) -> Result<WorkerHealth> {
        self.worker.health().await
    }

    async fn count_tokens(&self, task: Arc<Task>) -> Result<u32> {
        self.worker.count_tokens(task).await
    }
}
