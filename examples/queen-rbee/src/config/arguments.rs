//! The command line.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, parser::ValueSource};
use serde_json::Value;

use super::Config;
use crate::repair::Repair;

/// What the program does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Serve.
    Serve,
    /// Check the configuration, and end.
    CheckConfig,
    /// Show the configuration in effect, and end.
    PrintConfig,
    /// Repair the database of the queue, and end.
    Repair(Repair),
}

/// What `--help` says after the flags.
const AFTER_HELP: &str = "\
A DURATION has a unit: 250ms, 90s, 5m, 1h30m or 7d. A SIZE is a number of bytes, or has a unit: 64MiB, 1GiB or 500MB.

Exit codes:
    0  it was stopped, or did what was asked
    1  something failed
    2  a flag, a variable, the configuration file or a file that it names is wrong
   75  another program has the port

Examples:
    queen-rbee
    queen-rbee --config queen.yaml --check-config
    queen-rbee --listen-host 0.0.0.0 --token-file queen.token --tls-cert cert.pem --tls-key key.pem";

/// The orchestrator as a daemon: an OpenAI-compatible API over every machine.
///
/// Every key can be set with a flag, a variable (--listen-port is RBEE_LISTEN_PORT) or a YAML file (listen_port:
/// 7833); a flag overrides a variable, a variable overrides the file. Lists and maps are YAML in all three.
///
/// SIGTERM and Ctrl-C shut the queen down gracefully: it accepts no more jobs, gives existing ones drain_grace to
/// end, and stops its workers; a second signal does not wait for jobs. SIGUSR1 shuts it down without stopping
/// workers, for the next queen on the same data directory.
#[derive(Debug, Parser)]
#[command(name = "queen-rbee", version, after_help = AFTER_HELP)]
pub struct Arguments {
    /// The configuration file [default: rbee/queen.yaml in the user's configuration directory]
    #[arg(long = "config", value_name = "FILE")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    once: Once,
    /// The keys of [`Config`] that are given as flags, and their values.
    #[arg(skip)]
    pub flags: Vec<(String, String)>,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct Once {
    /// Replace the database of the queue with a backup, and end. The old database is kept
    #[arg(long, value_name = "FILE|latest", num_args = 0..=1, default_missing_value = "latest")]
    restore: Option<PathBuf>,
    /// Continue with the database of the queue although a part of it was lost, and end
    #[arg(long)]
    accept_loss: bool,
    /// Start with an empty database of the queue, and end. The old database is kept
    #[arg(long)]
    new_database: bool,
    /// Check the configuration, and end
    #[arg(long)]
    check_config: bool,
    /// Show the configuration in effect and where each value came from, and end
    #[arg(long)]
    print_config: bool,
}

impl Arguments {
    /// Parses the arguments of the process, with the name of the program first.
    ///
    /// # Errors
    /// The text to print, also for `--help` and `--version`.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let matches = command().try_get_matches_from(arguments)?;
        let mut parsed = Self::from_arg_matches(&matches)?;
        for key in keys().get_arguments().map(|key| key.get_id().as_str()) {
            if matches.value_source(key) == Some(ValueSource::CommandLine) {
                let value = matches.get_one::<String>(key).cloned();
                parsed.flags.push((key.to_owned(), value.unwrap_or_default()));
            }
        }
        Ok(parsed)
    }

    /// What the program does.
    pub fn action(&self) -> Action {
        match &self.once {
            Once { restore: Some(file), .. } if file.as_os_str() == "latest" => {
                Action::Repair(Repair::RestoreLatest)
            }
            Once { restore: Some(file), .. } => Action::Repair(Repair::Restore(file.clone())),
            Once { accept_loss: true, .. } => Action::Repair(Repair::AcceptLoss),
            Once { new_database: true, .. } => Action::Repair(Repair::StartAnew),
            Once { check_config: true, .. } => Action::CheckConfig,
            Once { print_config: true, .. } => Action::PrintConfig,
            _ => Action::Serve,
        }
    }
}

/// Every key that can be set with a flag; none is required.
pub(super) fn keys() -> Command {
    Config::augment_args_for_update(Command::new("queen-rbee").no_binary_name(true))
        .mut_args(|key| key.allow_hyphen_values(true))
}

/// The whole command line. The values of keys stay text, so that an error about one is the same from each source.
fn command() -> Command {
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    let keys: Vec<_> = keys().get_arguments().cloned().collect();
    let flags = keys.into_iter().enumerate().map(|(index, key)| {
        let help = key.get_help().map(ToString::to_string).unwrap_or_default();
        let shown = match &defaults[key.get_id().as_str()] {
            Value::Null => String::new(),
            value => super::sources::shown(value),
        };
        let default = match shown.as_str() {
            "" | "[]" | "{}" | "\"\"" => String::new(),
            shown => format!(" [default: {shown}]"),
        };
        key.value_parser(clap::value_parser!(String))
            .hide_possible_values(true)
            // After the flags of the program itself.
            .display_order(100 + index)
            .help(format!("{help}{default}"))
    });
    Arguments::command().args(flags)
}
