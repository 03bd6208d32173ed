//! The command line of rbee: a thin client of the queen.
//!
//! Each command sends one or a few requests to the queen over HTTP and decides nothing. `docs/keeper.md` and `rbee
//! --help` describe what users and scripts see.

mod address;
mod answer;
mod args;
mod client;
mod failure;
mod model_name;
mod names;
mod screen;
mod verbs;

use std::process::ExitCode;

pub use address::Address;
pub use args::{Cli, command};
pub use client::{Client, Events, Reply};
pub use failure::{Exit, Failure};
pub use screen::{Column, Facts, Screen, Table, human, text};

use args::{CredentialFiles, Typed};
use clap::FromArgMatches;
use rbee_transport_http::Program;

/// What every command works with.
#[derive(Debug)]
struct Keeper {
    client: Client,
    screen: Screen,
    typed: Typed,
    files: CredentialFiles,
}

/// The whole program: reads the command line, runs the command, and returns the exit code.
pub fn main() -> ExitCode {
    let arguments = Program::own_arguments("rbee");
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // `--help` and `--version` come here too. An error of the output is ignored.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code()));
        }
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let typed = Typed::of(&cli, &matches);
    let screen = Screen::new(cli.global.json, cli.global.quiet, cli.global.no_color);
    if typed.api_key.is_some() {
        screen.warn(
            "a key on the command line can be read by everybody on this machine; \
             use RBEE_API_KEY or --token-file instead",
        );
    }
    if let Some(exposed) = cli.global.exposed_token_file() {
        screen.warn(&exposed);
    }
    let ended = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| Failure::new(Exit::Failed, "INTERNAL", cause.to_string()))
        .and_then(|runtime| {
            let ended = runtime.block_on(run(cli, typed, &screen));
            // A thread that still reads standard input must not keep the program running.
            runtime.shutdown_background();
            ended
        });
    let exit = ended.unwrap_or_else(|failure| {
        screen.failure(&failure);
        failure.exit()
    });
    ExitCode::from(exit.code())
}

async fn run(cli: Cli, typed: Typed, screen: &Screen) -> Result<Exit, Failure> {
    let address = cli.global.host.clone().unwrap_or_default();
    let client = Client::new(address, &cli.global.credentials()?)?;
    let files = cli.global.files();
    let keeper = Keeper { client, screen: screen.clone(), typed, files };
    let ended = cli.verb.run(&keeper).await;
    match ended {
        Err(failure) if failure.can_start_a_queen() && cli.verb.needs_a_queen() => {
            match verbs::offer_to_start(&keeper, failure).await? {
                true => cli.verb.run(&keeper).await,
                false => Ok(Exit::Unreachable),
            }
        }
        ended => ended,
    }
}
