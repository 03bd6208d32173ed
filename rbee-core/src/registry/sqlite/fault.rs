//! Failures of the database file, and their conversion to an [`Error`] of the crate.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::error::{Error, ErrorKind};

/// A failure of one operation on the database.
#[derive(Debug)]
pub(super) enum Fault {
    Sqlite(rusqlite::Error),
    Io(io::Error),
    NotAFile(&'static str),
    NotADatabase,
    Foreign { found: i32 },
    Newer { found: i32, known: i32 },
    Damaged { table: &'static str, column: String, value: String },
    Stopped,
    Unsound(String),
    BadMark { path: PathBuf, cause: String },
    Lost { what: String, live_jobs: u64, at: String },
    Backup { path: PathBuf, cause: Box<Fault> },
    NoRoom { needed: u64, free: u64 },
    Used,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(it) => write!(f, "{it}"),
            Self::Io(it) => write!(f, "{it}"),
            Self::NotAFile(it) => write!(f, "it is {it}, not a database file"),
            Self::NotADatabase => f.write_str("it is not an SQLite database; it is left as it is"),
            Self::Foreign { found } => write!(
                f,
                "it is a database of another application (its application id is {found:#010x}, that of rbee is {:#010x}); \
         it is left as it is",
                super::schema::APPLICATION_ID
            ),
            Self::Newer { found, known } => write!(
                f,
                "its schema has version {found}, and this rbee knows versions up to {known}; it was written by a newer rbee \
         and is left as it is"
            ),
            Self::Damaged { table, column, value } => {
                write!(f, "column {column} of a row of {table} holds {value:?}, which is damaged")
            }
            Self::Stopped => f.write_str("its thread has ended"),
            Self::Unsound(it) => write!(f, "the file is damaged ({it})"),
            Self::BadMark { path, cause } => {
                write!(f, "{} is not a mark that can be read: {cause}", path.display())
            }
            Self::Lost { what, live_jobs, at } => {
                write!(f, "{what}; its mark is of {at}, when {live_jobs} jobs waited or ran")
            }
            Self::Backup { path, cause } => {
                write!(f, "the backup {} cannot be used: {cause}", path.display())
            }
            Self::NoRoom { needed, free } => {
                write!(f, "it needs {needed} bytes of free disk, and {free} are free")
            }
            Self::Used => f.write_str("a queen uses it"),
        }
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Sqlite(source) => Some(source),
            Self::Io(source) => Some(source),
            _ => None,
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
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

    /// True if another process holds the lock of the database.
    pub(super) fn is_busy(&self) -> bool {
        self.code() == Some(rusqlite::ErrorCode::DatabaseBusy)
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
