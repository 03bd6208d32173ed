//! The parts of a model's answer: reasoning, content and tool calls, found while the text is written.
//!
//! An [`AnswerParser`] takes the text of an answer in pieces, cut at any character, and gives out [`Delta`]s.
//! Neighboring deltas of one kind put together do not depend on how the text was cut.
//!
//! ```
//! use rbee_core::answer::{AnswerOptions, AnswerParser, Delta, ToolFormat};
//!
//! let options = AnswerOptions { format: Some(ToolFormat::Hermes), ..AnswerOptions::default() };
//! let mut parser = AnswerParser::new(options);
//! let mut deltas = Vec::new();
//! parser.push("Let me look. <tool_", &mut deltas);
//! assert_eq!(deltas, [Delta::Content("Let me look.".into())]);
//!
//! deltas.clear();
//! parser.push("call>{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\"}}</tool_call>", &mut deltas);
//! parser.finish(&mut deltas);
//! assert_eq!(deltas, [
//!     Delta::CallBegin { index: 0, name: "weather".into() },
//!     Delta::CallArguments { index: 0, json: "{\"city\": \"Oslo\"}".into() },
//!     Delta::CallEnd { index: 0 },
//! ]);
//! ```
//!
//! # Text that is held back
//!
//! Text that may still become part of a call or a tag is held back until that is decided. Whitespace is held back if a
//! call can follow, because whitespace around calls is dropped. All other text comes out at once. At most 64 KiB are
//! held back; text that is longer and still undecided is content.
//!
//! # Malformed calls
//!
//! A call begins ([`Delta::CallBegin`]) with its arguments, if its name is known. Text that turns out not to be a call
//! before that is content, unchanged, with its tags. If a call that has begun is malformed, what was given out stays,
//! there is no [`Delta::CallEnd`] for it, and the text from the first wrong character on is content. In such content,
//! further calls are found only after `<tool_call>` and the other tags that open a call. Brackets in arguments may be
//! nested 100 deep; a call with deeper ones is malformed.
//!
//! The arguments of the formats in JSON are the text of the model, byte for byte. They are checked only as far as their
//! end requires: strings, escapes and brackets. So a call that has ended can have arguments such as `{"a": NaN}`, which
//! are not valid JSON.

mod call_object;
mod escape;
mod format;
mod hermes;
mod json;
mod llama;
mod mistral;
mod output;
mod parsed;
mod pythonic;
mod reasoning;
#[cfg(test)]
mod tests;
mod text;
pub(crate) mod xml;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::chat::CallableTool;

pub use self::{
    format::{AnswerFormat, ReasoningFormat, ThinkingSwitch},
    parsed::{ParsedAnswer, call_id},
};
use self::{
    hermes::Hermes,
    llama::Llama,
    mistral::Mistral,
    output::Output,
    pythonic::Pythonic,
    reasoning::Reasoning,
    xml::{
        XmlCalls,
        syntax::{self, XmlSyntax},
    },
};

/// The most bytes of text that are held back.
const MAX_HELD: usize = 64 * 1024;

/// The most brackets that may be open at once in the arguments of a call. `serde_json` reads up to 127.
const MAX_DEPTH: usize = 100;

/// The syntax in which a model writes tool calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolFormat {
    /// `<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>`, anywhere in the answer, any number of times.
    /// Models: Hermes, Qwen 2.5 and Qwen 3.
    Hermes,
    /// `{"name": "f", "parameters": {"a": 1}}` as the beginning of the answer, or anywhere after `<|python_tag|>`;
    /// further calls after `;`. Without the tag it is a call only if the tool is known. Models: Llama 3.1 to 3.3.
    Llama,
    /// `[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}}]` or `[TOOL_CALLS]f[ARGS]{"a": 1}`, anywhere in the answer.
    /// Models: Mistral's of 2024, and relatives.
    Mistral,
    /// `[TOOL_CALLS]f[ARGS]{"a": 1}`, read in the same way as [`Mistral`](Self::Mistral). Models: Mistral's of 2025 and
    /// later, such as Mistral Small 3.2, Magistral and Devstral.
    #[serde(rename = "mistral_args")]
    MistralArgs,
    /// `[f(a=1), g()]` as the beginning of the answer, if the first tool is known; also between `<|python_start|>` and
    /// `<|python_end|>` or in a fence of `tool_code`. Models: Llama 3.2 and Llama 4, Gemma 3.
    Pythonic,
    /// `<tool_call><function=f><parameter=a>1</parameter></function></tool_call>`, anywhere in the answer, any number of
    /// times. The schema of the tool decides whether a value is text or JSON. Models: Qwen 3 Coder, Qwen 3.5 and
    /// relatives.
    #[serde(rename = "qwen_xml")]
    QwenXml,
    /// `<tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>`, in the same way. Models: GLM 4.5 and
    /// later.
    Glm,
    /// `<minimax:tool_call><invoke name="f"><parameter name="a">1</parameter></invoke></minimax:tool_call>`, in the same
    /// way. Models: MiniMax M2.
    Minimax,
    /// `<seed:tool_call><function=f><parameter=a>1</parameter></function></seed:tool_call>`, in the same way. Models:
    /// Seed-OSS.
    Seed,
}

