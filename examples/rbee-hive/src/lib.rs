//! The agent of one machine, as a daemon. The program `rbee-hive` is [`main`] and nothing else; another program can
//! contain it.

mod args;
mod background;
mod reload;
mod token;

use std::{process::ExitCode, sync::Arc, time::Duration};

use rbee_core::{Result, hive::ModelHost};
use rbee_transport_http::{
    Program, SharedToken,
    server::{
        EXIT_MISUSED, HiveServer, Lease, LogRing, Server, TlsFiles, exit_status, raise_file_limit,
        report, run_hive, stop_signal,
    },
};
use tracing::field::display;

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
            return Ok((args, logs, Access::default()));
        }
        args.log()?.start_with(logs.clone())?;
        let access = Access { token: args.token()?.map(SharedToken::from), tls: args.tls()? };
        Ok((args, logs, access))
    });
    let (ended, code) = match prepared {
        Ok((args, logs, access)) => {
            let ended = match (args.detach, args.relay) {
                (true, _) => background::detach(&args),
                (_, true) => background::relay(&args),
                _ => run(&args, logs, access),
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

/// What decides who reaches the hive.
#[derive(Default)]
struct Access {
    /// The token that was given.
    token: Option<SharedToken>,
    tls: Option<TlsFiles>,
}

#[tokio::main]
async fn run(args: &Args, logs: LogRing, access: Access) -> Result<()> {
    let Access { token: given, tls } = access;
    raise_file_limit();
    let stop = stop_signal()?;
    let hive = Arc::new(args.hive(tls.as_ref())?);
    let token_file = given.as_ref().and_then(|token| args.token_file(token));
    reload::on_hangup(token_file, tls.clone(), hive.clone())?;
    let server = match &args.socket {
        Some(socket) => Server::bind_tunnel(socket, hive.sockets())?,
        None => Server::bind_host(args.host, args.port).await?,
    };
    let server = match &tls {
        Some(files) => server.with_tls_files(files.clone()),
        None => server,
    };
    hive.start().await?;
    let (token, _announced) = token::choose(given, &hive.hive_files(), server.address())?;
    match &args.socket {
        Some(socket) => {
            tracing::info!(hive = %hive.info().id, socket = %socket.display(), "ready");
        }
        None => {
            // Shown only if there is TLS.
            let certificates = tls.as_ref().map(|files| display(files.certificates().display()));
            tracing::info!(hive = %hive.info().id, address = %server.address(), certificates, "ready");
        }
    }
    let mut host = HiveServer::with_reach(hive.clone(), hive).with_logs(logs);
    if let Some(lease) = args.lease {
        host = host.with_lease(Lease::new(*lease));
    }
    run_hive(server, host, token, stop, GRACE).await
}
