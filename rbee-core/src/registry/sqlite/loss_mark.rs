//! The mark: a small file next to the database that states what the database must contain at least.
//!
//! The database has its own identity and a counter, the *stamp*. From time to time the writer raises the stamp, syncs
//! it to the disk, and then writes the mark. So the mark never states more than the database contains, unless data of
//! the database was lost: it was deleted, emptied, replaced by an older one, or its log was damaged. The mark also
//! contains the greatest epoch that was assigned, so that a new or restored database assigns greater ones: hives fence
//! by epochs.
//!
//! It adds no cost to a job: it is written when a run begins and ends, at each backup, and every [`INTERVAL`] in which
//! something was recorded.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use super::{
    fault::Fault,
    file::{beside, create_private},
};
use crate::time::WallTime;

/// The time between two marks while something is recorded. A loss of data recorded after the last mark may go
/// unnoticed.
pub(super) const INTERVAL: Duration = Duration::from_secs(30);

/// The largest mark that is read, in bytes.
const MOST_BYTES: u64 = 4_096;

/// What the database must contain at least.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The identity of the database.
    pub(super) database: String,
    /// The stamp of the database.
    pub(super) stamp: u64,
    /// The greatest epoch that was assigned.
    pub(super) epoch: u64,
    /// The time of the mark, in milliseconds since 1970.
    pub(super) at_ms: u64,
    /// Jobs that had not ended then.
    pub(super) live_jobs: u64,
    /// The boot of the operating system during which it was written; `None` if the system has no identifier for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) boot: Option<String>,
}

/// The path of the mark.
pub(super) fn path_of(database: &Path) -> PathBuf {
    beside(database, "-mark")
}

/// The mark of a database; `None` if there is none.
pub(super) fn read(database: &Path) -> Result<Option<Mark>, Fault> {
    let path = path_of(database);
    let mut text = String::new();
    match File::open(&path) {
        Ok(file) => file.take(MOST_BYTES).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mark = serde_json::from_str(&text);
    mark.map(Some).map_err(|cause| Fault::BadMark { path, cause: cause.to_string() })
}

/// Writes it, completely or not at all, and syncs it to the disk.
pub(super) fn write(database: &Path, mark: &Mark) -> io::Result<()> {
    let path = path_of(database);
    // One at a time: the writer of the mark holds the write lock of the database.
    let new = beside(database, "-mark.new");
    let written = (|| {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = create_private(&new)?;
        serde_json::to_writer(&mut file, mark).map_err(io::Error::from)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        sync_directory(&path)
    })();
    if written.is_err() {
        // The file may not exist.
        let _ = fs::remove_file(&new);
    }
    written
}

/// Syncs the directory of this file to the disk.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(parent) = path.parent() {
        File::open(parent)?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// The identity that is stored in a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) database: String,
    pub(super) stamp: u64,
    /// The time of the last stamp.
    pub(super) at_ms: u64,
}

/// The identity of a database; `None` if a version of rbee created it that stored none.
pub(super) fn identity(db: &Connection) -> Result<Option<Identity>, Fault> {
    let has_table = db
        .query_row(
            "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'identity'",
            [],
            |_| Ok(()),
        )
        .optional()?;
    if has_table.is_none() {
        return Ok(None);
    }
    let read = |row: &rusqlite::Row<'_>| {
        let number = |column| row.get::<_, i64>(column).map(|n| u64::try_from(n).unwrap_or(0));
        Ok(Identity { database: row.get(0)?, stamp: number(1)?, at_ms: number(2)? })
    };
    Ok(db.query_row("SELECT database, stamp, at_ms FROM identity", [], read).optional()?)
}

/// The greatest epoch that this database has assigned.
pub(super) fn last_epoch(db: &Connection) -> Result<u64, Fault> {
    let last = db
        .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'queens'", [], |row| row.get(0))
        .optional()?;
    Ok(u64::try_from(last.unwrap_or(0_i64)).unwrap_or(0))
}

/// Makes the database assign epochs greater than this one.
pub(super) fn raise_epoch(db: &Connection, epoch: u64) -> Result<(), Fault> {
    let epoch = super::ops::stored(epoch.max(last_epoch(db)?));
    db.execute("DELETE FROM sqlite_sequence WHERE name = 'queens'", [])?;
    db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('queens', ?1)", [epoch])?;
    Ok(())
}

/// Sets the stamp to 1 more than the greater of its value and `least`. Commit it with `synchronous = FULL`, so that all
/// previous data is on the disk before the mark states it.
pub(super) fn stamp(db: &Connection, least: u64, now: WallTime) -> Result<(), Fault> {
    db.execute(
        "UPDATE identity SET stamp = max(stamp, ?1) + 1, at_ms = ?2",
        [super::ops::stored(least), super::ops::stored_time(now)],
    )?;
    Ok(())
}

/// The contents of the mark. Hold the write lock from this read until the mark is written: then the marks of several
/// processes only grow.
pub(super) fn of(db: &Connection, now: WallTime) -> Result<Option<Mark>, Fault> {
    let Some(Identity { database, stamp, .. }) = identity(db)? else { return Ok(None) };
    let live: i64 =
        db.query_row("SELECT count(*) FROM jobs WHERE completed_at IS NULL", [], |row| row.get(0))?;
    Ok(Some(Mark {
        database,
        stamp,
        epoch: last_epoch(db)?,
        at_ms: now.as_millis(),
        live_jobs: u64::try_from(live).unwrap_or(0),
        boot: boot(),
    }))
}

/// Checks that the database contains what its mark states.
///
/// # Errors
/// [`Fault::Lost`] if it does not.
pub(super) fn compare(mark: &Mark, found: Option<&Identity>) -> Result<(), Fault> {
    let what = match found {
        None => "it is a database without a mark of its own, from before the marked one".to_owned(),
        Some(found) if found.database != mark.database => {
            format!(
                "it is another database ({}, and the mark is of {})",
                found.database, mark.database
            )
        }
        Some(found) if found.stamp < mark.stamp => format!(
            "it is as of {}, and what was recorded until {} is missing",
            utc(found.at_ms),
            utc(mark.at_ms)
        ),
        Some(_) => return Ok(()),
    };
    Err(lost(mark, what))
}

/// The error for data that the mark states and the database does not contain.
pub(super) fn lost(mark: &Mark, what: String) -> Fault {
    Fault::Lost { what, live_jobs: mark.live_jobs, at: utc(mark.at_ms) }
}

/// An identifier of this boot of the operating system: data written by a process survives its death, but not always a
/// crash of the system.
pub(super) fn boot() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

pub(super) fn utc(millis: u64) -> String {
    WallTime::from_millis(millis).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_is_not_one_is_refused_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("rbee.db");
        assert_eq!(read(&database).unwrap(), None);
        fs::write(path_of(&database), "nonsense").unwrap();
        let error = read(&database).unwrap_err().to_string();
        assert!(error.contains("rbee.db-mark"), "{error}");
    }
}
