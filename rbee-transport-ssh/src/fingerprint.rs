//! How people compare keys: [`Fingerprint`].

use std::fmt;

use russh::keys::ssh_key::{HashAlg, public::KeyData};

/// The type and the SHA-256 fingerprint of a public key, as `ssh-keygen -l` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    algorithm: Box<str>,
    sha256: Box<str>,
}

impl Fingerprint {
    pub(crate) fn of(key: &KeyData) -> Self {
        Self {
            algorithm: key.algorithm().as_str().into(),
            sha256: key.fingerprint(HashAlg::Sha256).to_string().into(),
        }
    }

    /// The type of the key: `ssh-ed25519`.
    pub fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// The fingerprint: `SHA256:` and 43 characters of Base64.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The type as it is in the names of the files in `/etc/ssh`: `ed25519`, `ecdsa`, `rsa`.
    pub(crate) fn file_word(&self) -> &str {
        match self.algorithm() {
            name if name.starts_with("ecdsa-") => "ecdsa",
            name => name.strip_prefix("ssh-").unwrap_or(name),
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.algorithm, self.sha256)
    }
}
