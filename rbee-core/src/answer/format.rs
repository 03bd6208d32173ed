//! How a model writes the parts of its answers: [`AnswerFormat`].

use serde::{Deserialize, Serialize};

use super::{AnswerOptions, ReasoningTags, ToolFormat};
use crate::chat::CallableTool;

/// The syntax in which a model writes the parts of its answers. Its worker says it in its
/// [`Capabilities`](crate::worker::Capabilities), and the readers of a job learn it when the job
/// [starts](crate::event::Started).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AnswerFormat {
    /// That of tool calls; `None`: the worker cannot be given tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<ToolFormat>,
    /// That of reasoning; `None`: its answers have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<ReasoningFormat>,
    /// True if an answer is either calls or other text, and never both: text after the reasoning that does not begin
    /// with a call has none. So it is with tools and a [`Grammar`](crate::request::Grammar).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub calls_alone: bool,
}

/// The syntax in which a model writes its reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReasoningFormat {
    /// `<think>…</think>` before the rest of the answer.
    Think,
    /// The same, and the prompt ends with `<think>`: the answer begins inside.
    Thinking,
    /// `[THINK]…[/THINK]` before the rest of the answer. Models: Magistral and other models of Mistral that think.
    Mistral,
    /// `<seed:think>…</seed:think>` before the rest of the answer. Models: Seed-OSS.
    Seed,
}

/// The syntax of reasoning in answers to requests that turn [thinking](crate::request::Chat::thinking) on or off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ThinkingSwitch {
    /// If it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<ReasoningFormat>,
    /// If it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off: Option<ReasoningFormat>,
}

impl ReasoningFormat {
    /// The tags.
    pub fn tags(self) -> ReasoningTags {
        let (open, close) = match self {
            Self::Think | Self::Thinking => ("<think>", "</think>"),
            Self::Mistral => ("[THINK]", "[/THINK]"),
            Self::Seed => ("<seed:think>", "</seed:think>"),
        };
        let starts_inside = self == Self::Thinking;
        ReasoningTags { open: open.into(), close: close.into(), starts_inside }
    }
}

impl AnswerFormat {
    /// What to look for in an answer to a conversation in which the model may [call](crate::request::Chat::callable)
    /// these tools. In the answer to a bare text nothing is looked for.
    pub fn options(self, tools: Vec<CallableTool>) -> AnswerOptions {
        AnswerOptions {
            format: self.tools.filter(|_| !tools.is_empty()),
            reasoning: self.reasoning.map(ReasoningFormat::tags),
            calls_alone: self.calls_alone,
            tools,
        }
    }
}
