//! The command line.

use std::{ffi::OsString, path::PathBuf};

use clap::{Arg, ArgAction, ArgGroup, Command, value_parser};

use super::table::{Forms, KEYS, Key};
use crate::repair::Repair;

/// What is wanted of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Serve.
    Serve,
    /// Say whether the configuration is in order.
    Check,
    /// Show the configuration as it is in effect.
    Print,
    /// Do something about the database of the queue, and end.
    Repair(Repair),
}

/// The command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments {
    /// What is wanted.
    pub wish: Wish,
    /// The configuration file, where one is named.
    pub file: Option<PathBuf>,
    /// The other flags, without their dashes, and their values.
    pub flags: Vec<(String, String)>,
}

const LONG: &str = "\
The orchestrator as a daemon: an OpenAI-compatible API over every machine.

Every key can be given as a flag, as a variable (--listen-port is RBEE_LISTEN_PORT) or in a YAML file (listen_port: 7833);
a flag goes before a variable, a variable before the file. Lists and maps are YAML in all three.

SIGTERM and Ctrl-C end the queen in order: she takes no more jobs, gives those that are there drain_grace to end, and
stops her workers; a second one ends her at once. SIGUSR1 makes her go down without stopping them, for the next queen on
the same data directory to take over.";

impl Arguments {
    /// From the arguments of the process, the name of the program first.
    ///
    /// # Errors
    /// What is to be printed, also for `--help` and `--version`.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut matches = command().try_get_matches_from(arguments)?;
        let wish = match matches.remove_one::<String>("restore") {
            Some(latest) if latest == "latest" => Wish::Repair(Repair::RestoreLatest),
            Some(file) => Wish::Repair(Repair::Restore(file.into())),
            None if matches.get_flag("accept-loss") => Wish::Repair(Repair::AcceptLoss),
            None if matches.get_flag("new-database") => Wish::Repair(Repair::StartAnew),
            None if matches.get_flag("check-config") => Wish::Check,
            None if matches.get_flag("print-config") => Wish::Print,
            None => Wish::Serve,
        };
        let file = matches.remove_one("config");
        let given = KEYS.iter().filter(|key| key.forms == Forms::All);
        let flags = given
            .filter_map(|key| Some((key.flag(), matches.remove_one::<String>(key.name)?)))
            .collect();
        Ok(Self { wish, file, flags })
    }
}

fn command() -> Command {
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
    };
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("The configuration file [default: rbee/queen.yaml in the user's directory for configuration]");
    let defaults = super::Config::default();
    Command::new("queen-rbee")
        .version(env!("CARGO_PKG_VERSION"))
        .about("The orchestrator as a daemon: an OpenAI-compatible API over every machine")
        .long_about(LONG)
        .arg(config)
        .arg(
            Arg::new("restore")
                .long("restore")
                .value_name("FILE|latest")
                .num_args(0..=1)
                .default_missing_value("latest")
                .help("Put a backup in the place of the database of the queue, and end. The database that is there is kept"),
        )
        .arg(switch(
            "accept-loss",
            "Go on with the database of the queue although a part of it was lost, and end",
        ))
        .arg(switch(
            "new-database",
            "Begin with an empty database of the queue, and end. The one that is there is kept",
        ))
        .group(
            ArgGroup::new("once")
                .args(["restore", "accept-loss", "new-database", "check-config", "print-config"]),
        )
        .arg(switch("check-config", "Say whether the configuration is in order, and end"))
        .arg(switch(
            "print-config",
            "Show the configuration in effect and where each value came from, and end",
        ))
        .args(KEYS.iter().filter(|key| key.forms == Forms::All).map(|key| flag(key, &defaults)))
}

fn flag(key: &Key, defaults: &super::Config) -> Arg {
    let default = match (key.show)(defaults) {
        none if ["~", "[]", "{}", "\"\""].contains(&none.as_str()) => String::new(),
        value => format!(" [default: {value}]"),
    };
    let arg = Arg::new(key.name)
        .long(key.flag())
        .value_name(key.form)
        .allow_hyphen_values(true)
        .help(format!("{}{default}", key.help));
    match key.short {
        Some(short) => arg.visible_alias(short),
        None => arg,
    }
}
