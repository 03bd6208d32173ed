//! What an operator can do about a database of the queue that was lost or damaged, and what the doctor says of its
//! backups.

use std::{fmt::Write, path::PathBuf};

use rbee_core::{
    Error, ErrorKind, Result, SqliteRegistry, async_trait,
    registry::{BackupStatus, Restored},
};
use rbee_transport_http::{
    server::HealthCheck,
    wire::queen::{Check, Verdict},
};

use crate::{Config, home::Home};

/// The database of the queue, in the data directory.
pub(crate) const DATABASE: &str = "queen.db";
/// Where its backups are, in the data directory.
pub(crate) const BACKUPS: &str = "backups";

/// What is to be done about the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Restore the newest backup that can be used.
    RestoreLatest,
    /// Restore this backup.
    Restore(PathBuf),
    /// Go on with what is there.
    AcceptLoss,
    /// Begin with an empty one.
    StartAnew,
}

/// Does it, and tells what was done.
///
/// # Errors
/// [`ErrorKind::Conflict`] while a queen uses the data directory, [`ErrorKind::NotFound`] if there is no backup, and
/// [`ErrorKind::Storage`] if the database cannot be exchanged. Nothing is changed then.
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
                    // A damaged backup: perhaps the one before it is whole.
                    Err(error) if error.kind() == ErrorKind::Storage => {
                        eprintln!("queen-rbee: {error:?}");
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
            let anew = SqliteRegistry::start_anew(&database)?;
            Ok(describe(&format!("{} is empty now", database.display()), &anew))
        }
    }
}

fn describe(done: &str, restored: &Restored) -> String {
    let mut text = done.to_owned();
    if let Some(from) = restored.from {
        // Text into a string, which does not fail.
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

/// Says how the backups fare.
#[derive(Debug)]
pub(crate) struct BackupHealth(pub(crate) BackupStatus);

#[async_trait]
impl HealthCheck for BackupHealth {
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
