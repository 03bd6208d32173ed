//! [`Refusal`]: why a text is not a value, with the line, the path, the value and what is allowed.

use std::{error, fmt};

use rbee_core::similar::nearest;
use rbee_transport_http::server::quoted;

/// The most characters of a value in an error.
const MAX_SHOWN: usize = 60;

/// Why a text cannot be read into a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The line of the text, from 1.
    pub(super) line: u64,
    /// The path of the value in the text, like `hives[0].url`; empty for the whole.
    pub(super) path: String,
    pub(super) problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The value, and what is allowed.
    Value(String, String),
    /// An unknown key of the map at the path, and the known ones.
    #[cfg_attr(not(feature = "yaml"), expect(dead_code, reason = "only the reader makes it"))]
    UnknownKey(String, Vec<&'static str>),
    /// A sentence.
    Other(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.problem {
            Problem::Value(shown, allowed) => write!(f, "{path} is {shown}; allowed is {allowed}"),
            Problem::UnknownKey(key, known) => {
                let near = nearest(key, known.iter().copied());
                let hint = near.map(|name| format!("; {name} perhaps?")).unwrap_or_default();
                if path.is_empty() {
                    let end = if hint.is_empty() { ";" } else { "" };
                    return write!(
                        f,
                        "there is no key {}{hint}{end} --help lists them all",
                        quoted(key)
                    );
                }
                write!(f, "{path} has no {}; allowed are {}{hint}", quoted(key), known.join(", "))
            }
            Problem::Other(why) if path.is_empty() => f.write_str(why),
            Problem::Other(why) => write!(f, "{path}: {why}"),
        }
    }
}

impl error::Error for Refusal {}

impl Refusal {
    /// The same, if the whole text is the value of this key.
    pub(super) fn within(mut self, key: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{key}{dot}{}", self.path);
        self
    }

    /// The error for a whole text that is not a value of the type.
    pub(super) fn of_text(text: &str) -> Self {
        let problem = Problem::Value(shortened(&quoted(text)), String::new());
        Self { line: 1, path: String::new(), problem }
    }
}

/// The text, cut to the length that an error shows.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}
