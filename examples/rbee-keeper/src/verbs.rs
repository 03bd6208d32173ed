//! The commands: a file for each subject, with its part of the command line.

mod ask;
mod bench;
mod catalog;
mod chat;
mod doctor;
mod estimate;
mod events;
mod foreground;
mod hives;
mod jobs;
mod launch;
mod load;
mod logs;
mod policy;
mod pull;
mod replay;
mod run;
mod serve;
mod shell;
mod shutdown;
mod status;
mod tenants;
mod unload;
mod why;
mod workers;

use clap::Subcommand;

use crate::{
    Keeper,
    failure::{Exit, Failure},
};

pub(crate) use serve::offer_to_start;

/// The command.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Start a queen on this machine
    Serve(serve::Serve),
    /// Shut the queen down, and wait until it has ended
    Shutdown(shutdown::Shutdown),
    /// Ask a model once, or chat with it if no prompt is given
    Run(run::Run),
    /// Chat with a model
    Chat(chat::Chat),
    /// Start a coding client with a model of the queen
    Launch(launch::Launch),
    /// Download a model to the disks of the hives
    Pull(pull::Pull),
    /// List the models
    #[command(visible_alias = "list")]
    Ls(catalog::Ls),
    /// List the loaded models
    Ps(workers::Ps),
    /// Show a model
    Show(catalog::Show),
    /// Load a model
    Load(load::Load),
    /// Unload a model, or one worker, and wait until its memory is free
    #[command(visible_alias = "stop")]
    Unload(unload::Unload),
    /// Keep the workers of a model, or one worker, from being evicted
    Pin(load::Pin),
    /// Remove a model from the disks of the hives
    Rm(catalog::Rm),
    /// List, show, submit, follow and cancel jobs
    #[command(subcommand, visible_alias = "job")]
    Jobs(jobs::Jobs),
    /// List, add, start, stop, drain and remove machines
    #[command(subcommand, visible_alias = "hives")]
    Hive(hives::Hives),
    /// Show and change the tenants of the queen: limits, usage and keys
    Tenants(tenants::Tenants),
    /// Show, test and change the policy that decides where jobs go
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Show the queen's log
    Logs(logs::Logs),
    /// Let the queen check all its parts
    Doctor(doctor::Doctor),
    /// Measure how fast a model answers
    Bench(bench::Bench),
    /// Show the status of the queen
    #[command(visible_alias = "health")]
    Status(status::Status),
    /// Print a completion script for a shell
    Completions(shell::Completions),
    /// Print the version of this program and of the queen
    Version(status::Version),
}

impl Verb {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        match self {
            Self::Serve(verb) => verb.run(keeper).await,
            Self::Shutdown(verb) => verb.run(keeper).await,
            Self::Run(verb) => verb.run(keeper).await,
            Self::Chat(verb) => verb.run(keeper).await,
            Self::Launch(verb) => verb.run(keeper).await,
            Self::Pull(verb) => verb.run(keeper).await,
            Self::Ls(verb) => verb.run(keeper).await,
            Self::Ps(verb) => verb.run(keeper).await,
            Self::Show(verb) => verb.run(keeper).await,
            Self::Load(verb) => verb.run(keeper).await,
            Self::Unload(verb) => verb.run(keeper).await,
            Self::Pin(verb) => verb.run(keeper).await,
            Self::Rm(verb) => verb.run(keeper).await,
            Self::Jobs(verb) => verb.run(keeper).await,
            Self::Hive(verb) => verb.run(keeper).await,
            Self::Tenants(verb) => verb.run(keeper).await,
            Self::Policy(verb) => verb.run(keeper).await,
            Self::Logs(verb) => verb.run(keeper).await,
            Self::Doctor(verb) => verb.run(keeper).await,
            Self::Bench(verb) => verb.run(keeper).await,
            Self::Status(verb) => verb.run(keeper).await,
            Self::Completions(verb) => verb.run(keeper),
            Self::Version(verb) => verb.run(keeper).await,
        }
    }

    /// True if the command needs a queen. If none runs, `rbee` offers to start one.
    pub(crate) fn needs_a_queen(&self) -> bool {
        !matches!(
            self,
            Self::Serve(_) | Self::Shutdown(_) | Self::Completions(_) | Self::Version(_)
        )
    }
}

/// Ends with [`Failure::interrupted`] on Ctrl-C.
async fn interruptible<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        done = work => done,
        // If the handler for Ctrl-C cannot be installed, Ctrl-C ends the program, as it does by default.
        Ok(()) = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
    }
}
