//! The agent of one machine, as a daemon. The program `rbee-hive` is [`main`] and nothing else; another program can
//! contain it.

mod args;
mod background;
mod token;

use std::{process::ExitCode, sync::Arc, time::Duration};

use rbee_core::{Result, hive::ModelHost};
use rbee_transport_http::{
    Program, SharedToken,
    server::{
        EXIT_MISUSED, HiveServer, Lease, LogRing, Server, exit_status, raise_file_limit, report,
        run_hive, stop_signal,
    },
};

use args::Args;

/// How many log lines are kept for queens.
const LOG_LINES: usize = 2_000;
const LOG_BYTES: usize = 2 << 20;
/// The time that a worker has to end when the hive ends.
const GRACE: Duration = Duration::from_secs(5);

/// The name of the program.
const PROGRAM: &str = "rbee-hive";

/// The whole program: reads the command line, serves until its end, and returns the exit code.
pub fn main() -> ExitCode {
    let prepared = Args::parse_from_process(Program::own_arguments(PROGRAM)).and_then(|args| {
        args.check()?;
        let logs = LogRing::new(LOG_LINES, LOG_BYTES);
        if args.detach || args.relay {
            args.log()?.start()?;
            return Ok((args, logs, None));
        }
        args.log()?.start_with(logs.clone())?;
        let token = args.token()?.map(SharedToken::from);
        Ok((args, logs, token))
    });
    let (ended, code) = match prepared {
        Ok((args, logs, token)) => {
            let ended = match (args.detach, args.relay) {
                (true, _) => background::detach(&args),
                (_, true) => background::relay(&args),
                _ => run(&args, logs, token),
            };
            let code = ended.as_ref().err().map_or(0, exit_status);
            (ended, code)
        }
        Err(error) => (Err(error), EXIT_MISUSED),
    };
    if let Err(error) = ended {
        report(PROGRAM, &error);
    }
    code.into()
}

#[tokio::main]
async fn run(args: &Args, logs: LogRing, given: Option<SharedToken>) -> Result<()> {
    raise_file_limit();
    let stop = stop_signal()?;
    token::reload_on_hangup(given.as_ref().and_then(|token| args.token_file(token)))?;
    let hive = Arc::new(args.hive()?);
    let server = match &args.socket {
        Some(socket) => Server::bind_tunnel(socket, hive.sockets())?,
        None => Server::bind_host(args.host, args.port).await?,
    };
    hive.start().await?;
    let (token, _announced) = token::choose(given, &hive.hive_files(), server.address())?;
    match &args.socket {
        Some(socket) => {
            tracing::info!(hive = %hive.info().id, socket = %socket.display(), "ready");
        }
        None => tracing::info!(hive = %hive.info().id, address = %server.address(), "ready"),
    }
    let mut host = HiveServer::with_reach(hive.clone(), hive).with_logs(logs);
    if let Some(lease) = args.lease {
        host = host.with_lease(Lease::new(*lease));
    }
    run_hive(server, host, token, stop, GRACE).await
}
