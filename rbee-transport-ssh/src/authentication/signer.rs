//! Signing with a key: [`KeySigner`].

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use russh::{
    SendError, Signer,
    keys::{
        HashAlg, PrivateKey,
        agent::AgentIdentity,
        signature::Signer as _,
        ssh_encoding::Encode,
        ssh_key::{self, Signature, private::KeypairData},
    },
};
use tokio::{task, time::timeout};

use crate::passphrases::Passphrases;

use super::{
    agent::Agent,
    key_file::{self, Locked, Secret},
};

/// How often a person is asked for the passphrase of one file.
const ATTEMPTS: u32 = 3;
/// How long the answer may take. Most servers close the connection after this time.
const PASSPHRASE_LIMIT: Duration = Duration::from_secs(120);

/// Signs when the server has said that it would accept the key.
pub(super) struct KeySigner<'a> {
    pub(super) source: Source<'a>,
    /// Set while it signs, so that the server is not blamed for the time.
    pub(super) is_busy: Arc<AtomicBool>,
}

pub(super) enum Source<'a> {
    Agent { agent: &'a mut Agent, identity: Box<AgentIdentity> },
    File { path: &'a Path, secret: &'a Secret, passphrases: &'a dyn Passphrases },
}

/// Why nothing was signed.
#[derive(Debug)]
pub(super) enum SignError {
    /// The session ended.
    Ended,
    Failed(String),
}

impl From<SendError> for SignError {
    fn from(_: SendError) -> Self {
        Self::Ended
    }
}

impl Signer for KeySigner<'_> {
    type Error = SignError;

    async fn auth_sign(
        &mut self,
        _key: &AgentIdentity,
        hash: Option<HashAlg>,
        message: Vec<u8>,
    ) -> Result<Vec<u8>, SignError> {
        self.is_busy.store(true, Ordering::Relaxed);
        let signed = match &mut self.source {
            Source::Agent { agent, identity } => agent.sign(identity, hash, message).await,
            Source::File { path, secret, passphrases } => {
                match private(path, secret, *passphrases).await {
                    Ok(key) => sign(key, hash, message).await,
                    Err(reason) => Err(reason),
                }
            }
        };
        self.is_busy.store(false, Ordering::Relaxed);
        signed.map_err(SignError::Failed)
    }
}

/// The private key, with its passphrase asked for if it is encrypted.
pub(super) async fn private(
    path: &Path,
    secret: &Secret,
    passphrases: &dyn Passphrases,
) -> Result<Arc<PrivateKey>, String> {
    let text = match secret {
        Secret::Plain(key) => return Ok(key.clone()),
        Secret::Unusable(reason) => return Err(reason.clone()),
        Secret::Encrypted(text) => text,
    };
    for attempt in 1..=ATTEMPTS {
        let asking = timeout(PASSPHRASE_LIMIT, passphrases.passphrase(path, attempt));
        let passphrase = match asking.await {
            Ok(Some(passphrase)) => passphrase,
            Ok(None) if attempt == 1 => {
                return Err("it is encrypted, and there is no passphrase".into());
            }
            Ok(None) => return Err("the passphrase is wrong".into()),
            Err(_) => {
                let limit = PASSPHRASE_LIMIT.as_secs();
                return Err(format!("its passphrase was not given within {limit} s"));
            }
        };
        let text = text.clone();
        let decrypting =
            task::spawn_blocking(move || key_file::decrypt(&text, passphrase.reveal()));
        match decrypting.await {
            Ok(Ok(key)) => return Ok(Arc::new(key)),
            Ok(Err(Locked::WrongPassphrase)) => {}
            Ok(Err(Locked::Other(reason))) => {
                return Err(format!("it cannot be decrypted: {reason}"));
            }
            Err(_) => return Err("it cannot be decrypted".into()),
        }
    }
    Err(format!("the passphrase was wrong {ATTEMPTS} times"))
}

/// Appends a signature to a message. RSA takes milliseconds, so it is done on another thread.
async fn sign(
    key: Arc<PrivateKey>,
    hash: Option<HashAlg>,
    mut message: Vec<u8>,
) -> Result<Vec<u8>, String> {
    let signing = task::spawn_blocking(move || {
        let signature: Signature = match key.key_data() {
            KeypairData::Rsa(pair) => (pair, hash).try_sign(&message)?,
            pair => pair.try_sign(&message)?,
        };
        let mut encoded = Vec::new();
        signature.encode(&mut encoded)?;
        encoded.encode(&mut message)?;
        Ok(message)
    });
    match signing.await {
        Ok(result) => result.map_err(|cause: ssh_key::Error| format!("it cannot sign: {cause}")),
        Err(_) => Err("it cannot sign".into()),
    }
}
