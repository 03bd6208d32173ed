//! The program `queen-rbee`.

use std::ffi::OsString;

use rbee_core::{Error, ErrorKind, Result};
use rbee_transport_http::server::{EXIT_MISUSED, LogRing, exit_status, report};

use crate::{Action, Arguments, Config, Loaded, Signals, Sources, check, start};

/// Its name.
const PROGRAM: &str = "queen-rbee";
/// How many log lines are kept for the API.
const LOG_LINES: usize = 10_000;
const LOG_BYTES: usize = 8 << 20;

/// The whole program `queen-rbee`: reads the command line, which begins with the name of the program, and the
/// configuration, serves until its end, and returns the exit code. It serves on the thread that calls it. `--help` and
/// a wrong command line end the process.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments = Arguments::parse(arguments);
    let arguments = arguments.unwrap_or_else(|said| said.exit());
    let action = arguments.action();
    let loaded = match Config::load(&Sources::of_process(arguments.file, arguments.flags)) {
        Ok(loaded) => loaded,
        Err(error) => return failed(&error, EXIT_MISUSED),
    };
    let warn = |warnings: &[String]| {
        for warning in warnings {
            eprintln!("{PROGRAM}: warning: {warning}");
        }
    };
    if action != Action::Serve {
        warn(&loaded.warnings);
    }
    match action {
        Action::CheckConfig => match check(&loaded.config) {
            Ok(warnings) => {
                warn(&warnings);
                println!("the configuration is valid");
            }
            Err(error) => return failed(&error, EXIT_MISUSED),
        },
        Action::PrintConfig => match loaded.show() {
            Ok(shown) => print!("{shown}"),
            Err(error) => return failed(&error, EXIT_MISUSED),
        },
        Action::Repair(repair) => match crate::repair::repair(&loaded.config, &repair) {
            Ok(done) => println!("{done}"),
            Err(error) => return failed(&error, 1),
        },
        Action::Serve => {
            // The start checks it again. Here it is known that another start would fail too, which a supervisor sees by
            // the exit code.
            if let Err(error) = check(&loaded.config) {
                warn(&loaded.warnings);
                return failed(&error, EXIT_MISUSED);
            }
            if let Err(error) = serve(loaded) {
                return failed(&error, exit_status(&error));
            }
        }
    }
    0
}

/// Serves on one thread. A request is a few short steps, and most of its cost would be the switches between threads;
/// what takes longer (files, scripts, listings of the database) has threads of its own.
fn serve(loaded: Loaded) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| {
        Error::new(ErrorKind::Internal, format!("the runtime cannot start: {cause}"))
    })?;
    runtime.block_on(serve_until_end(loaded))
}

async fn serve_until_end(loaded: Loaded) -> Result<()> {
    let config = loaded.config;
    let logs = LogRing::new(LOG_LINES, LOG_BYTES);
    config.log_style()?.start_with(logs.clone())?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let signals = Signals::listen()?;
    let running = start(config, Some(logs)).await?;
    let keeps_hives = loop {
        tokio::select! {
            () = signals.end.cancelled() => break false,
            () = signals.hand_over.cancelled() => break true,
            keeps_hives = running.shutdown_ordered() => break keeps_hives,
            () = signals.reload.notified() => running.reload(),
        }
    };
    if keeps_hives {
        tracing::info!("handing over; workers continue for the next queen");
        running.hand_over().await?;
    } else {
        tracing::info!("shutting down; a second signal does not wait for jobs that have not ended");
        running.shutdown_until(&signals.hurry).await?;
    }
    tracing::info!("ended");
    Ok(())
}

fn failed(error: &Error, code: u8) -> u8 {
    report(PROGRAM, error);
    code
}
