//! Where a server listens, and the connections that come in there.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    task::{Context, Poll},
};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::reach::Reach;
#[cfg(unix)]
use super::socket_listener::SocketListener;
#[cfg(all(feature = "tunnel", unix))]
use super::tunnel::TunnelListener;
use crate::dial::Io;

/// Connections that the operating system holds until they are accepted. With the 128 of the standard library, the
/// system drops some of a burst, and their clients try again after a second.
const BACKLOG: u32 = 1_024;

/// Where a server listens.
pub(super) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Socket(SocketListener),
    #[cfg(all(feature = "tunnel", unix))]
    Tunnel(TunnelListener),
}

/// A connection that came in.
pub(super) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    /// From this user on this machine, or from a queen that has logged in as this user.
    Local(Box<dyn Io>),
}

impl Listener {
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        match self {
            Self::Tcp(listener) => {
                listener.poll_accept(cx).map_ok(|(stream, from)| Accepted::Tcp(stream, from))
            }
            #[cfg(unix)]
            Self::Socket(SocketListener { listener, .. }) => {
                listener.poll_accept(cx).map_ok(|(stream, _)| Accepted::Local(Box::new(stream)))
            }
            #[cfg(all(feature = "tunnel", unix))]
            Self::Tunnel(tunnel) => tunnel.poll_accept(cx).map_ok(Accepted::Local),
        }
    }
}

impl Accepted {
    /// The address of the other end.
    pub(super) fn peer(&self) -> IpAddr {
        match self {
            Self::Tcp(_, from) => from.ip(),
            Self::Local(_) => Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// How it came in, to a server with this address.
    pub(super) fn reach(&self, server: SocketAddr) -> Reach {
        match self {
            Self::Tcp(stream, _) => Reach::of(server, stream.peer_addr().ok()),
            Self::Local(_) => Reach::Loopback,
        }
    }
}

/// Listens on this address.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As the standard library does: a restarted daemon gets its port again at once.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
