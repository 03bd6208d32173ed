//! [`SocketTunnel`]: a daemon on this machine that listens on a socket.

use std::path::PathBuf;

use async_trait::async_trait;
use tokio::net::UnixStream;

use crate::{
    client::Tunnel,
    dial::{Dial, Io},
};

/// A tunnel to the socket of a daemon, which is opened when it is needed.
#[derive(Debug)]
pub(super) struct SocketTunnel {
    path: PathBuf,
    open: tokio::sync::Mutex<Option<Tunnel>>,
}

impl SocketTunnel {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, open: tokio::sync::Mutex::default() }
    }
}

#[async_trait]
impl Dial for SocketTunnel {
    async fn dial(&self, port: u16) -> std::io::Result<Box<dyn Io>> {
        let mut open = self.open.lock().await;
        let tunnel = match &*open {
            Some(tunnel) if !tunnel.has_ended() => tunnel.clone(),
            _ => {
                let stream = UnixStream::connect(&self.path).await?;
                open.insert(Tunnel::open(stream, self.host()).await?).clone()
            }
        };
        drop(open);
        tunnel.dial(port).await
    }

    fn host(&self) -> &str {
        "localhost"
    }
}