impl ToolFormat {
    /// All formats.
    pub const ALL: [Self; 9] = [
        Self::Hermes,
        Self::Llama,
        Self::Mistral,
        Self::MistralArgs,
        Self::Pythonic,
        Self::QwenXml,
        Self::Glm,
        Self::Minimax,
        Self::Seed,
    ];

    /// The name in settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hermes => "hermes",
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::MistralArgs => "mistral_args",
            Self::Pythonic => "pythonic",
            Self::QwenXml => "qwen_xml",
            Self::Glm => "glm",
            Self::Minimax => "minimax",
            Self::Seed => "seed",
        }
    }

    /// The tags, if it is one of XML.
    pub(crate) fn xml(self) -> Option<&'static XmlSyntax> {
        match self {
            Self::QwenXml => Some(&syntax::QWEN),
            Self::Glm => Some(&syntax::GLM),
            Self::Minimax => Some(&syntax::MINIMAX),
            Self::Seed => Some(&syntax::SEED),
            Self::Hermes | Self::Llama | Self::Mistral | Self::MistralArgs | Self::Pythonic => None,
        }
    }
}

impl fmt::Display for ToolFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The tags around the reasoning of a model.
///
/// Reasoning is only looked for before the rest of the answer. Whitespace before the tag that opens it and after the
/// tag that closes it is dropped. Reasoning that is not closed goes on until the end of the text, and calls in
/// reasoning are not calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReasoningTags {
    /// The tag that opens the reasoning, for example `<think>`. An empty one never opens it.
    pub open: String,
    /// The tag that closes the reasoning, for example `</think>`. An empty one never closes it.
    pub close: String,
    /// True if the prompt ends with the tag that opens the reasoning, so that the answer begins inside. If the model
    /// repeats the tag at the beginning, it is dropped.
    pub starts_inside: bool,
}

/// What an [`AnswerParser`] looks for. The default is nothing: the whole text is content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerOptions {
    /// The format of tool calls. If `None`, no calls are looked for.
    pub format: Option<ToolFormat>,
    /// The tags around reasoning. If `None`, no reasoning is looked for.
    pub reasoning: Option<ReasoningTags>,
    /// The tools of the request. [`Llama`](ToolFormat::Llama) without a tag and [`Pythonic`](ToolFormat::Pythonic) need
    /// their names to tell a call from other text. The other formats have tags and also give out calls of tools that do
    /// not exist. Those of XML need the schemas: a value is a text or JSON by the types that its parameter can have, and
    /// without a schema it is a text if it is not JSON of another type.
    pub tools: Vec<CallableTool>,
    /// True if calls are looked for only at the beginning of the text after the reasoning: if it begins with anything
    /// else than whitespace or a call, all of it is content.
    pub calls_alone: bool,
}

/// The next part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delta {
    /// Text for the user.
    Content(String),
    /// Text of the reasoning.
    Reasoning(String),
    /// A call begins. There is at most one open call: the one that began last.
    CallBegin {
        /// The number of the call in this answer, from 0.
        index: u32,
        /// The name of the tool, complete and not empty.
        name: String,
    },
    /// The next part of the arguments of a call.
    CallArguments {
        /// The number of the call.
        index: u32,
        /// A part of their JSON text, cut at any character.
        json: String,
    },
    /// The arguments of a call are complete. A call without this was cut off or is malformed.
    CallEnd {
        /// The number of the call.
        index: u32,
    },
}

/// Finds reasoning, content and tool calls in the text of one answer. See the [module](self).
///
/// The time is linear in the length of the text, and the memory is bounded.
#[derive(Debug)]
pub struct AnswerParser {
    reasoning: Reasoning,
    answer: CallParser,
    calls: u32,
    /// Only the beginning of the answer can be a call, and it is not decided yet.
    may_be_content: bool,
}

/// The tags around calls and reasoning.
const TAGS: [&str; 16] = [
    "<tool_call>",
    "</tool_call>",
    "<function=",
    "<minimax:tool_call>",
    "</minimax:tool_call>",
    "<invoke name=\"",
    "<seed:tool_call>",
    "</seed:tool_call>",
    "<seed:think>",
    "</seed:think>",
    "<|python_tag|>",
    "[TOOL_CALLS]",
    "<think>",
    "</think>",
    "[THINK]",
    "[/THINK]",
];

