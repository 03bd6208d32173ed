//! The task of a model: the prompt and the sampling, or the texts to embed.

use serde::{Deserialize, Serialize};

use crate::error::{Result, invalid};

/// The author of a [`Message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions for the conversation.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name in chat templates.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its author.
    pub role: Role,
    /// Its text.
    pub content: String,
}

/// The text that a model continues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prompt {
    /// A conversation, rendered by the model's own chat template.
    Chat(Vec<Message>),
    /// Bare text. The text of a control token in it is text.
    Text(String),
    /// Bare text in which the text of a control token, like `<|fim_prefix|>`, stands for that token. Its author can
    /// also write a system turn, so use it only for text that the application trusts.
    Raw(String),
}

/// How the next token is chosen, and when the answer ends.
///
/// The order of the steps: repetition penalty, temperature, top-k, top-p, min-p.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 (always the likeliest token) to 2.
    pub temperature: f32,
    /// Keep the likeliest tokens that together have this probability; above 0, at most 1 (off).
    pub top_p: f32,
    /// Keep this many of the likeliest tokens; 0 is off.
    pub top_k: u32,
    /// Drop tokens less likely than this share of the likeliest one's probability; 0 (off) to 1.
    pub min_p: f32,
    /// Divides the logits of tokens already seen; above 0, at most 10; 1 is off.
    pub repetition_penalty: f32,
    /// Texts that end the answer and are not part of it; at most 4.
    pub stop: Vec<String>,
    /// The longest answer, in tokens; `None`: as long as the model's context allows.
    pub max_tokens: Option<u32>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            stop: Vec::new(),
            max_tokens: None,
        }
    }
}

impl Sampling {
    /// Checks every value.
    ///
    /// # Errors
    /// [`InvalidRequest`](crate::ErrorKind::InvalidRequest) that names the parameter, its value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        range("temperature", self.temperature, |v| (0.0..=2.0).contains(&v), "0 to 2")?;
        range("top_p", self.top_p, |v| v > 0.0 && v <= 1.0, "above 0, at most 1")?;
        range("min_p", self.min_p, |v| (0.0..=1.0).contains(&v), "0 to 1")?;
        range(
            "repetition_penalty",
            self.repetition_penalty,
            |v| v > 0.0 && v <= 10.0,
            "above 0, at most 10",
        )?;
        if self.stop.len() > 4 {
            return Err(invalid(format!(
                "stop has {} texts; allowed are at most 4",
                self.stop.len()
            ))
            .with_param("stop"));
        }
        for (index, stop) in self.stop.iter().enumerate() {
            if stop.is_empty() || stop.len() > 256 {
                return Err(invalid(format!(
                    "stop[{index}] has {} bytes; allowed are 1 to 256",
                    stop.len()
                ))
                .with_param("stop"));
            }
        }
        if self.max_tokens == Some(0) {
            return Err(
                invalid("max_tokens is 0; allowed is at least 1".into()).with_param("max_tokens")
            );
        }
        Ok(())
    }
}

fn range(name: &'static str, value: f32, ok: impl Fn(f32) -> bool, allowed: &str) -> Result<()> {
    // A comparison with NaN is false, so NaN is refused too.
    if ok(value) {
        Ok(())
    } else {
        Err(invalid(format!("{name} is {value}; allowed is {allowed}")).with_param(name))
    }
}

/// The task of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Continue a text, token by token.
    Generate {
        /// The text to continue.
        prompt: Prompt,
        /// The sampling.
        sampling: Sampling,
    },
    /// Turn each text into a vector.
    Embed {
        /// The texts.
        inputs: Vec<String>,
    },
}

impl Task {
    /// The size of all its text, in bytes.
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::Generate { prompt: Prompt::Chat(messages), .. } => {
                messages.iter().map(|m| m.content.len()).sum()
            }
            Self::Generate { prompt: Prompt::Text(text) | Prompt::Raw(text), .. } => text.len(),
            Self::Embed { inputs } => inputs.iter().map(String::len).sum(),
        }
    }
}
