//! Log probabilities in the responses of servers.

use std::collections::BTreeMap;

use rbee_core::event::{Logprobs, TokenLogprob};
use serde::Deserialize;

/// Those of one event: in the form of a chat, which llama.cpp also uses for completions, or in that of a completion.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Received {
    #[serde(default)]
    content: Option<Vec<Position>>,
    #[serde(default)]
    tokens: Option<Vec<Box<str>>>,
    #[serde(default)]
    token_logprobs: Option<Vec<Option<f32>>>,
    #[serde(default)]
    top_logprobs: Option<Vec<Option<Likely>>>,
}

/// The likeliest texts in the place of a token.
type Likely = BTreeMap<Box<str>, Option<f32>>;

#[derive(Debug, Deserialize)]
struct Position {
    #[serde(flatten)]
    chosen: Token,
    #[serde(default)]
    top_logprobs: Option<Vec<Token>>,
}

#[derive(Debug, Deserialize)]
struct Token {
    token: Box<str>,
    #[serde(default)]
    bytes: Option<Box<[u8]>>,
    /// Some servers write `null` for a probability of 0.
    #[serde(default)]
    logprob: Option<f32>,
}

impl Received {
    /// Those of each token, with the `most` likeliest tokens at its position.
    pub(super) fn into_tokens(self, most: u8) -> Vec<Logprobs> {
        let most = usize::from(most);
        if let Some(content) = self.content {
            return content.into_iter().map(|position| position.into_logprobs(most)).collect();
        }
        let mut values = self.token_logprobs.unwrap_or_default().into_iter();
        let mut tops = self.top_logprobs.unwrap_or_default().into_iter();
        let tokens = self.tokens.unwrap_or_default().into_iter();
        tokens
            .map(|text| {
                let chosen = of_text(text, values.next().flatten());
                let top = tops.next().flatten().unwrap_or_default();
                let mut top: Vec<_> =
                    top.into_iter().map(|(text, value)| of_text(text, value)).collect();
                // JSON objects have no order.
                top.sort_by(|a, b| b.logprob.total_cmp(&a.logprob));
                top.truncate(most);
                Logprobs { chosen, top }
            })
            .collect()
    }
}

impl Position {
    fn into_logprobs(self, most: usize) -> Logprobs {
        let top = self.top_logprobs.unwrap_or_default().into_iter().take(most);
        Logprobs { chosen: self.chosen.into(), top: top.map(Into::into).collect() }
    }
}

impl From<Token> for TokenLogprob {
    fn from(token: Token) -> Self {
        let mut of = of_text(token.token, token.logprob);
        of.bytes = token.bytes.filter(|bytes| **bytes != *of.text.as_bytes());
        of
    }
}

/// The ids are left out: the worker reports none.
fn of_text(text: Box<str>, logprob: Option<f32>) -> TokenLogprob {
    let logprob = logprob.unwrap_or(f32::MIN).clamp(f32::MIN, 0.0);
    TokenLogprob { id: None, text, bytes: None, logprob }
}
