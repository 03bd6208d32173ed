//! The keys of an SSH agent: [`Agent`].

use std::{path::Path, time::Duration};

use russh::keys::{
    Error, HashAlg, PublicKey,
    agent::{AgentIdentity, AgentSessionBinding, client::AgentClient},
};
use tokio::{net::UnixStream, time::timeout};

/// How long the agent may take to answer.
const LIMIT: Duration = Duration::from_secs(10);
/// How long it may take to sign: it may ask a person, or wait for a touch of a device.
const SIGN_LIMIT: Duration = Duration::from_secs(60);

/// A connection to an agent.
pub(super) struct Agent {
    client: AgentClient<UnixStream>,
    pub(super) identities: Vec<AgentIdentity>,
}

impl Agent {
    /// Connects to the agent at this socket and asks for its keys.
    pub(super) async fn connect(
        socket: &Path,
        binding: Option<&AgentSessionBinding>,
    ) -> Result<Self, String> {
        let asking = async {
            let stream = UnixStream::connect(socket).await.map_err(|cause| {
                format!("it cannot be reached ({cause}); start ssh-agent, or correct SSH_AUTH_SOCK or IdentityAgent")
            })?;
            let mut client = AgentClient::connect(stream);
            if let Some(binding) = binding {
                // Agents that do not know this have no keys that need it.
                let _ = client.bind_session(binding, false).await;
            }
            let identities = client
                .request_identities()
                .await
                .map_err(|cause| format!("its keys cannot be listed: {cause}"))?;
            Ok(Self { client, identities })
        };
        let too_long = || format!("it did not answer within {} s", LIMIT.as_secs());
        timeout(LIMIT, asking).await.map_err(|_| too_long())?
    }

    /// The identity with this key, if it is a plain one.
    pub(super) fn position(&self, key: &PublicKey) -> Option<usize> {
        self.identities.iter().position(|identity| match identity {
            AgentIdentity::PublicKey { key: other, .. } => other.key_data() == key.key_data(),
            AgentIdentity::Certificate { .. } => false,
        })
    }

    /// Appends a signature to a message.
    pub(super) async fn sign(
        &mut self,
        identity: &AgentIdentity,
        hash: Option<HashAlg>,
        message: Vec<u8>,
    ) -> Result<Vec<u8>, String> {
        match timeout(SIGN_LIMIT, self.client.sign_request(identity, hash, message)).await {
            Ok(Ok(signed)) => Ok(signed),
            Ok(Err(Error::AgentFailure)) => Err("the agent refused to sign with it".into()),
            Ok(Err(cause)) => Err(format!("the agent could not sign with it: {cause}")),
            Err(_) => Err(format!("the agent did not sign within {} s", SIGN_LIMIT.as_secs())),
        }
    }
}
