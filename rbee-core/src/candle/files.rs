//! The reasons why a model could not be loaded.

use std::{fmt, path::Path};

pub(super) use crate::model_info::files::*;
use crate::{
    error::{Error, ErrorKind},
    model_info::CacheType,
};

/// The largest tokenizer that is read, in bytes; those of large vocabularies have about 35 MB.
pub(super) const MAX_TOKENIZER_BYTES: u64 = 64 << 20;

/// The size of a KV cache, for messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct CacheSize {
    pub(super) bytes: u64,
    pub(super) tokens: u64,
    pub(super) kind: CacheType,
    pub(super) context: u32,
    pub(super) slots: u32,
}

/// As in "604 bytes for the keys and values of 32768 tokens in f16 (context 32768, 4 slots)".
impl fmt::Display for CacheSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, tokens, kind, context, slots } = self;
        write!(
            f,
            "{bytes} bytes for the keys and values of {tokens} tokens in {kind} (context {context}, {slots} slots)"
        )
    }
}

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
        "the model needs {weights} bytes for its weights and {cache}; this machine has {total} bytes of memory, and \
         {available} are available. Set a shorter context, fewer slots or fewer cache_tokens, or choose a smaller model"
    )]
    Memory { weights: u64, cache: CacheSize, total: u64, available: u64 },
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
