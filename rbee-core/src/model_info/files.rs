//! Reading of a model's files, with an error for each kind of damage.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::{
    error::{Error, ErrorKind},
    file_roots,
};

/// The longest configuration file or template that is read, in bytes.
pub(crate) const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// The reason why a model's file cannot be used.
#[derive(Debug)]
pub(crate) enum FileFault {
    Missing {
        path: PathBuf,
        source: io::Error,
    },
    Unreadable {
        path: PathBuf,
        source: io::Error,
    },
    NoWeights {
        path: PathBuf,
        source: io::Error,
    },
    Defect {
        path: PathBuf,
        what: String,
    },
    Malformed {
        path: PathBuf,
        what: &'static str,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { path, .. } => {
                write!(f, "the model has no {}; its directory must contain it", path.display())
            }
            Self::Unreadable { path, source } => {
                write!(f, "{} cannot be read: {source}", path.display())
            }
            Self::NoWeights { path, source } => write!(f, "{} {source}", path.display()),
            Self::Defect { path, what } => write!(f, "{}: {what}", path.display()),
            Self::Malformed { path, what, source } => {
                write!(f, "{}: {what}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for FileFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Missing { source, .. } => Some(source),
            Self::Unreadable { source, .. } => Some(source),
            Self::NoWeights { source, .. } => Some(source),
            Self::Malformed { source, .. } => Some(&**source),
            _ => None,
        }
    }
}

pub(crate) type Found<T> = std::result::Result<T, FileFault>;

impl FileFault {
    pub(crate) fn defect(path: &Path, what: impl Into<String>) -> Self {
        Self::Defect { path: path.to_owned(), what: what.into() }
    }

    pub(crate) fn malformed(
        path: &Path,
        what: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Malformed { path: path.to_owned(), what, source: source.into() }
    }

    pub(crate) fn unreadable(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::NotFound {
            Self::Missing { path, source }
        } else {
            Self::Unreadable { path, source }
        }
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Unreadable { source, .. } if file_roots::leads_out(source) => {
                ErrorKind::PermissionDenied
            }
            Self::Missing { .. } | Self::NoWeights { .. } | Self::Unreadable { .. } => {
                ErrorKind::ModelNotFound
            }
            Self::Defect { .. } | Self::Malformed { .. } => ErrorKind::ModelIncompatible,
        }
    }
}

impl From<FileFault> for Error {
    fn from(fault: FileFault) -> Self {
        Error::new(fault.kind(), fault.to_string()).with_source(fault)
    }
}

/// Opens a regular file. Anything else (a pipe would block for ever) is refused before it is opened.
pub(crate) fn open(path: &Path) -> Found<(File, u64)> {
    let unreadable = |source| FileFault::unreadable(path, source);
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(FileFault::defect(path, "is not a regular file"));
    }
    let file = file_roots::open(path).map_err(unreadable)?;
    // The path may name another file by now.
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(FileFault::defect(path, "is not a regular file"));
    }
    Ok((file, metadata.len()))
}

/// The content of a small file; `None` if it does not exist.
pub(crate) fn read_optional(path: &Path, most: u64) -> Found<Option<Vec<u8>>> {
    let (file, _) = match open(path) {
        Ok(opened) => opened,
        Err(FileFault::Missing { .. }) => return Ok(None),
        Err(fault) => return Err(fault),
    };
    let mut bytes = Vec::new();
    // One byte more than allowed, to detect a file that is too long, even if it grows.
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| FileFault::unreadable(path, source))?;
    if bytes.len() as u64 > most {
        let what = format!("has more than {most} bytes; allowed are at most {most}");
        return Err(FileFault::defect(path, what));
    }
    Ok(Some(bytes))
}

/// The content of a small file that must exist.
pub(crate) fn read(path: &Path, most: u64) -> Found<Vec<u8>> {
    read_optional(path, most)?.ok_or_else(|| FileFault::Missing {
        path: path.to_owned(),
        source: io::ErrorKind::NotFound.into(),
    })
}

/// A JSON object in a file; `None` if there is no such file.
pub(crate) fn read_object(path: &Path, most: u64) -> Found<Option<Map<String, Value>>> {
    read_optional(path, most)?.map(|bytes| parse_object(path, &bytes)).transpose()
}

/// A JSON object.
pub(crate) fn parse_object(path: &Path, bytes: &[u8]) -> Found<Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(FileFault::defect(path, "is not a JSON object")),
        Err(source) => Err(FileFault::malformed(path, "is not JSON", source)),
    }
}

/// A value for a message: always short.
pub(crate) fn shown(value: impl std::fmt::Display) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
