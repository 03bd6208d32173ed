//! The passphrase of a key file, as a client sent it: [`KeyPassphrase`].

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
};

use rbee_core::async_trait;
use rbee_transport_http::Secret;
use rbee_transport_ssh::{Passphrase, Passphrases};

use super::super::lock;

/// The passphrase that a client sent last, if it sent one. It stays in memory for later connections to the machine.
pub(super) struct KeyPassphrase {
    sent: Mutex<Option<Secret>>,
    /// The last key file that needed one which is not known.
    missing: Mutex<Option<PathBuf>>,
}

impl KeyPassphrase {
    pub(super) fn new(sent: Option<Secret>) -> Self {
        Self { sent: Mutex::new(sent), missing: Mutex::default() }
    }

    pub(super) fn unknown() -> Self {
        Self::new(None)
    }

    /// Replaces it.
    pub(super) fn set(&self, sent: Secret) {
        *lock(&self.sent) = Some(sent);
    }

    /// True if a client sent one.
    pub(super) fn was_sent(&self) -> bool {
        lock(&self.sent).is_some()
    }

    /// The key file whose passphrase is not the one that was sent, or was not sent.
    pub(super) fn missing(&self) -> Option<PathBuf> {
        lock(&self.missing).clone()
    }
}

#[async_trait]
impl Passphrases for KeyPassphrase {
    async fn passphrase(&self, key_file: &Path, attempt: u32) -> Option<Passphrase> {
        match &*lock(&self.sent) {
            Some(sent) if attempt == 1 => Some(Passphrase::new(sent.reveal().to_owned())),
            _ => {
                *lock(&self.missing) = Some(key_file.to_owned());
                None
            }
        }
    }
}
