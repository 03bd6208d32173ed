//! The task of a model: the prompt and the sampling, the texts to embed, or the documents to rank.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    chat::Chat,
    error::{Error, ErrorKind, Result, invalid},
    grammar::Grammar,
};

/// The text that a model continues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prompt {
    /// A conversation, rendered by the model's own chat template.
    Chat(Chat),
    /// Bare text. The text of a control token in it is text.
    Text(String),
    /// Bare text in which the text of a control token, like `<|fim_prefix|>`, stands for that token. Its author can
    /// also write a system turn, so use it only for text that the application trusts.
    Raw(String),
    /// Two bare texts: the model writes what goes between them. Only a model with control tokens for this can.
    Infill {
        /// The text before.
        prefix: String,
        /// The text after.
        suffix: String,
    },
}

/// How the next token is chosen, and when the answer ends.
///
/// The order of the steps, for each token:
///
/// 1. `logprobs` are computed from the model's own logits, before every other step.
/// 2. Tokens that are not allowed are removed: those that `grammar` does not allow, and those that end the text before
///    `min_tokens`, if the grammar allows others.
/// 3. `logit_bias` is added.
/// 4. `repetition_penalty`, then `frequency_penalty` and `presence_penalty`.
/// 5. `temperature`, `top_k`, `top_p`, `min_p`.
///
/// A worker says in its [`Capabilities`](crate::worker::Capabilities) which of `presence_penalty`,
/// `frequency_penalty`, `logit_bias`, `min_tokens`, `grammar` and `logprobs` it has. A job that uses one runs only on such workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 (always the likeliest token) to 2.
    pub temperature: f32,
    /// Keep the likeliest tokens that together have this probability; 0 (the likeliest one alone) to 1 (off).
    pub top_p: f32,
    /// Keep this many of the likeliest tokens; 0 is off.
    pub top_k: u32,
    /// Drop tokens less likely than this share of the likeliest one's probability; 0 (off) to 1.
    pub min_p: f32,
    /// Divides the logits of tokens already seen, in the prompt or in the answer; above 0, at most 10; 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted from the logits of tokens that the answer has already; -2 to 2; 0 is off.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub presence_penalty: f32,
    /// Subtracted from the logit of a token for each time that the answer has it already; -2 to 2; 0 is off.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens, by id; -100 to 100; at most 1,024 tokens. -100 forbids a token.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub logit_bias: BTreeMap<u32, f32>,
    /// The shortest answer, in tokens: before, the model cannot end it, and stop texts are text. An answer that has no
    /// more room in the model's context is shorter.
    #[serde(default, skip_serializing_if = "is_none")]
    pub min_tokens: u32,
    /// Sends [log probabilities](crate::event::Logprobs) with each token: of the token, and of this many of the
    /// likeliest ones; at most 20. `None`: sends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<u8>,
    /// Texts that end the answer and are not part of it; at most 4.
    pub stop: Vec<String>,
    /// The longest answer, in tokens; `None`: as long as the model's context allows.
    pub max_tokens: Option<u32>,
    /// What the answer must look like. An answer of maximum length may be only the beginning of that. If the model may call
    /// tools, the answer is either calls or this, which then is JSON; if it must call one, it is calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grammar: Option<Grammar>,
}

