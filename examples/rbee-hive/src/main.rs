//! The agent of one machine, as a daemon.

mod args;

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use rbee_core::{HiveBackend, Result};
use rbee_transport_http::{
    SharedToken,
    server::{
        HiveServer, Lease, Server, exit_status, log_reload, on_hangup, raise_file_limit, run_hive,
        stop_signal,
    },
};

use args::Args;

/// How long a worker has to end when the hive does.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rbee-hive: {error}");
            exit_status(&error).into()
        }
    }
}

#[tokio::main]
async fn run(args: &Args) -> Result<()> {
    args.log()?.start()?;
    raise_file_limit();
    let stop = stop_signal()?;
    let token = args.token()?;
    let server = Server::bind(args.address(token.as_ref())?).await?;
    let token = token.map(SharedToken::from);
    let token_file = token.as_ref().and_then(|token| args.token_file(token));
    on_hangup(move || match &token_file {
        Some(file) => log_reload("token", file.path(), &file.reload()),
        None => tracing::info!("SIGHUP: there is no token file to read again"),
    })?;
    let hive = Arc::new(args.hive()?);
    hive.start().await?;
    tracing::info!(hive = %hive.id(), address = %server.address(), "ready");
    let mut host = HiveServer::with_reach(hive.clone(), hive);
    if let Some(lease) = args.lease {
        host = host.with_lease(Lease::new(lease));
    }
    run_hive(server, host, token, stop, GRACE).await
}
