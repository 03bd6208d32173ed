//! The near end of a tunnel: [`Tunnel`].

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use bytes::Bytes;
use h2::client::{self, SendRequest};
use http::{Method, Request, StatusCode, Uri};
use tokio_util::sync::CancellationToken;

use crate::{
    dial::{Dial, Io},
    tunnel::{
        FRAME, HANDSHAKE, HIVE, HOST, SEND_BUFFER, STREAM_WINDOW, TUNNEL_WINDOW, TunnelStream,
        keep_alive,
    },
};

/// Many connections to one machine inside one byte stream, such as a channel of an SSH connection. The other end is a
/// hive that listens on a [socket](crate::server::Server::bind_tunnel).
///
/// It is a [`Dial`]: port [`HIVE_PORT`](Self::HIVE_PORT) is the hive, and the other ports are its workers. A slow
/// reader of one connection stops only this connection; what waits for readers is bounded in bytes. The connections are
/// HTTP/2 streams.
///
/// Clones share the tunnel. It ends when the byte stream does, when the other end is silent for too long, or when the
/// last clone and the last connection are dropped.
#[derive(Clone)]
pub struct Tunnel {
    requests: SendRequest<Bytes>,
    host: Arc<str>,
    ended: CancellationToken,
    why: Arc<OnceLock<String>>,
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tunnel({})", self.host)
    }
}

impl Tunnel {
    /// The port of the hive itself.
    pub const HIVE_PORT: u16 = HIVE;

    /// A tunnel over this byte stream, to the machine of this name. Must be called in a tokio runtime, which carries it.
    ///
    /// # Errors
    /// Those of the byte stream; [`TimedOut`](io::ErrorKind::TimedOut) if the other end does not respond within
    /// 20 seconds, and an error of the protocol if it is not a hive.
    pub async fn open(io: impl Io, host: impl Into<Arc<str>>) -> io::Result<Self> {
        let mut builder = client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(TUNNEL_WINDOW)
            // None until the settings of the other end arrive, which shows that it speaks HTTP/2.
            .initial_max_send_streams(0)
            .max_concurrent_streams(0)
            .max_frame_size(FRAME)
            .max_send_buffer_size(SEND_BUFFER);
        let begun = builder.handshake::<_, Bytes>(io);
        let (requests, mut connection) = within(begun).await?.map_err(failure)?;
        let pings = connection.ping_pong();
        let (ended, why) = (CancellationToken::new(), Arc::new(OnceLock::new()));
        let (tell, told) = (ended.clone().drop_guard(), why.clone());
        let (answered, answers) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let _tell = tell;
            let lives = async {
                match pings {
                    Some(pings) => keep_alive(pings).await,
                    None => std::future::pending().await,
                }
            };
            let mut answered = Some(answered);
            let carried = std::future::poll_fn(|cx| {
                let done = Pin::new(&mut connection).poll(cx);
                // The settings have arrived.
                if connection.max_concurrent_send_streams() > 0
                    && let Some(answered) = answered.take()
                {
                    let _ = answered.send(());
                }
                done
            });
            let why = tokio::select! {
                biased;
                done = carried => done.err().map_or_else(|| "the other end closed it".to_owned(), |e| e.to_string()),
                error = lives => error.to_string(),
            };
            let _ = told.set(why);
        });
        let tunnel = Self { requests, host: host.into(), ended, why };
        match within(answers).await? {
            Ok(()) => Ok(tunnel),
            Err(_) => {
                tunnel.ended.cancelled().await;
                Err(tunnel.gone())
            }
        }
    }

    /// True once it has ended. [`dial`](Dial::dial) fails then.
    pub fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Waits until it has ended, and returns the reason.
    pub async fn ended(&self) -> String {
        self.ended.cancelled().await;
        self.why.get().cloned().unwrap_or_else(|| "its runtime has ended".to_owned())
    }

    fn gone(&self) -> io::Error {
        let why = self.why.get().map_or("its runtime has ended", String::as_str);
        let message = format!("the tunnel to {} has ended: {why}", self.host);
        io::Error::new(io::ErrorKind::NotConnected, message)
    }

    async fn connect(&self, port: u16) -> io::Result<TunnelStream> {
        let target = Uri::builder().authority(format!("{HOST}:{port}")).build();
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri(target.map_err(io::Error::other)?)
            .body(())
            .map_err(io::Error::other)?;
        let mut requests = self.requests.clone().ready().await.map_err(failure)?;
        let (response, send) = requests.send_request(request, false).map_err(failure)?;
        let response = response.await.map_err(failure)?;
        match response.status() {
            StatusCode::OK => Ok(TunnelStream::new(send, response.into_body())),
            StatusCode::NOT_FOUND => {
                let message = format!("nothing listens at port {port} of {}", self.host);
                Err(io::Error::new(io::ErrorKind::ConnectionRefused, message))
            }
            status => {
                let message = format!("{} refuses a connection: {status}", self.host);
                Err(io::Error::new(io::ErrorKind::ConnectionRefused, message))
            }
        }
    }
}

fn failure(error: h2::Error) -> io::Error {
    let text = error.to_string();
    error.into_io().unwrap_or_else(|| io::Error::new(io::ErrorKind::ConnectionAborted, text))
}

async fn within<T>(begun: impl Future<Output = T>) -> io::Result<T> {
    tokio::time::timeout(HANDSHAKE, begun).await.map_err(|_| {
        let message = format!("the other end of the tunnel did not respond within {HANDSHAKE:?}");
        io::Error::new(io::ErrorKind::TimedOut, message)
    })
}

#[async_trait]
impl Dial for Tunnel {
    async fn dial(&self, port: u16) -> io::Result<Box<dyn Io>> {
        let connected = tokio::select! {
            biased;
            connected = self.connect(port) => connected,
            () = self.ended.cancelled() => return Err(self.gone()),
        };
        match connected {
            Ok(stream) => Ok(Box::new(stream)),
            Err(_) if self.has_ended() => Err(self.gone()),
            Err(error) => Err(error),
        }
    }

    fn host(&self) -> &str {
        &self.host
    }
}
