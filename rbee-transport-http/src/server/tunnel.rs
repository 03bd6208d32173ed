//! The far end of tunnels: [`TunnelListener`].

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::server::{self, SendResponse};
use http::{Method, Request, Response, StatusCode};
use tokio::{
    io::copy_bidirectional,
    net::UnixStream,
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use super::socket_listener::SocketListener;
use crate::{
    dial::{Dial, Io, Sockets},
    tunnel::{
        FRAME, HANDSHAKE, HIVE, HOST, MOST_STREAMS, SEND_BUFFER, STREAM_WINDOW, TUNNEL_WINDOW,
        TunnelStream, keep_alive,
    },
};

/// The most tunnels at a time. A queen has one; an old one may still be there while it connects again.
const MOST_TUNNELS: usize = 16;
/// Connections to the hive itself that wait to be served.
const WAITING: usize = 64;
/// How long a worker's socket may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// The pause before the next attempt to accept, after an error of the operating system.
const PAUSE: Duration = Duration::from_millis(200);

/// Accepts tunnels on a Unix socket, and passes on their connections to the hive itself.
pub(super) struct TunnelListener {
    /// Polled by one task, so it never waits for the lock.
    connections: Mutex<mpsc::Receiver<Box<dyn Io>>>,
    _accepting: AbortOnDropHandle<()>,
}

impl TunnelListener {
    /// Must be called in a tokio runtime.
    pub(super) fn new(socket: SocketListener, workers: Sockets) -> Self {
        let (hive, connections) = mpsc::channel(WAITING);
        let accepting = tokio::spawn(accept(socket, hive, workers));
        Self { connections: Mutex::new(connections), _accepting: AbortOnDropHandle::new(accepting) }
    }

    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Box<dyn Io>>> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections
            .poll_recv(cx)
            .map(|stream| stream.ok_or_else(|| io::Error::other("no tunnel is accepted any more")))
    }
}

/// Accepts tunnels; never returns.
async fn accept(socket: SocketListener, hive: mpsc::Sender<Box<dyn Io>>, workers: Sockets) {
    let room = Arc::new(Semaphore::new(MOST_TUNNELS));
    let mut tunnels = JoinSet::new();
    loop {
        let accepted = socket.listener.accept().await;
        while tunnels.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => match room.clone().try_acquire_owned() {
                Ok(place) => {
                    let (hive, workers) = (hive.clone(), workers.clone());
                    tunnels.spawn(async move {
                        let _place = place;
                        if let Err(error) = serve(stream, hive, workers).await {
                            tracing::debug!(%error, "a tunnel ended");
                        }
                    });
                }
                Err(_) => tracing::warn!("a tunnel was refused: {MOST_TUNNELS} are open"),
            },
            Err(error) => {
                tracing::warn!(%error, "a tunnel could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Serves one tunnel until it ends; its connections end with it.
async fn serve(
    stream: UnixStream,
    hive: mpsc::Sender<Box<dyn Io>>,
    workers: Sockets,
) -> io::Result<()> {
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(TUNNEL_WINDOW)
        .max_concurrent_streams(MOST_STREAMS)
        .max_frame_size(FRAME)
        .max_send_buffer_size(SEND_BUFFER);
    let begun = tokio::time::timeout(HANDSHAKE, builder.handshake(stream));
    let mut tunnel = begun.await?.map_err(io::Error::other)?;
    let pings = tunnel.ping_pong();
    let mut lives = std::pin::pin!(async {
        match pings {
            Some(pings) => keep_alive(pings).await,
            None => std::future::pending().await,
        }
    });
    let mut connections = JoinSet::new();
    loop {
        let asked = tokio::select! {
            biased;
            asked = tunnel.accept() => asked,
            error = &mut lives => return Err(error),
        };
        while connections.try_join_next().is_some() {}
        let Some(asked) = asked else { return Ok(()) };
        let (request, respond) = asked.map_err(io::Error::other)?;
        connections.spawn(connect(request, respond, hive.clone(), workers.clone()));
    }
}

/// Connects one stream of a tunnel, and carries its bytes until it ends.
async fn connect(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    hive: mpsc::Sender<Box<dyn Io>>,
    workers: Sockets,
) {
    let target = target(&request).ok_or(StatusCode::BAD_REQUEST);
    let worker = match target {
        Ok(HIVE) => Ok(None),
        Ok(port) => match tokio::time::timeout(CONNECT, workers.dial(port)).await {
            Ok(Ok(worker)) => Ok(Some(worker)),
            // There is no such socket, or its worker has ended.
            Ok(Err(_)) => Err(StatusCode::NOT_FOUND),
            Err(_) => Err(StatusCode::GATEWAY_TIMEOUT),
        },
        Err(status) => Err(status),
    };
    let mut response = Response::new(());
    *response.status_mut() = worker.as_ref().err().copied().unwrap_or(StatusCode::OK);
    // If it cannot be sent, the tunnel is ending.
    let Ok(send) = respond.send_response(response, worker.is_err()) else { return };
    let Ok(worker) = worker else { return };
    let mut stream = TunnelStream::new(send, request.into_body());
    match worker {
        // The server has limits of its own.
        None => drop(hive.send(Box::new(stream)).await),
        Some(mut worker) => {
            // An error of either end ends both; they notice.
            let _ = copy_bidirectional(&mut stream, &mut worker).await;
        }
    }
}

/// The port that a request names.
fn target(request: &Request<h2::RecvStream>) -> Option<u16> {
    let authority = request.uri().authority()?;
    let is_ours = request.method() == Method::CONNECT && authority.host() == HOST;
    is_ours.then(|| authority.port_u16()).flatten()
}
