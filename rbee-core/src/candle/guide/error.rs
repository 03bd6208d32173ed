//! What can be wrong with a grammar, or with tokens.

/// The reason why a grammar cannot be used, or why an answer cannot continue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(in crate::candle) enum Error {
    /// The grammar has a mistake, or needs what is not supported: the fault of whoever wrote it.
    #[error("{message}")]
    InvalidGrammar {
        /// What is wrong, where, and what to do.
        message: String,
    },
    /// The grammar is larger, or takes more work, than a limit allows.
    #[error("{message}")]
    TooComplex {
        /// The limit, the value, and what to do.
        message: String,
    },
    /// A token that the grammar does not allow in this position. An answer that is resumed has another grammar then.
    #[error("token {token} in position {position} of the answer does not match the grammar")]
    Mismatch {
        /// The position in the answer; 0 is its first token.
        position: usize,
        /// The token.
        token: u32,
    },
    /// The tokenizer of the model cannot be used for constrained decoding.
    #[error("{message}")]
    Tokenizer {
        /// What is missing.
        message: String,
    },
    /// A fault of this program.
    #[error("{message}")]
    Internal {
        /// What failed.
        message: String,
    },
}

impl Error {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidGrammar { message: message.into() }
    }

    pub(super) fn too_complex(message: impl Into<String>) -> Self {
        Self::TooComplex { message: message.into() }
    }

    pub(super) fn tokenizer(message: impl Into<String>) -> Self {
        Self::Tokenizer { message: message.into() }
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::Internal { message: message.into() }
    }

    /// Puts the subject before the message of an error of a grammar.
    pub(super) fn within(self, subject: &str) -> Self {
        match self {
            Self::InvalidGrammar { message } => Self::invalid(format!("{subject}: {message}")),
            Self::TooComplex { message } => Self::too_complex(format!("{subject}: {message}")),
            other => other,
        }
    }
}

/// The longest part of a message that another library wrote.
const MAX_DETAIL: usize = 240;

/// A message of the library in one line, cut to a sensible length.
pub(super) fn detail(message: &str) -> String {
    // What follows these marks is the state of the parser or a backtrace.
    let end = ["<non-verbose/>", "<state>", "<backtrace>"]
        .iter()
        .filter_map(|mark| message.find(mark))
        .min()
        .unwrap_or(message.len());
    let mut line = message[..end].split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > MAX_DETAIL {
        let cut = (0..=MAX_DETAIL).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        line.truncate(cut);
        line.push_str("...");
    }
    line
}

/// The error for a failure of the library while an answer is in this position.
pub(super) fn fault(message: &str, position: usize) -> Error {
    let detail = detail(message);
    if is_panic(message) {
        return Error::internal(format!("constrained decoding failed: {detail}"));
    }
    if message.starts_with("NoExtensionBias") {
        return Error::invalid(format!(
            "no token of the model can continue the answer after {position} tokens; the grammar demands a text that the \
             model's vocabulary cannot write"
        ));
    }
    if is_limit(message) {
        return Error::too_complex(format!(
            "the grammar takes too much work after {position} tokens of the answer ({detail}); make it simpler: fewer \
             alternatives, smaller repetitions"
        ));
    }
    Error::internal(format!("constrained decoding failed after {position} tokens: {detail}"))
}

/// Returns true if a message of the library is about one of its limits. Whole phrases, because messages also have names
/// of properties.
pub(super) fn is_limit(message: &str) -> bool {
    const PHRASES: [&str; 14] = [
        "(limit",
        "DNF too large",
        "Too many items",
        "Unable to determine if regex",
        "can't determine if patternProperty",
        "check fuel",
        "fuel exhausted",
        "initial_lexer_fuel",
        "items; max is",
        "schema too large",
        "stack level exceeded",
        "too deeply nested",
        "too many expressions",
        "too many states",
    ];
    PHRASES.iter().any(|phrase| message.contains(phrase))
}

/// Returns true if the library panicked.
pub(super) fn is_panic(message: &str) -> bool {
    message.starts_with("panic: ")
}
