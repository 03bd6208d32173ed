//! Putting a hive's programs on a machine: look at it, choose the programs that fit it, and copy what differs.
//!
//! Everything is done by scripts that run in `sh` of the other machine, one session after the other. Nothing is
//! downloaded there, and neither root nor any package is needed.

mod answers;
mod architecture;
mod elf;
mod error;
mod exec;
mod facts;
mod findings;
mod place;
mod probe;
mod programs;
mod progress;
mod remove;
mod script;
mod size;
mod source;
mod start;
mod stop;
#[cfg(test)]
mod tests;
mod upload;

use std::{io, sync::Arc};

pub use architecture::Architecture;
pub use elf::Elf;
pub use error::{DeployError, NoPlace, NoPrograms};
pub use exec::{Exec, Session, SessionEnd};
pub use facts::{Gpu, Libc, LibcVersion, MachineFacts};
pub use findings::{Finding, Verdict, findings};
pub use place::{InstalledFile, InstalledVersion, Place, PlaceKind};
pub use probe::probe;
pub use programs::{ProgramFile, ProgramSet, Programs};
pub use progress::{DeployEvent, DeployProgress, DeployStep};
pub use remove::{RemoveOptions, Removed, remove, remove_old_versions};
pub(crate) use start::{HiveStart, start, start_only};
pub(crate) use stop::stop;
pub use upload::{InstallOptions, Installed, install};

use progress::RunningStep;

/// What to put on a machine, and where.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeployOptions {
    /// Where the programs are on this machine. Share it between machines: it remembers the hashes of files.
    pub programs: Arc<Programs>,
    /// The directory on the machine, absolute or beginning with `~/`; see [`PlaceKind`] for the default.
    pub directory: Option<String>,
    /// How they are copied.
    pub install: InstallOptions,
}

impl DeployOptions {
    /// These programs, in the default directory. For `uploader` see [`InstallOptions::uploader`].
    pub fn new(programs: Arc<Programs>, uploader: impl Into<String>) -> Self {
        Self { programs, directory: None, install: InstallOptions::new(uploader) }
    }
}

/// What is on a machine after [`deploy`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Deployment {
    /// What the machine is, and what it had before.
    pub facts: MachineFacts,
    /// The programs on this machine.
    pub programs: ProgramSet,
    /// The programs on the other machine.
    pub installed: Installed,
}

/// Looks at a machine, chooses the programs that fit it, and copies those that are not there.
///
/// It takes one session if everything is there.
///
/// ```
/// use std::sync::Arc;
/// use rbee_transport_ssh::deploy::{DeployError, DeployEvent, DeployOptions, Exec, Programs, deploy};
///
/// # async fn example(connection: &dyn Exec) -> Result<(), DeployError> {
/// let programs = Arc::new(Programs::new(env!("CARGO_PKG_VERSION")));
/// let options = DeployOptions::new(programs, "queen-1/gpu-box");
/// let show = |event: &DeployEvent| println!("{event:?}");
/// let deployment = deploy(connection, &options, &show).await?;
/// println!("{} is ready on {}", deployment.installed.program("rbee-hive"), deployment.facts);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of [`probe`], [`Programs::choose`] and [`install`].
pub async fn deploy(
    exec: &dyn Exec,
    options: &DeployOptions,
    progress: &dyn DeployProgress,
) -> Result<Deployment, DeployError> {
    let facts = probe(exec, options.directory.as_deref(), progress).await?;
    let programs = choose(&options.programs, &facts, progress).await?;
    let installed = install(exec, &facts, &programs, &options.install, progress).await?;
    Ok(Deployment { facts, programs, installed })
}

pub(crate) async fn choose(
    programs: &Arc<Programs>,
    facts: &MachineFacts,
    progress: &dyn DeployProgress,
) -> Result<ProgramSet, DeployError> {
    let step = RunningStep::start(progress, DeployStep::Programs);
    let (programs, facts) = (programs.clone(), facts.clone());
    let chosen = tokio::task::spawn_blocking(move || programs.choose(&facts)).await;
    let chosen = chosen.map_err(|cause| DeployError::Session {
        what: "choosing the programs",
        cause: io::Error::other(cause),
    })??;
    step.finish(format!("version {} in {}", chosen.version, chosen.directory.display()));
    Ok(chosen)
}
