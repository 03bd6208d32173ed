//! The families of models: what their configuration means, one file for each.
//!
//! A family is an entry of [`FAMILIES`]. It starts from the values that nearly all have in common ([`base`]), and sets
//! what is different. A value that it does not know and that changes the results is refused, never ignored.

mod base;
mod gemma;
mod llama;
mod phi;
mod qwen;
mod ropes;
mod source;

use rbee_decoder::architecture::Architecture;

use super::plan::Layout;
use crate::candle::files::Loaded;

pub(super) use source::{Source, object};

/// How a family reads its configuration.
type Read = fn(&Source<'_>) -> Loaded<Description>;

/// A family of models.
pub(in crate::candle) struct Family {
    /// Its name, for messages.
    pub(in crate::candle) name: &'static str,
    /// The classes of the transformers library.
    pub(in crate::candle) classes: &'static [&'static str],
    /// The architectures in GGUF files.
    pub(in crate::candle) architectures: &'static [&'static str],
    /// Reads `config.json`.
    config: Read,
    /// Reads the metadata of a GGUF file.
    metadata: Read,
}

/// All families.
pub(in crate::candle) const FAMILIES: &[Family] = &[
    llama::LLAMA,
    llama::MISTRAL,
    qwen::QWEN2,
    qwen::QWEN3,
    qwen::QWEN3_MOE,
    gemma::GEMMA2,
    gemma::GEMMA3,
    phi::PHI3,
];

/// What a configuration says about a model.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::candle) struct Description {
    pub(in crate::candle) architecture: Architecture,
    pub(in crate::candle) layout: Layout,
    /// The beginnings of the names of tensors without an effect on text, or of which the effect is in the architecture.
    pub(in crate::candle) idle: &'static [&'static str],
}

impl From<Architecture> for Description {
    fn from(architecture: Architecture) -> Self {
        Self { architecture, layout: Layout::default(), idle: &[] }
    }
}

impl Family {
    /// The family of a class of the transformers library.
    pub(in crate::candle) fn of_class(class: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.classes.contains(&class))
    }

    /// The family of an architecture in GGUF files.
    pub(in crate::candle) fn of_architecture(name: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.architectures.contains(&name))
    }

    pub(super) fn describe(&self, source: &Source<'_>) -> Loaded<Description> {
        let read = if source.is_gguf() { self.metadata } else { self.config };
        read(source)
    }
}

#[cfg(test)]
mod tests;
