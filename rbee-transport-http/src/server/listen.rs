//! The server of a router: connections with limits on everything that a client can make large or slow.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use axum::Router;
use rbee_core::{Error, ErrorKind, Result};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    accept_report::{AcceptReport, Event},
    connection::Connection,
    connections::{Caps, Connected, ConnectionTable, Full},
    descriptors,
    limits::Limits,
    shutdown_signal::ShutdownSignal,
    tls::TlsFiles,
};

/// The pause before the next attempt to accept, if the operating system has no room for a connection. It doubles each
/// time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const MAX_ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Connections that the operating system holds until they are accepted. With the 128 of the standard library, the
/// system drops some of a burst, and their clients try again after a second.
const BACKLOG: u32 = 1_024;

/// A listening socket and the settings for its connections.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    limits: Limits,
    tls: Option<TlsFiles>,
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
    /// [`ErrorKind::Config`] if that is not possible, for example because another program listens there.
    pub async fn bind(address: SocketAddr) -> Result<Self> {
        let wrong = |cause: std::io::Error| {
            Error::new(ErrorKind::Config, format!("cannot listen on {address}: {cause}"))
                .with_source(cause)
        };
        let listener = listen(address).map_err(wrong)?;
        let address = listener.local_addr().map_err(wrong)?;
        Ok(Self { listener, address, limits: Limits::default(), tls: None })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets other limits.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Uses TLS, with the certificates and the private key of these PEM files.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a file cannot be read, if the two do not match, or if this build has no TLS (feature
    /// `tls`).
    pub fn with_tls(mut self, certificates: &Path, key: &Path) -> Result<Self> {
        self.tls = Some(TlsFiles::open(certificates, key)?);
        Ok(self)
    }

    /// The same, with files that were read before.
    pub fn with_tls_files(mut self, files: TlsFiles) -> Self {
        self.tls = Some(files);
        self
    }

    /// The files of [`with_tls`](Self::with_tls), to read them again while it serves.
    pub fn tls_files(&self) -> Option<TlsFiles> {
        self.tls.clone()
    }

    /// Serves until `stop` is cancelled; then accepts no more connections, and gives requests in progress `grace` to
    /// end.
    pub async fn run(self, router: Router, stop: CancellationToken, grace: Duration) {
        let mut tasks = JoinSet::new();
        let shutdown = Arc::new(ShutdownSignal::default());
        let accepting = self.accept_all(&router, &shutdown, &mut tasks);
        stop.run_until_cancelled(accepting).await;
        shutdown.send();
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            tasks.shutdown().await;
        }
    }

    /// Accepts connections and serves them; never returns.
    async fn accept_all(
        &self,
        router: &Router,
        shutdown: &Arc<ShutdownSignal>,
        tasks: &mut JoinSet<()>,
    ) {
        let table = ConnectionTable::new(self.caps(descriptors::limit()));
        let (mut report, mut pause) = (AcceptReport::default(), ACCEPT_PAUSE);
        loop {
            report.say(Instant::now(), table.open(), table.caps().all);
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = until(report.due()) => continue,
            };
            // Tasks that have ended are removed.
            while tasks.try_join_next().is_some() {}
            match accepted {
                Ok((stream, from)) => {
                    pause = ACCEPT_PAUSE;
                    let Some(connected) = admit(&table, from, &mut report).await else { continue };
                    self.serve(stream, connected, &table, router, shutdown, tasks);
                }
                // That client has disconnected.
                Err(error) if is_about_one(&error) => {}
                Err(error) => {
                    // Most likely out of descriptors: other parts of the process use more than was reserved for them.
                    report.note(Event::Failed(&error));
                    if let Some(why) = table.close_one(Instant::now()) {
                        tracing::debug!(?why, "a connection was closed for its descriptor");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_ACCEPT_PAUSE);
                }
            }
        }
    }

    fn serve(
        &self,
        stream: TcpStream,
        connected: Arc<Connected>,
        table: &ConnectionTable,
        router: &Router,
        shutdown: &Arc<ShutdownSignal>,
        tasks: &mut JoinSet<()>,
    ) {
        let id = connected.id();
        let connection = Connection {
            limits: self.limits,
            tls: self.tls.as_ref().map(TlsFiles::acceptor),
            router: router.clone(),
            shutdown: shutdown.clone(),
            connected,
        };
        let task = tasks.spawn(connection.serve(stream));
        table.served_by(&id, task);
    }

    /// The limits on connections, given this many descriptors.
    fn caps(&self, descriptors: Option<u64>) -> Caps {
        let all = descriptors::connection_cap(self.limits.connections, descriptors);
        if all < self.limits.connections {
            tracing::info!(
                address = %self.address, connections = all, open_files = descriptors,
                "fewer connections than allowed are taken at once, because of the limit on open files (`ulimit -n`)"
            );
        }
        let share =
            |default: usize| self.limits.connections_per_peer.unwrap_or(default).clamp(1, all);
        let loopback = if self.address.ip().is_loopback() { all } else { all - all / 4 };
        Caps { all, loopback: share(loopback), peer: share(all.div_ceil(2)) }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As the standard library does: a restarted daemon gets its port again at once.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Admits a connection as soon as there is room. `None` if its peer has too many.
async fn admit(
    table: &Arc<ConnectionTable>,
    from: SocketAddr,
    report: &mut AcceptReport,
) -> Option<Arc<Connected>> {
    let mut has_waited = false;
    loop {
        let now = Instant::now();
        match table.admit(from.ip().into(), now) {
            Ok((connected, closed)) => {
                if let Some(why) = closed {
                    report.note(Event::Closed(why, from.ip()));
                }
                table.settled().await;
                return Some(connected);
            }
            Err(Full::Peer) => {
                report.note(Event::Refused(from.ip()));
                return None;
            }
            Err(Full::All) => {
                if !std::mem::replace(&mut has_waited, true) {
                    report.note(Event::Waits(from.ip()));
                }
                report.say(now, table.open(), table.caps().all);
                table.changed().await;
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// True if it concerns only the connection that would have been accepted, not all.
fn is_about_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
