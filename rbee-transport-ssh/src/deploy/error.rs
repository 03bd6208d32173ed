//! [`DeployError`]: why programs cannot be put on a machine, and what to do next.

use std::{fmt, io, path::PathBuf, time::Duration};

use super::{exec::SessionEnd, size::Size};

/// An error of a deployment. Its text names the thing, the problem, and what to do next. It does not name the machine,
/// which the caller knows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeployError {
    /// A setting that is wrong.
    #[error("{what} {value:?} cannot be used: {reason}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        reason: String,
    },
    /// A session could not be opened, or it broke off.
    #[error("{what}: {cause}; it can be tried again when the connection works")]
    Session {
        /// What was being done.
        what: &'static str,
        /// The error of the connection.
        #[source]
        cause: io::Error,
    },
    /// The machine did not run the script that was sent to `sh`.
    #[error(
        "{what}: the machine ran no script: `sh` ended with {end}. Its output was {printed:?}. Check that \
         `ssh HOST sh -c true` works: the user needs a login shell, and the server must not force another command"
    )]
    NoShell {
        /// What was being done.
        what: &'static str,
        /// How the command ended.
        end: SessionEnd,
        /// The end of its output.
        printed: String,
    },
    /// A step took too long.
    #[error(
        "{what} took longer than {:.0} s (after {after}); check that the machine is not overloaded and that all its \
         file systems answer", limit.as_secs_f32()
    )]
    TimedOut {
        /// What was being done.
        what: &'static str,
        /// The last thing that was known.
        after: String,
        /// The limit.
        limit: Duration,
    },
    /// The machine gave an answer that makes no sense.
    #[error("{what}: the answer of the machine cannot be used: {reason}")]
    Answer {
        /// What was being done.
        what: &'static str,
        /// The part that is wrong.
        reason: String,
    },
    /// No directory on the machine can take the programs.
    #[error("{0}")]
    NoPlace(Box<NoPlace>),
    /// There are no programs that fit the machine.
    #[error("{0}")]
    NoPrograms(Box<NoPrograms>),
    /// A program on this machine that cannot be read.
    #[error("the program {} cannot be used: {reason}", path.display())]
    LocalProgram {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A file could not be written on the machine.
    #[error("{what} cannot be written there: {reason}; {advice}")]
    Write {
        /// The file or directory.
        what: String,
        /// What the machine answered.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// A file that did not arrive as it was sent.
    #[error("{file} arrived damaged: {reason}; nothing of it was kept, and it can be sent again")]
    Damaged {
        /// The file.
        file: String,
        /// What was expected and what arrived.
        reason: String,
    },
    /// A program that the machine cannot run, although it should fit. Nothing of it was kept.
    #[error("{program} does not run on the machine: {reason}; {advice}")]
    DoesNotRun {
        /// The file on this machine.
        program: PathBuf,
        /// The exit status, and what it printed.
        reason: String,
        /// What to do.
        advice: String,
    },
    /// The hive did not start, or it does not respond.
    #[error("the hive does not start on the machine: {reason}")]
    DoesNotStart {
        /// Its exit status, and what it printed.
        reason: String,
    },
    /// The programs that were on the machine are not there any more.
    #[error(
        "the programs in {directory} are not there any more; they are copied again when the machine is added again"
    )]
    Gone {
        /// The directory on the machine.
        directory: String,
    },
    /// A program of another version. Nothing of it was kept.
    #[error(
        "{} is another version: it prints {printed:?}, and version {expected} is needed; put the programs of version \
         {expected} there", program.display()
    )]
    OtherVersion {
        /// The file on this machine.
        program: PathBuf,
        /// The output of `--version`.
        printed: String,
        /// The version that is needed.
        expected: String,
    },
    /// Something could not be removed.
    #[error("{path} cannot be removed: {reason}")]
    Remove {
        /// The path on the machine.
        path: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// A deployed program runs, so it is not removed.
    #[error(
        "{path} is not removed, because process {process} runs a program in it; stop the hive first"
    )]
    InUse {
        /// The path on the machine.
        path: String,
        /// The process.
        process: u32,
    },
}

impl DeployError {
    /// Returns true if the same call can succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Session { .. } | Self::TimedOut { .. } | Self::Damaged { .. })
    }
}

/// The directories that were considered, and why none can take the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoPlace {
    /// The bytes that are needed; 0 if no directory can be used at all.
    pub needed: u64,
    /// Each directory with the reason, in the order in which they were considered.
    pub places: Vec<(String, String)>,
}

impl fmt::Display for NoPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needed, places } = self;
        formatter.write_str("no directory on the machine can take the programs")?;
        if *needed > 0 {
            write!(formatter, " ({} are needed)", Size(*needed))?;
        }
        for (index, (path, reason)) in places.iter().enumerate() {
            write!(formatter, "{} {path}: {reason}", if index == 0 { ":" } else { ";" })?;
        }
        formatter.write_str(
            ". Make room in one of them, or name another directory, which must belong to the user and allow programs \
             to run",
        )
    }
}

/// The places that were searched for programs, and why none has programs that fit the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoPrograms {
    /// The machine in a few words.
    pub machine: String,
    /// The names of the files that are needed.
    pub names: Vec<String>,
    /// Each file or directory with the reason, in the order in which they were searched.
    pub searched: Vec<(PathBuf, String)>,
    /// The directory to put programs for this machine in.
    pub put_in: PathBuf,
}

impl fmt::Display for NoPrograms {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, names, searched, put_in } = self;
        let names = names.join(" and ");
        write!(formatter, "no {names} on this machine fits {machine}")?;
        for (index, (path, reason)) in searched.iter().enumerate() {
            let separator = if index == 0 { ". Searched:" } else { ";" };
            write!(formatter, "{separator} {}: {reason}", path.display())?;
        }
        write!(formatter, ". Put {names} for it into {}", put_in.display())
    }
}
