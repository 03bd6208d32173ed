//! What can go wrong with the file, and how it reads as an [`Error`] of the crate.

use std::{io, path::Path};

use crate::{Error, ErrorKind};

/// A failure of one operation on the database.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is {0}, not a database file")]
    NotAFile(&'static str),
    #[error("it is not an SQLite database; it is left as it is")]
    NotADatabase,
    #[error(
        "it is a database of another application (its application id is {found:#010x}, that of rbee is {:#010x}); \
         it is left as it is",
        super::schema::APPLICATION_ID
    )]
    Foreign { found: i32 },
    #[error(
        "its schema has version {found}, and this rbee knows versions up to {known}; it was written by a newer rbee \
         and is left as it is"
    )]
    Newer { found: i32, known: i32 },
    #[error("column {column} of a row of {table} holds {value:?}, which is damaged")]
    Damaged { table: &'static str, column: String, value: String },
    #[error("its thread has ended")]
    Stopped,
}

impl Fault {
    /// The public error: which operation on which file failed, why, and what can be done where that is known.
    pub(super) fn during(self, operation: &str, path: &Path) -> Error {
        let hint = match self.code() {
            Some(rusqlite::ErrorCode::DiskFull) => "; it goes on once there is room",
            Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
                "; another process holds its lock for too long"
            }
            Some(rusqlite::ErrorCode::ReadOnly) => "; the file or its directory cannot be written",
            Some(rusqlite::ErrorCode::DatabaseCorrupt) => "; restore it from a copy",
            _ => "",
        };
        let message = format!("cannot {operation} {}: {self}{hint}", path.display());
        let error = Error::new(ErrorKind::Storage, message);
        match self {
            Self::Sqlite(cause) => error.with_source(cause),
            Self::Io(cause) => error.with_source(cause),
            other => error.with_source(other),
        }
    }

    fn code(&self) -> Option<rusqlite::ErrorCode> {
        match self {
            Self::Sqlite(error) => error.sqlite_error_code(),
            _ => None,
        }
    }
}

/// Why a record was not written: its life or a row is another's, or the file failed.
#[derive(Debug)]
pub(super) enum Refusal {
    Fenced(Error),
    Fault(Fault),
}

impl<E: Into<Fault>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Fault(error.into())
    }
}

impl Refusal {
    pub(super) fn during(self, operation: &str, path: &Path) -> Error {
        match self {
            Self::Fenced(error) => error,
            Self::Fault(fault) => fault.during(operation, path),
        }
    }
}
