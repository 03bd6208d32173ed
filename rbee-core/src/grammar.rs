//! What an answer must look like: [`Grammar`].

use serde::{Deserialize, Serialize};

use crate::error::{Result, invalid};

/// The longest grammar, in bytes.
const MAX_BYTES: usize = 64 << 10;

/// What an answer must look like. A worker that can enforce it says so in its
/// [`Capabilities`](crate::worker::Capabilities::grammar).
///
/// ```
/// use rbee_core::{Request, request::Grammar};
///
/// let schema = r#"{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}"#;
/// let request = Request::chat("bee-tiny")
///     .user("Where do you live? Answer as JSON.")
///     .sampling(|sampling| sampling.grammar = Some(Grammar::JsonSchema(schema.into())));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grammar {
    /// Any JSON object.
    JsonObject,
    /// A JSON value that this JSON schema allows, as JSON text.
    JsonSchema(String),
    /// A text that this regular expression matches as a whole, in the syntax of Rust's crate `regex`.
    Regex(String),
    /// A text of this grammar, in the Lark dialect of [llguidance](https://github.com/guidance-ai/llguidance).
    Lark(String),
}

impl Grammar {
    /// The text of the schema, the expression or the grammar.
    pub fn text(&self) -> &str {
        match self {
            Self::JsonObject => "",
            Self::JsonSchema(text) | Self::Regex(text) | Self::Lark(text) => text,
        }
    }

    /// Checks its size. What it says is checked by the worker, which knows the model's tokens.
    ///
    /// # Errors
    /// [`InvalidRequest`](crate::ErrorKind::InvalidRequest) if it is empty or too long.
    pub(crate) fn validate(&self) -> Result<()> {
        let bytes = self.text().len();
        if *self == Self::JsonObject || (1..=MAX_BYTES).contains(&bytes) {
            return Ok(());
        }
        let message =
            format!("response_format has a grammar of {bytes} bytes; allowed are 1 to {MAX_BYTES}");
        Err(invalid(message).with_param("response_format"))
    }
}