/// The most tokens of [`Sampling::logit_bias`].
const MAX_LOGIT_BIAS: usize = 1024;
/// The most of the likeliest tokens of [`Sampling::logprobs`].
const MAX_TOP_LOGPROBS: u8 = 20;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &f32) -> bool {
    *number == 0.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_none(tokens: &u32) -> bool {
    *tokens == 0
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            min_tokens: 0,
            logprobs: None,
            stop: Vec::new(),
            max_tokens: None,
            grammar: None,
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
        range("top_p", self.top_p, |v| (0.0..=1.0).contains(&v), "0 to 1")?;
        range("min_p", self.min_p, |v| (0.0..=1.0).contains(&v), "0 to 1")?;
        range(
            "repetition_penalty",
            self.repetition_penalty,
            |v| v > 0.0 && v <= 10.0,
            "above 0, at most 10",
        )?;
        let penalty = |v: f32| (-2.0..=2.0).contains(&v);
        range("presence_penalty", self.presence_penalty, penalty, "-2 to 2")?;
        range("frequency_penalty", self.frequency_penalty, penalty, "-2 to 2")?;
        self.validate_logit_bias()?;
        if let Some(top) = self.logprobs.filter(|top| *top > MAX_TOP_LOGPROBS) {
            let message = format!("logprobs is {top}; allowed is 0 to {MAX_TOP_LOGPROBS}");
            return Err(invalid(message).with_param("logprobs"));
        }
        if let Some(most) = self.max_tokens.filter(|most| *most != 0 && self.min_tokens > *most) {
            let message =
                format!("min_tokens is {}; allowed is 0 to max_tokens, {most}", self.min_tokens);
            return Err(invalid(message).with_param("min_tokens"));
        }
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
        if let Some(grammar) = &self.grammar {
            grammar.validate()?;
        }
        if self.max_tokens == Some(0) {
            return Err(
                invalid("max_tokens is 0; allowed is at least 1".into()).with_param("max_tokens")
            );
        }
        Ok(())
    }

    fn validate_logit_bias(&self) -> Result<()> {
        let count = self.logit_bias.len();
        if count > MAX_LOGIT_BIAS {
            let message =
                format!("logit_bias has {count} tokens; allowed are at most {MAX_LOGIT_BIAS}");
            return Err(invalid(message).with_param("logit_bias"));
        }
        match self.logit_bias.iter().find(|(_, bias)| !(-100.0..=100.0).contains(*bias)) {
            None => Ok(()),
            Some((token, bias)) => Err(invalid(format!(
                "logit_bias of token {token} is {bias}; allowed is -100 to 100"
            ))
            .with_param("logit_bias")),
        }
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
        inputs: Vec<EmbedInput>,
        /// The length of the vectors; `None`: the model's own. Others are possible only if the model was trained for
        /// them: its vectors are then cut to this length.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dimensions: Option<u32>,
    },
    /// Score how relevant each document is to a query.
    Rerank {
        /// The query.
        query: String,
        /// The documents.
        documents: Vec<String>,
    },
}

/// A text to turn into a vector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EmbedInput {
    /// The text. The text of a control token in it is text.
    Text(String),
    /// Its tokens, by their ids, exactly as the model reads them: nothing is added at the beginning or the end.
    Tokens(Vec<u32>),
}

impl EmbedInput {
    /// Its size, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Tokens(tokens) => size_of_val(tokens.as_slice()),
        }
    }
}

impl From<String> for EmbedInput {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for EmbedInput {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for EmbedInput {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<Vec<u32>> for EmbedInput {
    fn from(tokens: Vec<u32>) -> Self {
        Self::Tokens(tokens)
    }
}

impl Task {
    /// A task that turns these texts into vectors of the model's own length.
    pub fn embed(inputs: impl IntoIterator<Item = impl Into<EmbedInput>>) -> Self {
        Self::Embed { inputs: inputs.into_iter().map(Into::into).collect(), dimensions: None }
    }

    /// A task that scores these documents by their relevance to the query.
    pub fn rerank(
        query: impl Into<String>,
        documents: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let documents = documents.into_iter().map(Into::into).collect();
        Self::Rerank { query: query.into(), documents }
    }

    /// The size of all its text, in bytes. The query of a rerank counts for each document, as the model reads it.
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::Generate { prompt: Prompt::Chat(chat), .. } => chat.text_bytes(),
            Self::Generate { prompt: Prompt::Text(text) | Prompt::Raw(text), .. } => text.len(),
            Self::Generate { prompt: Prompt::Infill { prefix, suffix }, .. } => {
                prefix.len() + suffix.len()
            }
            Self::Embed { inputs, .. } => inputs.iter().map(EmbedInput::bytes).sum(),
            Self::Rerank { query, documents } => {
                let queries = query.len().saturating_mul(documents.len());
                queries.saturating_add(documents.iter().map(String::len).sum())
            }
        }
    }

    /// True if this text ends its answer.
    pub(crate) fn has_stop(&self, text: &str) -> bool {
        matches!(self, Self::Generate { sampling, .. } if sampling.stop.iter().any(|stop| stop == text))
    }

    /// The parameter with its text, in the APIs over HTTP.
    pub(crate) const fn text_param(&self) -> &'static str {
        match self {
            Self::Generate { prompt: Prompt::Chat(_), .. } => "messages",
            Self::Generate { .. } => "prompt",
            Self::Embed { .. } => "input",
            Self::Rerank { .. } => "documents",
        }
    }

