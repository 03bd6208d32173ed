//! The text of a policy, and the language that it is written in.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A policy as its author wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySource {
    /// Its language.
    pub language: PolicyLanguage,
    /// The text.
    pub text: Arc<str>,
}

/// The language of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyLanguage {
    /// A Rhai script.
    Rhai,
    /// Rules in YAML.
    Yaml,
}

impl PolicyLanguage {
    /// All languages.
    pub const ALL: [Self; 2] = [Self::Rhai, Self::Yaml];

    /// The name in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rhai => "rhai",
            Self::Yaml => "yaml",
        }
    }
}
