//! The repair of a lost or damaged database of the queue, and the doctor's check of its backups.

use std::{
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
};

use rbee_core::{
    Error, ErrorKind, Result, SqliteRegistry, async_trait,
    registry::{BackupStatus, Restored},
    time::WallTime,
};
use rbee_transport_http::{
    server::{HealthCheck, report},
    wire::queen::{Check, Verdict},
};

use crate::{Config, home::Home};

/// The database of the queue, in the data directory.
pub(crate) const DATABASE: &str = "queen.db";
/// The directory of its backups, in the data directory.
pub(crate) const BACKUPS: &str = "backups";

/// What to do with the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Restore the newest usable backup.
    RestoreLatest,
    /// Restore this backup.
    Restore(PathBuf),
    /// Continue with what is there.
    AcceptLoss,
    /// Start with an empty database.
    StartAnew,
}

/// Does it, and returns a description of the result.
///
/// # Errors
/// [`ErrorKind::Conflict`] while a queen uses the data directory, [`ErrorKind::NotFound`] if there is no backup, and
/// [`ErrorKind::Storage`] if the database cannot be replaced. Nothing is changed then.
pub fn repair(config: &Config, what: &Repair) -> Result<String> {
    let home = Home::take(&config.data_dir)?;
    let (database, directory) = (home.join(DATABASE), home.join(BACKUPS));
    match what {
        Repair::Restore(file) => {
            let restored = SqliteRegistry::restore(&database, file)?;
            Ok(describe(&format!("restored {}", file.display()), &restored))
        }
        Repair::RestoreLatest => {
            let mut newest = None;
            for file in SqliteRegistry::find_backups(&directory) {
                match SqliteRegistry::restore(&database, &file) {
                    Ok(restored) => {
                        return Ok(describe(&format!("restored {}", file.display()), &restored));
                    }
                    // A damaged backup: the previous one may be intact.
                    Err(error) if error.kind() == ErrorKind::Storage => {
                        report("queen-rbee", &error);
                        newest.get_or_insert(error);
                    }
                    Err(error) => return Err(error),
                }
            }
            Err(newest.unwrap_or_else(|| {
                let message = format!(
                    "there is no backup in {}; name one with --restore FILE, or begin with an empty database with \
                     --new-database",
                    directory.display()
                );
                Error::new(ErrorKind::NotFound, message)
            }))
        }
        Repair::AcceptLoss => {
            let accepted = SqliteRegistry::accept_loss(&database)?;
            Ok(describe(&format!("{} is used as it is", database.display()), &accepted))
        }
        Repair::StartAnew => {
            // First, so that the backups of the new database can never displace them.
            let aside = set_aside(&directory)?;
            let anew = SqliteRegistry::start_anew(&database).inspect_err(|_| {
                if let Some(aside) = &aside {
                    // The error says why; the backups are complete in either place.
                    let _ = fs::rename(aside, &directory);
                }
            })?;
            let mut text = describe(&format!("{} is empty now", database.display()), &anew);
            if let Some(aside) = aside {
                let _ = write!(text, "; its earlier backups are kept in {}", aside.display());
            }
            Ok(text)
        }
    }
}

/// Renames the directory of the backups, so that those of another database do not count as older ones and are not
/// removed. Returns its new path; `None` if there is nothing to keep.
fn set_aside(backups: &Path) -> Result<Option<PathBuf>> {
    if SqliteRegistry::find_backups(backups).is_empty() {
        return Ok(None);
    }
    let now = WallTime::now().to_string().replace(['-', ':'], "");
    let before = |number: u32| match number {
        0 => backups.with_file_name(format!("{BACKUPS}-before-{now}")),
        number => backups.with_file_name(format!("{BACKUPS}-before-{now}-{number}")),
    };
    let aside = (0..).map(before).find(|path| fs::symlink_metadata(path).is_err());
    let moved = aside.ok_or_else(|| io::Error::other("no name is free"));
    let moved = moved.and_then(|aside| fs::rename(backups, &aside).map(|()| aside));
    moved.map(Some).map_err(|cause| {
        let message = format!(
            "the backups in {} cannot be set aside: {cause}; move them to another directory yourself, because the \
             backups of a new database would replace them, and try again",
            backups.display()
        );
        Error::new(ErrorKind::Storage, message).with_source(cause)
    })
}

fn describe(done: &str, restored: &Restored) -> String {
    let mut text = done.to_owned();
    if let Some(from) = restored.from {
        // Writing to a string does not fail.
        let _ = write!(text, ", as of {from}");
    }
    match restored.live_jobs {
        0 => text += "; no job in it waits",
        jobs => {
            let _ = write!(text, "; {jobs} jobs in it had not ended, and run at the next start");
        }
    }
    if let Some(replaced) = &restored.replaced {
        let _ = write!(text, "; what was there before is kept as {}", replaced.display());
    }
    text
}

/// The health check of the backups.
#[derive(Debug)]
pub(crate) struct BackupHealth(pub(crate) BackupStatus);

#[async_trait]
impl HealthCheck for BackupHealth {
    fn name(&self) -> &str {
        "the check of the backups"
    }

    async fn check(&self) -> Vec<Check> {
        let (verdict, message) = match (self.0.error(), self.0.last()) {
            (Some(error), _) => (Verdict::Warning, error),
            (None, Some((path, at))) => {
                (Verdict::Ok, format!("the last of {at}: {}", path.display()))
            }
            (None, None) => (Verdict::Ok, "none was made yet".to_owned()),
        };
        vec![Check { subject: "store".into(), check: "backups".into(), verdict, message }]
    }
}
