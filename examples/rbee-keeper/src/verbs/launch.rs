//! `rbee launch`: starts a coding client with a model of the queen, or writes the model into the client's configuration.

mod choice;
mod clients;
mod config_file;
mod diff;
mod json_edit;
mod program;
mod proxy;
mod saved;
mod setup;
mod shell_lines;
mod yaml_edit;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::Args;
use etcetera::BaseStrategy as _;

use super::foreground::in_the_foreground;
use crate::{
    Keeper,
    failure::{Exit, Failure},
    model_name::ModelArg,
};

use choice::Candidate;
use clients::ClientKind;
use setup::{Setup, Target};

#[derive(Debug, Args)]
#[command(after_help = "\
No configuration of the client is changed without --save: it gets the address, the key and the model by variables and arguments.
Arguments after -- are the client's own: rbee launch codex -- exec \"Explain this repository.\"")]
pub(crate) struct Launch {
    /// The client
    client: ClientKind,

    /// The model; by default one that suffices for the client, preferably loaded
    #[arg(long, short, value_name = "MODEL")]
    model: Option<ModelArg>,

    /// Write the model into the client's own configuration, and start nothing
    #[arg(long, conflicts_with_all = ["undo", "print", "arguments"])]
    save: bool,

    /// Restore the client's configuration as it was before --save
    #[arg(long, conflicts_with_all = ["print", "model", "arguments"])]
    undo: bool,

    /// Print the variables and the command for a POSIX shell, and do not start the client
    #[arg(long)]
    print: bool,

    /// Change the configuration without asking
    #[arg(long, short)]
    yes: bool,

    /// Arguments for the client
    #[arg(last = true, value_name = "ARGS")]
    arguments: Vec<OsString>,
}

impl Launch {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        if self.undo {
            return saved::undo(keeper, self.client, self.yes);
        }
        // The client is missing whatever the queen answers.
        let program = match self.save || self.print {
            true => None,
            false => Some(program::find(self.client)?),
        };
        let chosen = choice::choose(keeper, self.client, self.model.as_ref());
        let chosen = super::interruptible(chosen).await?;
        let target = target(keeper, &chosen)?;
        if self.save {
            return saved::save(keeper, self.client, &target, self.yes);
        }
        let mut setup = self.client.setup(&target);
        setup.variables.extend(proxy::exemption(keeper.client.address(), variable));
        if let Some(file) = &setup.file {
            file.write()?;
        }
        match program {
            Some(program) => self.start(keeper, &program, &setup, &chosen),
            None => shell_lines::print(keeper, self.client, &setup, &self.arguments),
        }
    }

    /// Replaces this process by the client. Returns only if it cannot be started.
    fn start(
        &self,
        keeper: &Keeper,
        program: &Path,
        setup: &Setup,
        chosen: &Candidate,
    ) -> Result<Exit, Failure> {
        keeper.screen.note(&format!("starting {} with {}", self.client, chosen.described()));
        let mut command = std::process::Command::new(program);
        for name in &setup.removed {
            command.env_remove(name);
        }
        for (name, setting) in &setup.variables {
            command.env(name, setting.value(keeper.client.key()));
        }
        command.args(&setup.arguments).args(&self.arguments);
        Err(in_the_foreground(&mut command)?)
    }
}

/// What a client must know of the queen and the model.
fn target(keeper: &Keeper, chosen: &Candidate) -> Result<Target, Failure> {
    let ca_cert = keeper.files.ca_cert.as_deref().map(absolute).transpose()?;
    Ok(Target {
        url: keeper.client.address().clone().reachable().to_string(),
        key: keeper.client.key().map(str::to_owned),
        model: chosen.name.clone(),
        context: chosen.context,
        ca_cert,
        directory: directory()?,
    })
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|cause| Failure::usage(format!("{} cannot be used: {cause}", path.display())))
}

/// The directory with everything that this command keeps: below the data directory of rbee.
fn directory() -> Result<PathBuf, Failure> {
    let data = match variable("RBEE_DATA_DIR") {
        Some(told) => absolute(Path::new(&told))?,
        None => {
            let base = etcetera::choose_base_strategy().map_err(|cause| {
                let message = format!("there is no data directory for backups: {cause}");
                Failure::new(Exit::Failed, "CONFIG", message)
            })?;
            base.data_dir().join("rbee")
        }
    };
    Ok(data.join("launch"))
}

/// A variable of the environment that is not empty.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
