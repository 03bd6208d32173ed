//! The reasons why a model could not be loaded.

use std::path::Path;

use crate::error::{Error, ErrorKind};
pub(super) use crate::model_info::files::*;

/// The largest tokenizer that is read, in bytes; those of large vocabularies have about 35 MB.
pub(super) const MAX_TOKENIZER_BYTES: u64 = 64 << 20;

/// The failure of a load.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadFault {
    #[error(transparent)]
    File(#[from] FileFault),
    #[error("device {device} cannot be used: {source}")]
    Device { device: String, source: candle_core::Error },
    #[error("the model does not fit device {device}: {source}")]
    DeviceMemory { device: String, source: candle_core::Error },
    #[error(
        "the model needs {weights} bytes for its weights and {cache} for keys and values; this machine has {total} bytes of \
         memory. Set a shorter context, fewer slots or cache_tokens, or choose a smaller model"
    )]
    Memory { weights: u64, cache: u64, total: u64 },
    #[error("{what}")]
    Option { what: String },
    #[error("loading was stopped")]
    GivenUp,
    #[error("the engine could not start: {source}")]
    Engine { source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the model's files made the engine panic while loading: {what}")]
    Panicked { what: String },
}

pub(super) type Loaded<T> = std::result::Result<T, LoadFault>;

impl LoadFault {
    pub(super) fn defect(path: &Path, what: impl Into<String>) -> Self {
        FileFault::defect(path, what).into()
    }

    pub(super) fn malformed(
        path: &Path,
        what: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        FileFault::malformed(path, what, source).into()
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::File(fault) => fault.kind(),
            Self::Panicked { .. } => ErrorKind::ModelIncompatible,
            Self::Device { .. } => ErrorKind::Unsupported,
            Self::DeviceMemory { .. } | Self::Memory { .. } => ErrorKind::InsufficientVram,
            Self::Option { .. } => ErrorKind::Config,
            Self::GivenUp => ErrorKind::Cancelled,
            Self::Engine { .. } => ErrorKind::WorkerFault,
        }
    }
}

impl From<LoadFault> for Error {
    fn from(fault: LoadFault) -> Self {
        Error::new(fault.kind(), fault.to_string()).with_source(fault)
    }
}
