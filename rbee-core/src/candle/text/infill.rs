//! Prompts for what goes between two texts ("fill in the middle", <https://arxiv.org/abs/2207.14255>).

use super::{prompt::PromptText, tokenizer::Codec};

/// The control tokens before the prefix, before the suffix, and before the text between. A model has all or none of a
/// row: Qwen and CodeGemma; StarCoder and Granite; DeepSeek; GLM.
const MIDDLE_LAST: [[&str; 3]; 4] = [
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
    ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"],
    ["<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"],
];

/// Mistral's: the suffix goes first, and the model continues the prefix.
const PREFIX_LAST: [&str; 2] = ["[SUFFIX]", "[PREFIX]"];

/// The control tokens of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::candle) enum InfillTokens {
    MiddleLast([&'static str; 3]),
    PrefixLast([&'static str; 2]),
}

impl InfillTokens {
    /// Those that the tokenizer has; `None` if it has none.
    pub(in crate::candle) fn of(codec: &Codec) -> Option<Self> {
        let is_control =
            |token: &&str| codec.id(token).is_some_and(|id| codec.added().is_text_of(id, token));
        let all = |tokens: &[&str]| tokens.iter().all(is_control);
        let middle_last = MIDDLE_LAST.into_iter().find(|tokens| all(tokens)).map(Self::MiddleLast);
        middle_last.or_else(|| all(&PREFIX_LAST).then_some(Self::PrefixLast(PREFIX_LAST)))
    }

    /// The prompt. The two texts are the caller's: no control token is read in them.
    pub(in crate::candle) fn prompt(&self, prefix: &str, suffix: &str) -> PromptText {
        let mut prompt = PromptText::default();
        let mut put = |token: &str, text: &str| {
            prompt.push(&PromptText::trusted(token));
            prompt.push(&PromptText::from_caller(text));
        };
        match self {
            Self::MiddleLast([before, after, middle]) => {
                put(before, prefix);
                put(after, suffix);
                put(middle, "");
            }
            Self::PrefixLast([after, before]) => {
                put(after, suffix);
                put(before, prefix);
            }
        }
        prompt
    }
}
