//! `rbee completions`: prints a completion script for a shell.

use clap::Args;
use clap_complete::Shell;

use crate::{
    Keeper, command,
    failure::{Exit, Failure},
};

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let mut made = Vec::new();
        clap_complete::generate(self.shell, &mut command(), "rbee", &mut made);
        keeper.screen.out(&String::from_utf8_lossy(&made))?;
        Ok(Exit::Ok)
    }
}
