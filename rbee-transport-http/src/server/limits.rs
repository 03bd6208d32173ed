//! [`Limits`]: limits on connections.

use std::time::Duration;

/// Limits on connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Concurrent connections. Fewer if the process cannot have that many files open: a quarter of its descriptors,
    /// 64 to 4,096, stays free for everything else. If all are in use, an unused one is closed for a new one; if
    /// there is none, new ones wait in the operating system's queue. 10,000 by default.
    pub connections: usize,
    /// Concurrent connections from one address; an IPv6 address counts by its first 64 bits. `None` allows half of
    /// all to any other machine, and three quarters to this one, where a reverse proxy may stand for many clients;
    /// all of them if the server listens for this machine alone.
    pub connections_per_peer: Option<usize>,
    /// How long a new connection may take to send the head of its first request, after a TLS handshake. 10 seconds by
    /// default.
    pub first_head_timeout: Duration,
    /// How long a connection may be unused between two requests, which includes the time that the head of the next
    /// request takes. 2 minutes by default: the pools of clients and proxies keep unused connections for at most 90
    /// seconds, so it is the client that closes first, and no request is sent on a connection that is just being closed.
    pub idle_timeout: Duration,
    /// How long a client may read nothing while there is data for it. 2 minutes by default.
    pub write_timeout: Duration,
    /// How long a TLS handshake may take. 10 seconds by default.
    pub handshake_timeout: Duration,
    /// Headers of one request. 100 by default.
    pub headers: usize,
    /// The head of a request, in bytes. 64 KiB by default.
    pub head_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_peer: None,
            first_head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
            write_timeout: Duration::from_secs(120),
            handshake_timeout: Duration::from_secs(10),
            headers: 100,
            head_bytes: 64 << 10,
        }
    }
}
