//! The agent of one machine, as a daemon.

mod args;

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use rbee_core::{HiveBackend, Result};
use rbee_transport_http::server::{
    HiveServer, Lease, Server, exit_status, raise_file_limit, run_hive, stop_signal,
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
    let hive = Arc::new(args.hive()?);
    hive.start().await?;
    tracing::info!(hive = %hive.id(), address = %server.address(), "ready");
    let mut host = HiveServer::with_reach(hive.clone(), hive);
    if let Some(lease) = args.lease {
        host = host.with_lease(Lease::new(lease));
    }
    run_hive(server, host, token, stop, GRACE).await
}
