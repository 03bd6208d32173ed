//! Secrets that a person types, which cannot be printed: [`Secret`].

use std::fmt;

use rbee_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The longest secret, in bytes.
const MOST_BYTES: usize = 1024;

/// A secret that a person types, such as the passphrase of a key file. Its `Debug` does not show it, it has no
/// `Display`, and it is erased from memory when it is dropped.
///
/// ```
/// use rbee_transport_http::Secret;
///
/// let secret = Secret::new("correct horse".to_owned())?;
/// assert_eq!(format!("{secret:?}"), "Secret(****)");
/// assert_eq!(secret.reveal(), "correct horse");
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the secret.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] if it is empty, or longer than 1,024 bytes.
    pub fn new(text: String) -> Result<Self> {
        let text = Zeroizing::new(text);
        if (1..=MOST_BYTES).contains(&text.len()) {
            return Ok(Self(text));
        }
        let message = format!("the secret has {} bytes; allowed are 1 to {MOST_BYTES}", text.len());
        Err(Error::for_client(ErrorKind::InvalidRequest, message))
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Secret {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::new(text)
    }
}

impl From<Secret> for String {
    fn from(secret: Secret) -> Self {
        secret.reveal().to_owned()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(****)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_without_an_end_is_refused_without_being_repeated() {
        let long = "hunter2".repeat(200);
        let error = Secret::new(long).unwrap_err();
        assert_eq!(error.message(), "the secret has 1400 bytes; allowed are 1 to 1024");
        assert!(Secret::new(String::new()).is_err());
    }
}
