//! Ends of jobs that the database cannot accept at the moment. They are kept next to it, in the lock file of the run.
//!
//! The disk space for them is allocated when the run begins, so they can be written while the disk is full, and they
//! need no lock of the database. A queen that takes over the rows of that run records them first. Each end is one line
//! of JSON; a line that was cut off by a kill is ignored.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::{
    apply,
    fault::{Fault, Refusal},
    file::lock_path,
    ops::Op,
};
use crate::{
    error::{Error, ErrorKind},
    event::{Finish, Outcome, Usage},
    id::{Epoch, JobId},
    registry::Change,
    time::WallTime,
};

/// The space for the ends of one run, in bytes: about 300 ends.
const ROOM: usize = 64 << 10;
/// The longest message of an error that is kept, in characters.
const MESSAGE: usize = 300;

/// The kept ends of one run.
#[derive(Debug)]
pub(super) struct KeptEnds {
    file: File,
    /// Used bytes.
    used: usize,
    room: usize,
}

#[derive(Serialize, Deserialize)]
struct KeptEnd {
    job: JobId,
    at_ms: u64,
    used_tokens: u64,
    keep_request: bool,
    keep_output: bool,
    outcome: KeptOutcome,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeptOutcome {
    Complete {
        finish: Finish,
        usage: Usage,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop_text: Option<Box<str>>,
    },
    Failed {
        code: ErrorKind,
        message: String,
    },
    Cancelled,
}

impl KeptEnds {
    /// Allocates the space for them in this file. There is none if the disk does not have it.
    pub(super) fn new(mut file: File) -> Self {
        let taken = file.write_all(&vec![0; ROOM]);
        let room = if taken.is_ok() { ROOM } else { 0 };
        Self { file, used: 0, room }
    }

    /// Keeps these ends, all or none.
    pub(super) fn keep(&mut self, ends: &[Change]) -> io::Result<()> {
        let mut lines = Vec::new();
        for end in ends.iter().filter_map(KeptEnd::of) {
            serde_json::to_writer(&mut lines, &end)?;
            lines.push(b'\n');
        }
        if self.used + lines.len() > self.room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.write(self.used, &lines)?;
        self.used += lines.len();
        Ok(())
    }

    /// Removes them: all are in the database now.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.write(0, &vec![0; self.used])?;
        self.used = 0;
        Ok(())
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(at as u64))?;
        self.file.write_all(bytes)
    }
}

impl KeptEnd {
    fn of(change: &Change) -> Option<Self> {
        let Change::JobEnded { job, outcome, at, used_tokens, keep_request, keep_output } = change
        else {
            return None;
        };
        let outcome = match outcome {
            Outcome::Complete { finish, usage, stop_text } => KeptOutcome::Complete {
                finish: *finish,
                usage: *usage,
                stop_text: stop_text.clone().filter(|text| text.len() <= MESSAGE),
            },
            Outcome::Failed(error) => KeptOutcome::Failed {
                code: error.kind(),
                message: error.message().chars().take(MESSAGE).collect(),
            },
            Outcome::Cancelled => KeptOutcome::Cancelled,
        };
        Some(Self {
            job: *job,
            at_ms: at.as_millis(),
            used_tokens: *used_tokens,
            keep_request: *keep_request,
            keep_output: *keep_output,
            outcome,
        })
    }

    fn change(self) -> Change {
        Change::JobEnded {
            job: self.job,
            outcome: match self.outcome {
                KeptOutcome::Complete { finish, usage, stop_text } => {
                    Outcome::Complete { finish, usage, stop_text }
                }
                KeptOutcome::Failed { code, message } => Outcome::Failed(Error::new(code, message)),
                KeptOutcome::Cancelled => Outcome::Cancelled,
            },
            at: WallTime::from_millis(self.at_ms),
            used_tokens: self.used_tokens,
            keep_request: self.keep_request,
            keep_output: self.keep_output,
        }
    }
}

/// Records the kept ends of a superseded run. Call it while the run still owns its jobs.
pub(super) fn record_kept(
    db: &Connection,
    database: &Path,
    epoch: Epoch,
    life: &str,
) -> Result<(), Fault> {
    let mut bytes = Vec::new();
    match File::open(lock_path(database, life)) {
        Ok(file) => file.take(ROOM as u64).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let whole = bytes[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    for line in bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Ok(kept) = serde_json::from_slice::<KeptEnd>(line) else {
            tracing::warn!(path = %database.display(), "an end that was kept cannot be read");
            continue;
        };
        match apply::apply(db, epoch, &Op::new(&kept.change())?) {
            // Another run owns the job: this run must not end it.
            Ok(()) | Err(Refusal::Fenced(_)) => {}
            Err(Refusal::Fault(fault)) => return Err(fault),
        }
    }
    Ok(())
}
