//! Passphrases of key files: [`Passphrases`] asks for them.

use std::{fmt, path::Path};

use async_trait::async_trait;
use zeroize::Zeroizing;

/// A passphrase. It is erased from memory when it is dropped, and `Debug` does not show it.
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Takes the passphrase.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The passphrase, for decryption only.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Passphrase(…)")
    }
}

/// Where the passphrases of encrypted key files come from: a person, in most cases.
///
/// ```
/// use std::path::Path;
///
/// use rbee_transport_ssh::{Passphrase, Passphrases};
///
/// struct Known(&'static str);
///
/// #[async_trait::async_trait]
/// impl Passphrases for Known {
///     async fn passphrase(&self, _key_file: &Path, attempt: u32) -> Option<Passphrase> {
///         (attempt == 1).then(|| Passphrase::new(self.0.into()))
///     }
/// }
/// ```
#[async_trait]
pub trait Passphrases: Send + Sync {
    /// The passphrase of this key file, or `None` to go on without this key.
    ///
    /// It is asked only if the server would accept the key (or if that cannot be found out without the passphrase),
    /// and again, with a higher `attempt` (from 1), after a wrong answer. The connection is open meanwhile, and most
    /// servers close it after two minutes, so an answer that comes later is of no use.
    async fn passphrase(&self, key_file: &Path, attempt: u32) -> Option<Passphrase>;
}

/// Nobody to ask: encrypted key files are not used.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPassphrases;

#[async_trait]
impl Passphrases for NoPassphrases {
    async fn passphrase(&self, _key_file: &Path, _attempt: u32) -> Option<Passphrase> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Passphrase;

    #[test]
    fn debug_does_not_show_the_passphrase() {
        let shown = format!("{:?}", Passphrase::new("correct horse".into()));
        assert_eq!(shown, "Passphrase(…)");
    }
}
