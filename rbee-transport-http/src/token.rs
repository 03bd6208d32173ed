//! Bearer tokens, which cannot be printed.

use std::{
    fmt,
    io::Read,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, PoisonError, RwLock},
};

use rbee_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// The random bytes in a token that is made here: 256 bits.
const RANDOM_BYTES: usize = 32;
/// The fewest characters that hold 256 bits, in base64.
const MIN_CHARACTERS: usize = 43;
const MAX_CHARACTERS: usize = 512;
/// The most that is read of a token file, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;

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
    /// [`ErrorKind::Internal`] if the operating system gives no random bytes.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes).map_err(|cause| {
            Error::new(ErrorKind::Internal, "the operating system gives no randomness")
                .with_source(std::io::Error::other(cause.to_string()))
        })?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()))
    }

    /// Reads the token in this file: its first line.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the name of the file, if it cannot be read or holds something else.
    pub fn from_file(path: &Path) -> Result<Self> {
        let wrong = |cause: std::io::Error| {
            Error::new(ErrorKind::Config, format!("{}: {cause}", path.display())).with_source(cause)
        };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(wrong)?;
        file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(wrong)?;
        let line = text.lines().next().unwrap_or_default().trim();
        line.parse::<Self>().map_err(|error| error.context(path.display()))
    }

    /// The token itself, for a header or for a file that only its user can read.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// True if this is the token. Takes the same time wherever the two differ.
    pub fn matches(&self, given: &str) -> bool {
        !self.0.is_empty() && bool::from(self.0.as_bytes().ct_eq(given.as_bytes()))
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

/// The token that a daemon requires, or that it sends to another daemon. It can be replaced while it is in use;
/// clones share it.
///
/// ```
/// use rbee_transport_http::{SharedToken, Token};
///
/// let (old, new) = (Token::random()?, Token::random()?);
/// let token = SharedToken::from(old.clone());
/// token.replace(new.clone());
/// assert!(token.matches(new.reveal()) && !token.matches(old.reveal()));
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Clone)]
pub struct SharedToken(Arc<RwLock<Token>>);

impl SharedToken {
    /// No token yet: nothing matches it, and a request with it is refused, until it is [replaced](Self::replace).
    pub fn pending() -> Self {
        Self::from(Token(Box::default()))
    }

    /// True if this is the current token. Takes the same time wherever the two differ.
    pub fn matches(&self, given: &str) -> bool {
        self.with(|token| token.matches(given))
    }

    /// The current token.
    pub fn current(&self) -> Token {
        self.with(Token::clone)
    }

    /// Replaces the token. Requests accepted with the old one continue.
    pub fn replace(&self, token: Token) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// The value of the header with the token.
    #[cfg(feature = "client")]
    pub(crate) fn bearer(&self) -> String {
        self.with(|token| format!("Bearer {}", token.reveal()))
    }

    fn with<T>(&self, look: impl FnOnce(&Token) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl From<Token> for SharedToken {
    fn from(token: Token) -> Self {
        Self(Arc::new(RwLock::new(token)))
    }
}

impl fmt::Debug for SharedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedToken(****)")
    }
}

/// A file with a token, which can be read again while the token is in use.
#[derive(Clone, Debug)]
pub struct TokenFile {
    path: PathBuf,
    token: SharedToken,
}

impl TokenFile {
    /// Reads the file.
    ///
    /// # Errors
    /// As [`Token::from_file`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let token = Token::from_file(&path)?.into();
        Ok(Self { path, token })
    }

    /// The file of a token that was read earlier.
    pub fn new(path: impl Into<PathBuf>, token: SharedToken) -> Self {
        Self { path: path.into(), token }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The token, which changes when the file is read again.
    pub fn token(&self) -> &SharedToken {
        &self.token
    }

    /// Reads the file again; returns true if it now holds another token, which replaces the old one. If this fails,
    /// the old one stays.
    ///
    /// # Errors
    /// As [`Token::from_file`]; also if the path is no longer a regular file, because reading could block forever.
    pub fn reload(&self) -> Result<bool> {
        require_regular_file(&self.path)?;
        let token = Token::from_file(&self.path)?;
        let is_new = self.token.with(|old| *old != token);
        if is_new {
            self.token.replace(token);
        }
        Ok(is_new)
    }
}

/// Refuses pipes and the like, which may have no writer.
pub(crate) fn require_regular_file(path: &Path) -> Result<()> {
    let wrong = |why: String| Error::new(ErrorKind::Config, format!("{}: {why}", path.display()));
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(()),
        Ok(_) => Err(wrong("it is not a regular file, so it is read at the start alone".into())),
        Err(cause) => Err(wrong(cause.to_string()).with_source(cause)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_matches_a_token_that_is_pending_until_it_is_replaced() {
        let (token, later) = (SharedToken::pending(), Token::random().unwrap());
        assert!(!token.matches("") && !token.matches(later.reveal()));
        token.replace(later.clone());
        assert!(token.matches(later.reveal()) && !token.matches(""));
    }

    #[test]
    fn a_token_file_that_is_read_again_changes_the_token_or_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let [first, second] = [Token::random().unwrap(), Token::random().unwrap()];
        std::fs::write(&path, format!("{}\n", first.reveal())).unwrap();
        let file = TokenFile::open(&path).unwrap();
        let token = file.token().clone();
        assert!(!file.reload().unwrap(), "it has not changed");
        std::fs::write(&path, format!("{}\nsecond line\n", second.reveal())).unwrap();
        assert!(token.matches(first.reveal()), "nothing changes before it is read");
        assert!(file.reload().unwrap());
        assert!(token.matches(second.reveal()) && !token.matches(first.reveal()));
        let refused = |why: &str| {
            let error = file.reload().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let said = error.to_string();
            assert!(said.contains("token") && said.contains(why), "{said}");
            assert!(token.matches(second.reveal()), "the old one stays");
        };
        std::fs::write(&path, "hunter2").unwrap();
        refused("7 characters");
        std::fs::write(&path, b"\xff\xfe").unwrap();
        refused("UTF-8");
        std::fs::remove_file(&path).unwrap();
        refused("No such file");
        std::fs::create_dir(&path).unwrap();
        refused("not a regular file");
    }

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
