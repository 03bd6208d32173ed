//! Failures of the database file, and their conversion to an [`Error`] of the crate.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::error::{Error, ErrorKind};

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
    #[error("the file is damaged ({0})")]
    Unsound(String),
    #[error("{} is not a mark that can be read: {cause}", path.display())]
    BadMark { path: PathBuf, cause: String },
    #[error("{what}; its mark is of {at}, when {live_jobs} jobs waited or ran")]
    Lost { what: String, live_jobs: u64, at: String },
    #[error("the backup {} cannot be used: {cause}", path.display())]
    Backup { path: PathBuf, cause: Box<Fault> },
    #[error("it needs {needed} bytes of free disk, and {free} are free")]
    NoRoom { needed: u64, free: u64 },
    #[error("a queen uses it")]
    Used,
}

impl Fault {
    /// The public error: the operation and the file that failed, the reason, and the remedy if it is known. It sets the
    /// time of the next retry if the cause may go away.
    pub(super) fn during(self, operation: &str, path: &Path) -> Error {
        use rusqlite::ErrorCode;
        let seconds = Duration::from_secs;
        let (hint, again) = match self.code() {
            Some(ErrorCode::DiskFull) => {
                ("; it continues once there is free space", Some(seconds(10)))
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                ("; another process holds its lock for too long", Some(seconds(5)))
            }
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::OutOfMemory) => {
                ("; it is tried again", Some(seconds(10)))
            }
            Some(ErrorCode::ReadOnly) => ("; the file or its directory cannot be written", None),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (
                "; the file is damaged: stop the queen and restore a backup (queen-rbee --restore latest)",
                None,
            ),
            _ => (self.remedy(), None),
        };
        let kind = match self.is_defect() {
            true => ErrorKind::Internal,
            false => ErrorKind::Storage,
        };
        let mut error =
            Error::new(kind, format!("cannot {operation} {}: {self}{hint}", path.display()));
        if let Some(again) = again {
            error = error.with_retry_after(again);
        }
        match self {
            Self::Sqlite(cause) => error.with_source(cause),
            Self::Io(cause) => error.with_source(cause),
            other => error.with_source(other),
        }
    }

    /// The remedy for the operator.
    fn remedy(&self) -> &'static str {
        match self {
            Self::Unsound(_) => "; restore a backup (queen-rbee --restore latest)",
            Self::Lost { .. } => {
                "; restore a backup (queen-rbee --restore latest), go on with what is there (queen-rbee --accept-loss), \
                 or begin with an empty database (queen-rbee --new-database)"
            }
            Self::BadMark { .. } => {
                "; if the database itself is sound, go on with it (queen-rbee --accept-loss), else restore a backup \
                 (queen-rbee --restore latest)"
            }
            _ => "",
        }
    }

    /// True if the data to be written is wrong, and not the file: it fails each time, and other records do not.
    fn is_defect(&self) -> bool {
        use rusqlite::ErrorCode;
        matches!(
            self.code(),
            Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch)
        )
    }

    fn code(&self) -> Option<rusqlite::ErrorCode> {
        match self {
            Self::Sqlite(error) => error.sqlite_error_code(),
            _ => None,
        }
    }
}

/// The reason why a record was not written: its run was superseded, a row belongs to another owner, or the file failed.
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
