//! The options of a database.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{SqliteRegistry, durability::Durability, fault::Fault};
use crate::{error::Result, registry::clock::Clock, time::WallTime};

/// The options of a database's backups; see [`SqliteOptions::backups`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backups {
    /// Their directory. It is created, readable only by its owner, if it is missing. Store nothing else in it.
    pub directory: PathBuf,
    /// The time between two backups. None is made if nothing was recorded since the last one, and a large database is
    /// copied less often: copying takes at most a sixtieth of the time.
    pub interval: Duration,
    /// The number of backups to keep: the newest.
    pub kept: usize,
}

/// The options of a [`SqliteRegistry`]; see [`SqliteRegistry::options`].
///
/// ```
/// use rbee_core::{registry::Durability, SqliteRegistry};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("rbee.db");
/// let registry = SqliteRegistry::options().durability(Durability::PowerLoss).open(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    pub(super) durability: Durability,
    pub(super) keep_ended: Duration,
    pub(super) busy_timeout: Duration,
    pub(super) backups: Option<Backups>,
    pub(super) clock: Clock,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            keep_ended: Duration::from_secs(7 * 24 * 3600),
            busy_timeout: Duration::from_secs(5),
            backups: None,
            clock: Clock::default(),
        }
    }
}

impl SqliteOptions {
    /// The failure that an acknowledged record survives. [`Durability::ProcessCrash`] by default.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The time for which ended jobs are kept, from their ends; 7 days by default. Older ones are removed a few at a
    /// time, between other work, whenever a run begins or renews its lease. If several queens share the file, the
    /// shortest time applies.
    pub fn keep_ended(mut self, time: Duration) -> Self {
        self.keep_ended = time;
        self
    }

    /// The time to wait for another process that holds the lock of the file; 5 seconds by default.
    pub fn busy_timeout(mut self, time: Duration) -> Self {
        self.busy_timeout = time;
        self
    }

    /// Makes backups of the database while it is in use; none by default. They contain the data of the database,
    /// including requests and answers, until they are removed.
    pub fn backups(mut self, backups: Backups) -> Self {
        self.backups = Some(backups);
        self
    }

    /// Sets the clock for leases, the current day and the age of jobs, instead of the machine's clock; for tests.
    pub fn clock(mut self, clock: impl Fn() -> WallTime + Send + Sync + 'static) -> Self {
        self.clock = Clock::new(clock);
        self
    }

    /// Opens the database, or creates it.
    ///
    /// # Errors
    /// As [`SqliteRegistry::open`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<SqliteRegistry> {
        let path = path.as_ref();
        // An absolute path also keeps SQLite from taking a name such as `file:x` for a URI.
        std::path::absolute(path)
            .map_err(Fault::from)
            .and_then(|path| SqliteRegistry::start(&path, self))
            .map_err(|fault| fault.during("open the registry", path))
    }
}
