//! The capabilities of workers that policies can ask for.

use crate::worker::WorkerInfo;

/// Something that a worker can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Capability {
    /// It generates text.
    Generate,
    /// It makes embeddings.
    Embed,
    /// It scores documents by their relevance to a query.
    Rerank,
    /// It continues a stream that another worker began.
    Resume,
    /// It runs on a GPU.
    Gpu,
}

impl Capability {
    /// The names that policies use.
    pub(super) const NAMES: &[&str] = &["generate", "embed", "rerank", "resume", "gpu"];

    /// The capability of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "generate" => Self::Generate,
            "embed" => Self::Embed,
            "rerank" => Self::Rerank,
            "resume" => Self::Resume,
            "gpu" => Self::Gpu,
            _ => return None,
        })
    }

    /// Returns true if the worker has it.
    pub(super) fn is_of(self, info: &WorkerInfo) -> bool {
        match self {
            Self::Generate => info.capabilities.generate,
            Self::Embed => info.capabilities.embed,
            Self::Rerank => info.capabilities.rerank,
            Self::Resume => info.capabilities.resume,
            Self::Gpu => info.devices.iter().any(|index| *index > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_one_of_a_capability() {
        assert!(Capability::NAMES.iter().all(|name| Capability::named(name).is_some()));
        assert_eq!(Capability::named("fly"), None);
    }
}
