//! The kinds of requests for text.

use super::rules;
use crate::server::queen::field_rules::Rule;

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Completion,
}

impl Kind {
    /// The prefix of the ids of its answers.
    pub(super) const fn prefix(self) -> &'static str {
        match self {
            Self::Chat => "chatcmpl",
            Self::Completion => "cmpl",
        }
    }

    /// The rules for the fields that are not read.
    pub(super) const fn rules(self) -> [&'static [(&'static str, Rule)]; 3] {
        let own = match self {
            Self::Chat => rules::CHAT,
            Self::Completion => rules::COMPLETION,
        };
        [own, rules::GENERATE, rules::COMMON]
    }
}
