//! The token of a user at a hub.

use std::{fmt, sync::Arc};

use super::HubError;
use crate::error::Result;

/// A token of a hub. It is never shown by `Debug`, in an error or in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct HubToken(Arc<str>);

impl HubToken {
    /// Checks the token.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if it is empty, is longer than 4 KiB, or contains characters
    /// other than printable ASCII without spaces.
    pub fn new(token: impl AsRef<str>) -> Result<Self> {
        let token = token.as_ref();
        if token.is_empty() || token.len() > 4096 || !token.bytes().all(|c| c.is_ascii_graphic()) {
            return Err(HubError::Token.into());
        }
        Ok(Self(token.into()))
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HubToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HubToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_shown_and_one_that_would_break_a_header_is_refused() {
        let token = HubToken::new("secret").unwrap();
        let hub = super::super::Hub::builder().token(Some(token)).build().unwrap();
        assert!(!format!("{hub:?}").contains("secret"));
        for bad in ["", "a b", "secret\r\nX: y", "sécret"] {
            let error = HubToken::new(bad).unwrap_err();
            assert!(bad.is_empty() || !error.message().contains(bad), "{error}");
        }
    }
}
