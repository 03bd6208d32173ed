//! How a connection came in, as far as the operating system knows it.

use std::net::SocketAddr;

/// How a connection came in. [`Server`](super::Server) puts it into the extensions of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// From this machine, to a server that only this machine can reach.
    Loopback,
    /// To a server that other machines can reach too.
    OpenListener,
    /// From another machine.
    OtherMachine,
}

impl Reach {
    /// The reach of a connection from `peer` to a server that listens on `listener`. A peer that is not known, because
    /// it has disconnected, counts as another machine.
    pub(super) fn of(listener: SocketAddr, peer: Option<SocketAddr>) -> Self {
        // A client over IPv4 of a server on IPv6 has the address ::ffff:127.0.0.1.
        let is_loopback = |address: SocketAddr| address.ip().to_canonical().is_loopback();
        match (is_loopback(listener), peer.is_some_and(is_loopback)) {
            (true, true) => Self::Loopback,
            (false, true) => Self::OpenListener,
            (_, false) => Self::OtherMachine,
        }
    }
}

/// Whether nobody on the way can read what a connection carries: it has TLS, or both of its ends are on this machine.
/// [`Server`](super::Server) puts it into the extensions of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Confidential(pub(super) bool);

impl Confidential {
    /// That of the connection of a request; false if nothing tells.
    pub(super) fn of_request<B>(request: &http::Request<B>) -> Self {
        request.extensions().get().copied().unwrap_or(Self(false))
    }

    pub(super) fn of(reach: Reach, has_tls: bool) -> Self {
        // A peer with a loopback address is on this machine, whatever the server listens on.
        Self(has_tls || matches!(reach, Reach::Loopback | Reach::OpenListener))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_connections_are_confidential_on_this_machine_alone() {
        for (reach, has_tls, expected) in [
            (Reach::Loopback, false, true),
            (Reach::OpenListener, false, true),
            (Reach::OtherMachine, false, false),
            (Reach::OtherMachine, true, true),
        ] {
            assert_eq!(Confidential::of(reach, has_tls), Confidential(expected), "{reach:?}");
        }
    }

    #[test]
    fn only_a_loopback_peer_of_a_loopback_listener_is_on_this_machine() {
        let of = |listener: &str, peer: Option<&str>| {
            Reach::of(listener.parse().unwrap(), peer.map(|peer| peer.parse().unwrap()))
        };
        for (listener, peer, reach) in [
            ("127.0.0.1:7833", Some("127.0.0.1:50000"), Reach::Loopback),
            ("127.0.0.1:7833", Some("127.9.9.9:50000"), Reach::Loopback),
            ("[::1]:7833", Some("[::1]:50000"), Reach::Loopback),
            ("[::ffff:127.0.0.1]:7833", Some("[::ffff:127.0.0.1]:50000"), Reach::Loopback),
            ("0.0.0.0:7833", Some("127.0.0.1:50000"), Reach::OpenListener),
            ("[::]:7833", Some("[::ffff:127.0.0.1]:50000"), Reach::OpenListener),
            ("192.168.1.7:7833", Some("127.0.0.1:50000"), Reach::OpenListener),
            ("0.0.0.0:7833", Some("192.168.1.7:50000"), Reach::OtherMachine),
            ("127.0.0.1:7833", Some("192.168.1.7:50000"), Reach::OtherMachine),
            ("127.0.0.1:7833", Some("[::ffff:192.168.1.7]:50000"), Reach::OtherMachine),
            ("127.0.0.1:7833", None, Reach::OtherMachine),
        ] {
            assert_eq!(of(listener, peer), reach, "{listener} {peer:?}");
        }
    }
}
