//! How the machine of a hive is reached: [`Dial`].

#[cfg(unix)]
use std::path::PathBuf;
use std::{fmt, io, sync::Arc};

use async_trait::async_trait;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// A connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Connects to ports of one machine: over TCP, to its sockets, or through a tunnel.
#[async_trait]
pub trait Dial: fmt::Debug + Send + Sync + 'static {
    /// Connects to this port.
    ///
    /// # Errors
    /// The error of the operating system, or of the carrier of the connection.
    async fn dial(&self, port: u16) -> io::Result<Box<dyn Io>>;

    /// The name of the machine, for messages and for the `Host` header.
    fn host(&self) -> &str;
}

/// A shared `Dial` is a `Dial`.
#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<D: Dial + ?Sized> Dial for Arc<D> {
    async fn dial(&self, port: u16) -> io::Result<Box<dyn Io>> {
        (**self).dial(port).await
    }
    fn host(&self) -> &str {
        (**self).host()
    }
}

/// Connects over TCP, with `TCP_NODELAY`.
///
/// ```
/// use rbee_transport_http::dial::{Dial, Tcp};
///
/// assert_eq!(Tcp::new("192.168.1.7").host(), "192.168.1.7");
/// ```
#[derive(Clone, Debug)]
pub struct Tcp(Box<str>);

impl Tcp {
    /// To this name or address.
    pub fn new(host: impl Into<Box<str>>) -> Self {
        Self(host.into())
    }

    /// To this machine.
    pub fn loopback() -> Self {
        Self::new("127.0.0.1")
    }
}

#[async_trait]
impl Dial for Tcp {
    async fn dial(&self, port: u16) -> io::Result<Box<dyn Io>> {
        let stream = TcpStream::connect((&*self.0, port)).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }

    fn host(&self) -> &str {
        &self.0
    }
}

/// Connects to Unix sockets in one directory of this machine: port 7 is the socket `7.sock`.
///
/// ```
/// use std::path::Path;
/// use rbee_transport_http::dial::Sockets;
///
/// let sockets = Sockets::new("/var/lib/rbee/hive");
/// assert_eq!(sockets.path(7), Path::new("/var/lib/rbee/hive/7.sock"));
/// ```
#[cfg(unix)]
#[derive(Clone, Debug)]
pub struct Sockets(PathBuf);

#[cfg(unix)]
impl Sockets {
    /// The sockets in this directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// The path of the socket with this number.
    pub fn path(&self, port: u16) -> PathBuf {
        self.0.join(format!("{port}.sock"))
    }
}

#[cfg(unix)]
#[async_trait]
impl Dial for Sockets {
    async fn dial(&self, port: u16) -> io::Result<Box<dyn Io>> {
        Ok(Box::new(UnixStream::connect(self.path(port)).await?))
    }

    fn host(&self) -> &str {
        "localhost"
    }
}