/// True if this is text that was held back because of a tag: the beginning of one, or one with what follows it.
fn is_markup(delta: &Delta) -> bool {
    let Delta::Content(text) = delta else { return false };
    let text = text.trim_start();
    !text.is_empty() && TAGS.iter().any(|tag| tag.starts_with(text) || text.starts_with(tag))
}

/// The parser of the text after the reasoning.
#[derive(Debug)]
enum CallParser {
    Plain,
    Hermes(Hermes),
    Llama(Llama),
    Mistral(Mistral),
    Pythonic(Pythonic),
    Xml(XmlCalls),
}

impl CallParser {
    fn push(&mut self, text: &str, out: &mut Output<'_>) {
        match self {
            Self::Plain => out.content(text),
            Self::Hermes(hermes) => text.chars().for_each(|c| hermes.step(c, out)),
            Self::Llama(llama) => text.chars().for_each(|c| llama.step(c, out)),
            Self::Mistral(mistral) => text.chars().for_each(|c| mistral.step(c, out)),
            Self::Pythonic(pythonic) => text.chars().for_each(|c| pythonic.step(c, out)),
            Self::Xml(xml) => text.chars().for_each(|c| xml.step(c, out)),
        }
    }

    /// Takes text until it is decided whether it begins with a call; else it is all content. Returns what is left.
    fn push_beginning<'t>(&mut self, text: &'t str, out: &mut Output<'_>) -> &'t str {
        for (at, c) in text.char_indices() {
            self.push(c.encode_utf8(&mut [0; 4]), out);
            if out.has_calls() {
                return &text[at + c.len_utf8()..];
            }
            if out.has_text() {
                std::mem::replace(self, Self::Plain).finish(out);
                return &text[at + c.len_utf8()..];
            }
        }
        ""
    }

    fn finish(self, out: &mut Output<'_>) {
        match self {
            Self::Plain => {}
            Self::Hermes(hermes) => hermes.finish(out),
            Self::Llama(llama) => llama.finish(out),
            Self::Mistral(mistral) => mistral.finish(out),
            Self::Pythonic(pythonic) => pythonic.finish(out),
            Self::Xml(xml) => xml.finish(out),
        }
    }
}

impl AnswerParser {
    /// A parser for one answer.
    pub fn new(options: AnswerOptions) -> Self {
        let answer = match (options.format, options.format.and_then(ToolFormat::xml)) {
            (_, Some(syntax)) => CallParser::Xml(XmlCalls::new(syntax, options.tools)),
            (Some(ToolFormat::Hermes), None) => CallParser::Hermes(Hermes::default()),
            (Some(ToolFormat::Llama), None) => CallParser::Llama(Llama::new(options.tools)),
            (Some(ToolFormat::Mistral | ToolFormat::MistralArgs), None) => {
                CallParser::Mistral(Mistral::default())
            }
            (Some(ToolFormat::Pythonic), None) => {
                CallParser::Pythonic(Pythonic::new(options.tools))
            }
            (None | Some(_), None) => CallParser::Plain,
        };
        Self {
            reasoning: Reasoning::new(options.reasoning),
            answer,
            calls: 0,
            may_be_content: options.calls_alone,
        }
    }

    /// Takes the next text and appends what is decided now to `out`.
    pub fn push(&mut self, text: &str, out: &mut Vec<Delta>) {
        let mut out = Output::new(out, &mut self.calls);
        let (held, rest) = self.reasoning.push(text, &mut out);
        for text in [&*held, rest] {
            let is_decided = !self.may_be_content;
            let rest = if is_decided { text } else { self.answer.push_beginning(text, &mut out) };
            // What is left of it comes after the beginning.
            self.may_be_content &= rest.is_empty();
            self.answer.push(rest, &mut out);
        }
    }

    /// The text has ended: appends the text that is still held back to `out`. Text that is pushed later is content.
    pub fn finish(&mut self, out: &mut Vec<Delta>) {
        self.give_rest(out);
    }

    /// The same for a text that was cut off, because the answer may not be longer.
    ///
    /// A call that was cut off is not completed: its arguments stay a beginning of JSON, and it gets no
    /// [`Delta::CallEnd`]. A tag that was cut off, or a call before its arguments, is left out: it is no text for the
    /// user.
    pub fn cut_off(&mut self, out: &mut Vec<Delta>) {
        let mut rest = Vec::new();
        self.give_rest(&mut rest);
        out.extend(rest.into_iter().filter(|delta| !is_markup(delta)));
    }

    fn give_rest(&mut self, out: &mut Vec<Delta>) {
        let mut out = Output::new(out, &mut self.calls);
        let held = self.reasoning.finish(&mut out);
        self.answer.push(&held, &mut out);
        std::mem::replace(&mut self.answer, CallParser::Plain).finish(&mut out);
    }

    /// The number of calls that have begun so far.
    pub fn calls(&self) -> u32 {
        self.calls
    }
}
