//! Constrained decoding: which tokens may come next, so that an answer matches a grammar.
//!
//! A [`GuideFactory`] belongs to one loaded model and knows the bytes of its tokens. It compiles a [`Grammar`] once; each
//! answer then has a [`Matcher`] of its own, which fills a [`Mask`] before each choice and accepts the chosen token after
//! it. Everything is computed from the grammar and the tokens of the answer alone: a matcher that
//! [resumes](Matcher::resume) an answer gives the same masks as the one that began it.
//!
//! # JSON
//! An answer has no white space except at most one space after each comma and colon. More freedom would be a risk: a
//! model that may write white space anywhere can write it until the answer is full. Strings use `\"`, `\\`, `\n`, `\r`,
//! `\t`, `\b` and `\f`, and every other character as it is, never `\u` and its digits; so a text has one spelling, and a
//! property cannot be repeated under an escaped name. Other control characters cannot be written; a schema that demands
//! one is refused. The properties of an object come in the order of the schema, then the additional ones.
//!
//! A keyword of JSON Schema that cannot be enforced is refused, and the error has its name and place. Nothing is
//! ignored, except annotations such as `title` and `default`. These limits remain:
//! - `format` is checked by a pattern, so it allows 29 February in any year, and second 60 in any minute.
//! - Two additional properties of an object can have the same name.
//! - `pattern` has the syntax of Rust's regular expressions, with `\d` and `\w` for ASCII only.
//! - A number can have more digits, or a larger exponent, than a float can hold.
//!
//! # Tokenizers
//! Vocabularies of bytes (`ByteLevel`) and of text with bytes as a fallback (`ByteFallback`) work. In the second kind a
//! token at the beginning of an answer can lose its leading space when it is decoded; the grammar sees that space.
//! Control tokens have no text: only a grammar that names them allows them.

mod cache;
mod control_tokens;
mod error;
mod factory;
mod lark;
mod limits;
mod mask;
mod matcher;
mod parameters;
mod schema;
mod tags;
mod token_table;

#[cfg(test)]
mod tests;

pub(in crate::candle) use self::{
    error::Error, factory::GuideFactory, mask::Mask, matcher::Matcher, token_table::TokenTable,
};

/// What an answer must look like.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::candle) enum Grammar {
    /// Any JSON object.
    JsonObject,
    /// A JSON value that a JSON Schema allows. This is the text of the schema.
    JsonSchema(String),
    /// A text that this regular expression matches as a whole. The syntax is that of Rust's `regex`; there is no
    /// look-around, no reference to a group, and no anchor except at the ends.
    Regex(String),
    /// A text of this grammar, in the Lark dialect of llguidance. `%json`, `%lark` and the attributes `stop`,
    /// `stop_capture`, `max_tokens` and `temperature` are refused.
    Lark(String),
    /// Free text with calls of tools in it.
    StructuralTags(StructuralTags),
}

/// Free text in which certain beginnings must continue as a JSON value with an end, such as calls of tools.
///
/// The text is free until it contains a trigger. Then one of the tags follows that begin with this trigger: its
/// beginning, its body, and its end. After it the text is free again. The answer may end wherever it is
/// not inside a tag.
///
/// A name of a control token in `begin`, `end` or a trigger stands for this token or for its text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::candle) struct StructuralTags {
    /// The allowed tags; at least one.
    pub(in crate::candle) tags: Vec<StructuralTag>,
    /// The texts that begin tags. Each tag begins with exactly one of them, and none contains another. If the tags are
    /// `required`, it can be one empty text.
    pub(in crate::candle) triggers: Vec<String>,
    /// If true, the answer consists of tags, at least one, with `separator` between them, and has no free text.
    pub(in crate::candle) required: bool,
    /// If true, the answer may have more than one tag. If false, it ends after its tag.
    pub(in crate::candle) parallel: bool,
    /// The text between two tags, if they are `required` and `parallel`. It may be empty.
    pub(in crate::candle) separator: String,
    /// The schema of an answer without tags, if they are `required`: the answer is then either tags or a value of this
    /// schema. No value may begin with a tag.
    pub(in crate::candle) otherwise: Option<String>,
    /// The text before the first tag and after the last one, if they are `required`. Both may be empty.
    pub(in crate::candle) around: [String; 2],
}

/// One beginning, and what follows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::candle) struct StructuralTag {
    /// The name of the tool, for errors.
    pub(in crate::candle) name: String,
    /// The text before the body; it begins with a trigger.
    pub(in crate::candle) begin: String,
    pub(in crate::candle) body: TagBody,
    /// The text after the body. It may be empty.
    pub(in crate::candle) end: String,
}

/// What is between the beginning and the end of a tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::candle) enum TagBody {
    /// A JSON value of this schema.
    Json(String),
    /// The properties of an object of this schema, each with its name.
    Parameters { schema: String, syntax: ParameterSyntax },
}

impl TagBody {
    /// True if line breaks around it may be absent.
    fn is_loose(&self) -> bool {
        matches!(self, Self::Parameters { syntax, .. } if syntax.loose)
    }

    fn schema(&self) -> &str {
        match self {
            Self::Json(schema) | Self::Parameters { schema, .. } => schema,
        }
    }
}

/// How a parameter is written: `key_begin` name `key_end` value `value_end` `end`, with `separator` between two of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::candle) struct ParameterSyntax {
    pub(in crate::candle) key_begin: String,
    pub(in crate::candle) key_end: String,
    /// A text without quotes does not have this in it.
    pub(in crate::candle) value_end: String,
    pub(in crate::candle) end: String,
    pub(in crate::candle) separator: String,
    /// True if there is a line break before `value_end`.
    pub(in crate::candle) own_lines: bool,
    /// True if line breaks between tags may be absent, also those around the parameters and between tags.
    pub(in crate::candle) loose: bool,
    /// True if values are literals of Python, with texts in quotes. `true`, `false` and `null` within another value are
    /// written as in JSON.
    pub(in crate::candle) is_python: bool,
}
