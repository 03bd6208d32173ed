//! What happens in the task of an SSH session: [`ClientHandler`] decides on the host key and keeps what is reported.

use std::sync::{Arc, Mutex, PoisonError};

use russh::{
    Channel, ChannelId, ChannelOpenFailure,
    client::{ChannelOpenHandle, DisconnectReason, Handler, Msg, Session},
    keys::PublicKeyOrCertificate,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{error::SshError, fingerprint::Fingerprint, printable::printable};

use super::{explain, trust::Trust};

/// The most bytes of a banner that are kept.
const MOST_BANNER: usize = 16 << 10;

/// What the session's task reports.
pub(super) struct Reports {
    facts: Mutex<Facts>,
    /// Canceled when the task has ended.
    pub(super) closed: CancellationToken,
    refusals: mpsc::Sender<Refusal>,
}

#[derive(Default)]
struct Facts {
    banner: String,
    host_key: Option<Fingerprint>,
    server: String,
    end: Option<String>,
}

/// The server's answer to a channel that it does not open.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) description: String,
}

impl Reports {
    pub(super) fn new() -> (Arc<Self>, mpsc::Receiver<Refusal>) {
        // Channels are opened one at a time.
        let (refusals, received) = mpsc::channel(4);
        let (facts, closed) = (Mutex::default(), CancellationToken::new());
        (Arc::new(Self { facts, closed, refusals }), received)
    }

    fn with<T>(&self, change: impl FnOnce(&mut Facts) -> T) -> T {
        change(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn banner(&self) -> String {
        self.with(|facts| facts.banner.clone())
    }

    pub(super) fn server(&self) -> String {
        self.with(|facts| facts.server.clone())
    }

    pub(super) fn host_key(&self) -> Option<Fingerprint> {
        self.with(|facts| facts.host_key.clone())
    }

    /// Why the session ended, once it has.
    pub(super) fn end(&self) -> Option<String> {
        let unknown = || self.closed.is_cancelled().then(|| "the server closed it".to_owned());
        self.with(|facts| facts.end.clone()).or_else(unknown)
    }

    /// Keeps the reason, unless there is one already.
    pub(super) fn ends(&self, reason: String) {
        self.with(|facts| {
            facts.end.get_or_insert(reason);
        });
    }
}

/// Lives in the session's task.
pub(super) struct ClientHandler {
    pub(super) reports: Arc<Reports>,
    pub(super) trust: Trust,
}

impl Drop for ClientHandler {
    /// The task has ended, however it did.
    fn drop(&mut self) {
        self.reports.closed.cancel();
    }
}

/// An error in the session's task.
#[derive(Debug)]
pub(super) enum SessionError {
    Ssh(russh::Error),
    /// The host key is not accepted.
    Refused(Box<SshError>),
}

impl From<russh::Error> for SessionError {
    fn from(cause: russh::Error) -> Self {
        Self::Ssh(cause)
    }
}

impl Handler for ClientHandler {
    type Error = SessionError;

    async fn auth_banner(
        &mut self,
        banner: &str,
        _session: &mut Session,
    ) -> Result<(), SessionError> {
        self.reports.with(|facts| {
            let room = MOST_BANNER.saturating_sub(facts.banner.len());
            facts.banner += banner.get(..banner.floor_char_boundary(room)).unwrap_or_default();
        });
        Ok(())
    }

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, SessionError> {
        let fingerprint =
            self.trust.check(key).await.map_err(|cause| SessionError::Refused(Box::new(cause)))?;
        self.reports.with(|facts| facts.host_key = Some(fingerprint));
        Ok(true)
    }

    async fn kex_done(
        &mut self,
        _secret: Option<&[u8]>,
        _names: &russh::Names,
        session: &mut Session,
    ) -> Result<(), SessionError> {
        let server = String::from_utf8_lossy(session.remote_sshid()).into_owned();
        self.reports.with(|facts| facts.server = server);
        Ok(())
    }

    async fn channel_open_failure(
        &mut self,
        _channel: ChannelId,
        _reason: ChannelOpenFailure,
        description: &str,
        _language: &str,
        _session: &mut Session,
    ) -> Result<(), SessionError> {
        // Nobody waits for it if the queue is full.
        let _ = self.reports.refusals.try_send(Refusal { description: printable(description) });
        Ok(())
    }

    // A server has no reason to open a channel to a client that has not asked for one. Dropping the handle refuses it.

    async fn server_channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), SessionError> {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _channel: Channel<Msg>,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), SessionError> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _address: &str,
        _port: u32,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), SessionError> {
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _address: &str,
        _port: u32,
        _from: &str,
        _from_port: u32,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), SessionError> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _address: &str,
        _port: u32,
        _from: &str,
        _from_port: u32,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), SessionError> {
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _path: &str,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), SessionError> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _path: &str,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), SessionError> {
        Ok(())
    }

    async fn disconnected(
        &mut self,
        reason: DisconnectReason<SessionError>,
    ) -> Result<(), SessionError> {
        match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                self.reports.ends(format!("the server ended it: {}", printable(&info.message)));
                Ok(())
            }
            DisconnectReason::Error(SessionError::Ssh(cause)) => {
                self.reports.ends(explain::session(&cause));
                Err(SessionError::Ssh(cause))
            }
            DisconnectReason::Error(refused) => Err(refused),
        }
    }
}
