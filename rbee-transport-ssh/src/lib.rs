//! The SSH transport of rbee.
//!
//! [`deploy`] puts the programs of a hive on a machine, through anything that can run commands there ([`Exec`]).

mod deploy;

pub use deploy::{
    Architecture, DeployError, DeployEvent, DeployOptions, DeployProgress, DeployStep, Deployment,
    Elf, Exec, Finding, Gpu, Installed, InstalledFile, InstalledVersion, Libc, LibcVersion,
    MachineFacts, NoPlace, NoPrograms, Place, PlaceKind, ProgramFile, ProgramSet, Programs,
    RemoveOptions, Removed, Session, SessionEnd, Verdict, deploy, findings, install, probe, remove,
    remove_old_versions,
};
