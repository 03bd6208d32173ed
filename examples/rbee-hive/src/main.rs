//! The agent of one machine, as a daemon.

mod args;
mod token;

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use rbee_core::{Result, hive::ModelHost};
use rbee_transport_http::{
    SharedToken,
    server::{HiveServer, Lease, Server, exit_status, raise_file_limit, run_hive, stop_signal},
};

use args::Args;

/// The time that a worker has to end when the hive ends.
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
    let given = args.token()?.map(SharedToken::from);
    token::reload_on_hangup(given.as_ref().and_then(|token| args.token_file(token)))?;
    let server = Server::bind_host(args.host, args.port).await?;
    let hive = Arc::new(args.hive()?);
    hive.start().await?;
    let (token, _announced) = token::choose(given, &hive.hive_files(), server.address())?;
    tracing::info!(hive = %hive.info().id, address = %server.address(), "ready");
    let mut host = HiveServer::with_reach(hive.clone(), hive);
    if let Some(lease) = args.lease {
        host = host.with_lease(Lease::new(lease));
    }
    run_hive(server, host, token, stop, GRACE).await
}
