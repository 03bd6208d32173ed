//! Reading a model's files, with every way they can be wrong named.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::{Error, ErrorKind};

/// The longest JSON or template file that is read, in bytes. The tokenizers of large vocabularies are the largest
/// by far, some 35 MB.
pub(super) const MAX_TOKENIZER_BYTES: u64 = 64 << 20;
/// The same for configuration files and templates.
pub(super) const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadFault {
    #[error("the model has no {}; its directory must contain it", .path.display())]
    Missing { path: PathBuf, source: io::Error },
    #[error("{} cannot be read", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{}: {what}", .path.display())]
    Defect { path: PathBuf, what: String },
    #[error("{}: {what}: {source}", .path.display())]
    Malformed {
        path: PathBuf,
        what: &'static str,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("device {device} cannot be used: {source}")]
    Device { device: String, source: candle_core::Error },
    #[error("the model does not fit device {device}: {source}")]
    DeviceMemory { device: String, source: candle_core::Error },
    #[error("{what}")]
    Option { what: String },
    #[error("loading was given up")]
    GivenUp,
    #[error("the engine could not start: {source}")]
    Engine { source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the model's files made the engine panic while loading: {what}")]
    Panicked { what: String },
}

pub(super) type Loaded<T> = std::result::Result<T, LoadFault>;

impl LoadFault {
    pub(super) fn defect(path: &Path, what: impl Into<String>) -> Self {
        Self::Defect { path: path.to_owned(), what: what.into() }
    }

    pub(super) fn malformed(
        path: &Path,
        what: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Malformed { path: path.to_owned(), what, source: source.into() }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing { .. } => ErrorKind::ModelNotFound,
            Self::Unreadable { .. }
            | Self::Defect { .. }
            | Self::Malformed { .. }
            | Self::Panicked { .. } => ErrorKind::ModelIncompatible,
            Self::Device { .. } => ErrorKind::Unsupported,
            Self::DeviceMemory { .. } => ErrorKind::InsufficientVram,
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

/// Opens a regular file. Anything else (a pipe would block for ever) is refused before it is opened.
pub(super) fn open(path: &Path) -> Loaded<(File, u64)> {
    let unreadable = |source: io::Error| {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::NotFound {
            LoadFault::Missing { path, source }
        } else {
            LoadFault::Unreadable { path, source }
        }
    };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(LoadFault::defect(path, "is not a regular file"));
    }
    let file = File::open(path).map_err(unreadable)?;
    Ok((file, metadata.len()))
}

/// The whole of a small file, or `None` where there is none.
pub(super) fn read_optional(path: &Path, most: u64) -> Loaded<Option<Vec<u8>>> {
    let (file, _) = match open(path) {
        Ok(opened) => opened,
        Err(LoadFault::Missing { .. }) => return Ok(None),
        Err(fault) => return Err(fault),
    };
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too long from one that just fits, also where it grows.
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| LoadFault::Unreadable { path: path.to_owned(), source })?;
    if bytes.len() as u64 > most {
        let what = format!("has more than {most} bytes; allowed are at most {most}");
        return Err(LoadFault::defect(path, what));
    }
    Ok(Some(bytes))
}

/// The whole of a small file that must be there.
pub(super) fn read(path: &Path, most: u64) -> Loaded<Vec<u8>> {
    read_optional(path, most)?.ok_or_else(|| LoadFault::Missing {
        path: path.to_owned(),
        source: io::ErrorKind::NotFound.into(),
    })
}

/// A JSON object in a file, or `None` where there is no such file.
pub(super) fn read_object(path: &Path, most: u64) -> Loaded<Option<Map<String, Value>>> {
    read_optional(path, most)?.map(|bytes| parse_object(path, &bytes)).transpose()
}

/// A JSON object.
pub(super) fn parse_object(path: &Path, bytes: &[u8]) -> Loaded<Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(LoadFault::defect(path, "is not a JSON object")),
        Err(source) => Err(LoadFault::malformed(path, "is not JSON", source)),
    }
}

/// A value as it is shown in a message: short, whatever it is.
pub(super) fn shown(value: impl std::fmt::Display) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
