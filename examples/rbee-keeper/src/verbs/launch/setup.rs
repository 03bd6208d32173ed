//! What a client is started with: variables, arguments, and a file with facts about the model.

use std::{fmt, path::PathBuf};

use super::config_file;
use crate::failure::Failure;

/// The key for clients that refuse to start without one, if the queen requires none.
const NO_KEY: &str = "none";

/// What a client must know of the queen and the model.
pub(super) struct Target {
    /// The queen's address, without a path and without a slash at its end.
    pub(super) url: String,
    /// The key, if the queen requires one.
    pub(super) key: Option<String>,
    /// The name to request the model by.
    pub(super) model: String,
    /// The longest prompt and answer together, in tokens, if known.
    pub(super) context: Option<u32>,
    /// Certificates in PEM that are trusted, as an absolute path.
    pub(super) ca_cert: Option<PathBuf>,
    /// The directory with the files that `rbee launch` keeps.
    pub(super) directory: PathBuf,
}

/// Without the key.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Target");
        shown.field("url", &self.url).field("model", &self.model).finish_non_exhaustive()
    }
}

impl Target {
    /// The base URL of the API in OpenAI's format.
    pub(super) fn openai_url(&self) -> String {
        format!("{}/v1", self.url)
    }

    /// The key, or a placeholder for clients that require one.
    pub(super) fn key_or_placeholder(&self) -> &str {
        self.key.as_deref().unwrap_or(NO_KEY)
    }

    /// The same as a variable.
    pub(super) fn key_setting(&self) -> Setting {
        match self.key {
            Some(_) => Setting::Key,
            None => Setting::Text(NO_KEY.into()),
        }
    }

    /// The variable that names the certificates, for a client that reads it.
    pub(super) fn ca_variable(&self, name: &'static str) -> Option<(&'static str, Setting)> {
        let path = self.ca_cert.as_ref()?;
        Some((name, Setting::Text(path.display().to_string())))
    }
}

/// The longest answer to request of a model with this context, in tokens. A quarter leaves most of the context to the
/// conversation; 32,000 is the default of the clients for models with a large context.
pub(super) fn most_output(context: u32) -> u32 {
    (context / 4).clamp(1, 32_000)
}

/// What a client is started with.
#[derive(Debug, Default)]
pub(super) struct Setup {
    /// Variables to set.
    pub(super) variables: Vec<(&'static str, Setting)>,
    /// Variables to remove, because with them the client would use another server or another key.
    pub(super) removed: Vec<&'static str>,
    /// The first arguments of the client.
    pub(super) arguments: Vec<String>,
    /// A file that the arguments name.
    pub(super) file: Option<OwnFile>,
}

/// The value of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    /// This text.
    Text(String),
    /// The key for the queen, which is not shown.
    Key,
}

impl Setting {
    /// The value for the client.
    pub(super) fn value<'a>(&'a self, key: Option<&'a str>) -> &'a str {
        match self {
            Self::Text(text) => text,
            Self::Key => key.unwrap_or_default(),
        }
    }
}

impl From<&str> for Setting {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Setting {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// A file in rbee's own directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl OwnFile {
    /// Writes it, for its owner alone.
    pub(super) fn write(&self) -> Result<(), Failure> {
        config_file::write_own(&self.path, self.text.as_bytes())
    }
}
