//! Bearer tokens, which cannot be printed.

use std::{fmt, str::FromStr};

use rbee_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// Bytes of randomness in a token that is made here: 256 bits.
const RANDOM_BYTES: usize = 32;
/// The fewest characters that hold 256 bits, in base64.
const MIN_CHARACTERS: usize = 43;
const MAX_CHARACTERS: usize = 512;

/// A bearer token. Its `Debug` does not show it, it has no `Display`, and it is compared in constant time.
///
/// ```
/// use rbee_transport_http::Token;
///
/// let token = Token::random()?;
/// assert_eq!(format!("{token:?}"), "Token(****)");
/// assert!(token.matches(token.reveal()));
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token(Box<str>);

impl Token {
    /// A new one of 256 random bits, in hexadecimal.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] where the operating system gives no randomness.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes).map_err(|cause| {
            Error::new(ErrorKind::Internal, "the operating system gives no randomness")
                .with_source(std::io::Error::other(cause.to_string()))
        })?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()))
    }

    /// The token itself, to be put into a header or a file that only its user can read.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Is this the token? Takes the same time wherever the two differ.
    pub fn matches(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let count = text.len();
        if !(MIN_CHARACTERS..=MAX_CHARACTERS).contains(&count)
            || !text.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "the token has {count} characters; allowed are {MIN_CHARACTERS} to {MAX_CHARACTERS} printable \
                     ASCII characters without spaces (256 bits; `openssl rand -hex 32` makes one)"
                ),
            ));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Token {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        token.0.into()
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(****)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_shown_and_only_itself_matches() {
        let token = Token::random().unwrap();
        assert!(!format!("{token:?}").contains(token.reveal()));
        assert!(token.matches(token.reveal()));
        assert!(
            !token.matches("") && !token.matches(&token.reveal().to_uppercase().replace('A', "B"))
        );
        assert_ne!(token.reveal(), Token::random().unwrap().reveal());
    }

    #[test]
    fn a_weak_token_is_refused_without_being_repeated() {
        for weak in ["hunter2", &"é".repeat(50), &"x".repeat(600), &format!("{} ", "x".repeat(50))]
        {
            let error = weak.parse::<Token>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!error.message().contains("hunter2"));
        }
        "x".repeat(43).parse::<Token>().unwrap();
    }
}