    /// The error for a text that has too many tokens for the context of a model. `place` says which text of several it
    /// is: `input[2]`, or the `query` of a rerank.
    ///
    /// The sentence is the one of OpenAI's API, because clients search the message for it and for its numbers. An
    /// answer needs at least one token, so a prompt that fills the whole context is too long too.
    pub fn too_long(&self, place: Option<&str>, tokens: u64, context: u32) -> Error {
        let begin = format!("This model's maximum context length is {context} tokens");
        let param = place.filter(|place| *place == "query").unwrap_or(self.text_param()).to_owned();
        let place = place.map_or_else(String::new, |place| format!(" {place} is too long."));
        let message = match self {
            Self::Generate { prompt, sampling } => {
                let answer = u64::from(sampling.max_tokens.unwrap_or(1));
                let sum = tokens.saturating_add(answer);
                match prompt {
                    Prompt::Chat(_) => format!(
                        "{begin}. However, you requested {sum} tokens ({tokens} in the messages, {answer} in the \
                         completion).{place} Please reduce the length of the messages or completion."
                    ),
                    Prompt::Text(_) | Prompt::Raw(_) | Prompt::Infill { .. } => format!(
                        "{begin}, however you requested {sum} tokens ({tokens} in your prompt; {answer} for the \
                         completion).{place} Please reduce your prompt; or completion length."
                    ),
                }
            }
            Self::Embed { .. } | Self::Rerank { .. } => format!(
                "{begin}, however you requested {tokens} tokens ({tokens} in your prompt; 0 for the completion).{place} \
                 Please reduce your prompt; or completion length."
            ),
        };
        Error::for_client(ErrorKind::ContextExceeded, message).with_param(param)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_of_an_older_version_is_read_and_one_that_uses_nothing_new_is_written_as_then() {
        let old = r#"{"generate":{"prompt":{"text":"Hi"},"sampling":{"temperature":0.5,"top_p":1.0,"top_k":0,"min_p":0.0,"repetition_penalty":1.0,"stop":[],"max_tokens":null}}}"#;
        let task: Task = serde_json::from_str(old).unwrap();
        let sampling = Sampling { temperature: 0.5, ..Sampling::default() };
        assert_eq!(task, Task::Generate { prompt: Prompt::Text("Hi".into()), sampling });
        assert_eq!(serde_json::to_string(&task).unwrap(), old);
    }

    #[test]
    fn every_parameter_comes_back_as_it_was_written() {
        let sampling = Sampling {
            presence_penalty: -0.5,
            frequency_penalty: 2.0,
            logit_bias: [(50_256, -100.0), (7, 0.25)].into(),
            min_tokens: 3,
            logprobs: Some(0),
            ..Sampling::default()
        };
        let json = serde_json::to_string(&sampling).unwrap();
        assert!(json.contains(r#""logit_bias":{"7":0.25,"50256":-100.0}"#), "{json}");
        assert_eq!(serde_json::from_str::<Sampling>(&json).unwrap(), sampling);
    }

    #[test]
    fn values_out_of_range_are_refused_by_their_name() {
        type Change = fn(&mut Sampling);
        let biases = |count: u32| (0..count).map(|token| (token, 1.0)).collect::<BTreeMap<_, _>>();
        let good: [Change; 6] = [
            |s| (s.presence_penalty, s.frequency_penalty) = (-2.0, 2.0),
            |s| s.logit_bias = [(0, -100.0), (u32::MAX, 100.0)].into(),
            |s| s.logprobs = Some(20),
            |s| s.logprobs = Some(0),
            |s| (s.min_tokens, s.max_tokens) = (7, Some(7)),
            |s| s.min_tokens = u32::MAX,
        ];
        for change in good {
            let mut sampling = Sampling::default();
            change(&mut sampling);
            assert!(sampling.validate().is_ok(), "{sampling:?}");
        }
        let bad: [(&str, Change); 7] = [
            ("presence_penalty", |s| s.presence_penalty = 2.1),
            ("presence_penalty", |s| s.presence_penalty = f32::NAN),
            ("frequency_penalty", |s| s.frequency_penalty = -2.1),
            ("logit_bias", |s| s.logit_bias = [(0, 100.5)].into()),
            ("logit_bias", |s| s.logit_bias = [(0, f32::NAN)].into()),
            ("logprobs", |s| s.logprobs = Some(21)),
            ("min_tokens", |s| (s.min_tokens, s.max_tokens) = (8, Some(7))),
        ];
        for (param, change) in bad {
            let mut sampling = Sampling::default();
            change(&mut sampling);
            let error = sampling.validate().unwrap_err();
            assert_eq!((error.kind(), error.param()), (ErrorKind::InvalidRequest, Some(param)));
        }
        let most = Sampling { logit_bias: biases(1_024), ..Sampling::default() };
        assert!(most.validate().is_ok());
        let more = Sampling { logit_bias: biases(1_025), ..Sampling::default() };
        assert_eq!(more.validate().unwrap_err().param(), Some("logit_bias"));
    }
}
