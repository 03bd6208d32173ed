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
    #[error("device {device} cannot be used: {}. What to do: {advice}", first_line(source))]
    Device { device: String, source: candle_core::Error, advice: &'static str },
    #[error("the model does not fit device {device}: {}", first_line(source))]
    DeviceMemory { device: String, source: candle_core::Error },
    #[error(
        "the model needs {needs}; this machine has {total} bytes of memory, and {available} are available. {advice}"
    )]
    Memory { needs: String, total: u64, available: u64, advice: &'static str },
    #[error("{what}")]
    Option { what: String },
    #[error("loading was stopped")]
    GivenUp,
    #[error("the engine could not start: {source}")]
    Engine { source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the model's files made the engine panic while loading: {what}")]
    Panicked { what: String },
}

/// What an error of candle says, without the trace that follows if `RUST_BACKTRACE` is set.
pub(super) fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_about_a_device_has_no_trace() {
        let source = candle_core::Error::Msg("no device".into());
        let source = candle_core::Error::WithBacktrace {
            inner: source.into(),
            backtrace: Box::new(std::backtrace::Backtrace::force_capture()),
        };
        assert!(source.to_string().lines().count() > 3);
        let fault = LoadFault::Device { device: "cuda:0".into(), source, advice: "wait" };
        assert_eq!(fault.to_string(), "device cuda:0 cannot be used: no device. What to do: wait");
    }
}
