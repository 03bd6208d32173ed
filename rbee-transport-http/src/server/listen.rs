//! What serves a router: connections with bounds on everything a client can make large or slow.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
    time::Duration,
};

use axum::Router;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rbee_core::{Error, ErrorKind, Result};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::patience::Patient;
use crate::dial::Io;

/// Bounds on connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; more wait in the operating system's queue. 10,000.
    pub connections: usize,
    /// How long the head of a request may take, and how long a connection may be unused. 60 seconds.
    pub head_patience: Duration,
    /// How long a client may read nothing while there is something for it. 2 minutes.
    pub write_patience: Duration,
    /// How long a TLS handshake may take. 10 seconds.
    pub handshake_patience: Duration,
    /// Headers of one request. 100.
    pub headers: usize,
    /// The head of a request, in bytes. 64 KiB.
    pub head_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            head_patience: Duration::from_secs(60),
            write_patience: Duration::from_secs(120),
            handshake_patience: Duration::from_secs(10),
            headers: 100,
            head_bytes: 64 << 10,
        }
    }
}

/// Between two tries to accept, where the operating system has no room for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listening socket and how connections to it are served.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    limits: Limits,
    tls: Option<TlsAcceptor>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "Server({scheme}://{})", self.address)
    }
}

impl Server {
    /// Listens on this address; port 0 lets the operating system choose one.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where that cannot be, because another program listens there for instance.
    pub async fn bind(address: SocketAddr) -> Result<Self> {
        let wrong = |cause: std::io::Error| {
            Error::new(ErrorKind::Config, format!("cannot listen on {address}: {cause}"))
                .with_source(cause)
        };
        let listener = TcpListener::bind(address).await.map_err(wrong)?;
        let address = listener.local_addr().map_err(wrong)?;
        Ok(Self { listener, address, limits: Limits::default(), tls: None })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Other bounds.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Speaks TLS, with the certificates and the private key of these PEM files.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where a file cannot be read, or the two do not fit together.
    pub fn with_tls(mut self, certificates: &Path, key: &Path) -> Result<Self> {
        let wrong = |path: &Path, why: String| {
            Error::new(ErrorKind::Config, format!("{}: {why}", path.display()))
        };
        let chain = CertificateDer::pem_file_iter(certificates)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|cause| wrong(certificates, format!("no certificates in PEM: {cause}")))?;
        let secret = PrivateKeyDer::from_pem_file(key)
            .map_err(|cause| wrong(key, format!("no private key in PEM: {cause}")))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, secret))
            .map_err(|cause| wrong(certificates, format!("cannot be used: {cause}")))?;
        self.tls = Some(TlsAcceptor::from(Arc::new(config)));
        Ok(self)
    }

    /// Serves until told to stop; then takes no more connections, and gives requests under way `grace` to end.
    pub async fn run(self, router: Router, stop: CancellationToken, grace: Duration) {
        let mut connections = JoinSet::new();
        let bell = Arc::new(Bell::default());
        let room = Arc::new(Semaphore::new(self.limits.connections));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.accept(&room) => accepted,
            };
            // Those that have ended are forgotten.
            while connections.try_join_next().is_some() {}
            let Some((stream, permit)) = accepted else { continue };
            let connection = Connection {
                limits: self.limits,
                tls: self.tls.clone(),
                router: router.clone(),
                bell: bell.clone(),
                _room: permit,
            };
            connections.spawn(connection.serve(stream));
        }
        bell.ring();
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            connections.shutdown().await;
        }
    }

    async fn accept(&self, room: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        let permit = room.clone().acquire_owned().await.ok()?;
        match self.listener.accept().await {
            Ok((stream, _)) => Some((stream, permit)),
            Err(error) => {
                // Out of file descriptors, most likely: it passes when connections end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }
}

/// Tells every connection that the server stops. A connection is polled for every token, so asking costs one load of
/// an atomic: the waker is left once, because a task keeps the one it has.
#[derive(Debug, Default)]
struct Bell {
    rung: AtomicBool,
    listeners: Mutex<Listeners>,
}

#[derive(Debug, Default)]
struct Listeners {
    next: u64,
    wakers: HashMap<u64, Waker>,
}

impl Bell {
    fn ring(&self) {
        self.rung.store(true, Ordering::SeqCst);
        let wakers = std::mem::take(&mut self.lock().wakers);
        wakers.into_values().for_each(Waker::wake);
    }

    fn has_rung(&self) -> bool {
        self.rung.load(Ordering::SeqCst)
    }

    /// Wakes this task when the bell rings, until the answer is dropped.
    fn listen(self: &Arc<Self>, waker: &Waker) -> Listener {
        let mut listeners = self.lock();
        listeners.next += 1;
        let key = listeners.next;
        listeners.wakers.insert(key, waker.clone());
        Listener { bell: self.clone(), key }
    }

    fn lock(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Listener {
    bell: Arc<Bell>,
    key: u64,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.bell.lock().wakers.remove(&self.key);
    }
}

/// One connection.
struct Connection {
    limits: Limits,
    tls: Option<TlsAcceptor>,
    router: Router,
    bell: Arc<Bell>,
    _room: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        match &self.tls {
            None => self.speak(stream).await,
            Some(tls) => {
                let shaken = tls.accept(stream);
                match tokio::time::timeout(self.limits.handshake_patience, shaken).await {
                    Ok(Ok(stream)) => self.speak(stream).await,
                    Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                    Err(_) => tracing::debug!("a TLS handshake took too long"),
                }
            }
        }
    }

    async fn speak(&self, io: impl Io) {
        let service = TowerToHyperService::new(self.router.clone());
        let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
            hyper::service::Service::call(&service, request.map(axum::body::Body::new))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_patience)
            .max_headers(self.limits.headers)
            .max_buf_size(self.limits.head_bytes)
            .serve_connection(TokioIo::new(Patient::new(io, self.limits.write_patience)), service);
        let mut connection = std::pin::pin!(connection);
        let (mut listener, mut told) = (None, false);
        let ended = std::future::poll_fn(|cx| {
            // Before the question, so that a bell that rings between the two is heard.
            listener.get_or_insert_with(|| self.bell.listen(cx.waker()));
            if !told && self.bell.has_rung() {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(cx)
        })
        .await;
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended");
        }
    }
}
