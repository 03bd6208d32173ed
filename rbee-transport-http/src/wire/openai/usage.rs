//! Token counts.

use rbee_core::Usage as TokenUsage;
use serde::{Deserialize, Serialize};

/// Token counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answers.
    #[serde(default)]
    pub completion_tokens: u64,
    /// The sum of both.
    pub total_tokens: u64,
    /// More about the tokens of the prompt, if the engine reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_details: Option<PromptTokensDetails>,
}

/// More about the tokens of a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PromptTokensDetails {
    /// Those that were not computed, because the worker had them cached.
    #[serde(default)]
    pub cached_tokens: u64,
}

impl Usage {
    /// Adds the counts of one more answer; several answers to one prompt count the prompt once.
    pub fn add(&mut self, usage: TokenUsage, new_prompt: bool) {
        if new_prompt {
            self.prompt_tokens += u64::from(usage.prompt_tokens);
            if let Some(cached) = usage.cached_tokens {
                let details = self.prompt_tokens_details.get_or_insert_default();
                details.cached_tokens += u64::from(cached);
            }
        }
        self.completion_tokens += u64::from(usage.completion_tokens);
        self.total_tokens = self.prompt_tokens + self.completion_tokens;
    }
}
