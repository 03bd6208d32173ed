//! Notices when the other end of a tunnel is gone.

use std::{io, time::Duration};

use h2::{Ping, PingPong};

/// The time between two heartbeats.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long the other end may take to respond. A full connection delays the response by what waits in it.
const LIMIT: Duration = Duration::from_secs(20);

/// Sends heartbeats until the other end does not respond.
pub(crate) async fn keep_alive(mut pings: PingPong) -> io::Error {
    loop {
        tokio::time::sleep(INTERVAL).await;
        match tokio::time::timeout(LIMIT, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return io::Error::other(error),
            Err(_) => {
                let message = format!("the other end of the tunnel was silent for {LIMIT:?}");
                return io::Error::new(io::ErrorKind::TimedOut, message);
            }
        }
    }
}
