//! The current connection to a hive: [`Link`].

use std::{
    fmt, io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use rbee_core::HiveId;
use rbee_transport_http::{
    client::Tunnel,
    dial::{Dial, Io},
};

use crate::{connection::Connection, deploy::Installed};

/// The current connection to a hive, by which the hive and its workers are reached. After a reconnection the same
/// clients go on with the new one.
pub(super) struct Link {
    hive: Box<str>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    up: Option<(Connection, Tunnel)>,
    /// What this process has found or put on the machine.
    installed: Option<Installed>,
}

impl fmt::Debug for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Link({})", self.hive)
    }
}

impl Link {
    pub(super) fn new(hive: &HiveId) -> Self {
        Self { hive: hive.as_str().into(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_up(&self) -> bool {
        self.state().up.as_ref().is_some_and(|(_, tunnel)| !tunnel.has_ended())
    }

    pub(super) fn connected(&self, connection: Connection, tunnel: Tunnel, installed: Installed) {
        *self.state() = State { up: Some((connection, tunnel)), installed: Some(installed) };
    }

    /// Lets the connection go, and returns it to be closed.
    pub(super) fn disconnect(&self) -> Option<Connection> {
        self.state().up.take().map(|(connection, _)| connection)
    }

    pub(super) fn installed(&self) -> Option<Installed> {
        self.state().installed.clone()
    }

    /// Forgets what was on the machine.
    pub(super) fn forget(&self) {
        self.state().installed = None;
    }

    fn message(&self) -> String {
        format!("hive {} is not connected", self.hive)
    }
}

#[async_trait]
impl Dial for Link {
    async fn dial(&self, port: u16) -> io::Result<Box<dyn Io>> {
        let tunnel = self.state().up.as_ref().map(|(_, tunnel)| tunnel.clone());
        let tunnel =
            tunnel.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, self.message()))?;
        tunnel.dial(port).await
    }

    fn host(&self) -> &str {
        &self.hive
    }
}
