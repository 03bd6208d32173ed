//! A tunnel: many connections to one machine inside one byte stream, which an SSH connection carries.
//!
//! It is HTTP/2 with prior knowledge (RFC 9113). Each connection is a `CONNECT` request whose authority is `rbee:PORT`
//! (section 8.5): port 0 is the hive, others are its workers. HTTP/2 is here for its flow control: a connection whose
//! reader is slow stops only itself.

mod ping;
mod stream;

use std::time::Duration;

pub(crate) use ping::keep_alive;
pub(crate) use stream::TunnelStream;

/// The host in the authority of every `CONNECT` request.
pub(crate) const HOST: &str = "rbee";
/// The port of the hive itself.
pub(crate) const HIVE: u16 = 0;

/// The most bytes of one connection that wait for its reader.
pub(crate) const STREAM_WINDOW: u32 = 1 << 20;
/// The most bytes of all connections that wait for their readers. That many slow readers as fit into it together do not
/// stop the others.
pub(crate) const TUNNEL_WINDOW: u32 = 64 << 20;
/// The most bytes of one connection that wait to be sent.
pub(crate) const SEND_BUFFER: usize = 256 << 10;
/// The largest frame. Larger ones let the others wait longer, and are not faster.
pub(crate) const FRAME: u32 = 32 << 10;
/// The most connections at a time; more wait.
pub(crate) const MOST_STREAMS: u32 = 1_024;

/// The time limit for the first exchange.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(20);

#[cfg(test)]
#[cfg(all(feature = "server", unix))]
mod tests;
