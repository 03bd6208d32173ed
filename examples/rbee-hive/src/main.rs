//! The agent of one machine, as a daemon.

mod args;

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use rbee_core::{HiveBackend, Result};
use rbee_transport_http::{
    Announced, HiveFiles, Token,
    server::{HiveServer, Lease, Server, exit_status, raise_file_limit, run_hive, stop_signal},
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
    let given = args.token()?;
    let server = Server::bind(args.address()).await?;
    let hive = Arc::new(args.hive()?);
    hive.start().await?;
    let (token, _announced) = token(given, &hive.hive_files(), server.address())?;
    tracing::info!(hive = %hive.id(), address = %server.address(), "ready");
    let mut host = HiveServer::with_reach(hive.clone(), hive);
    if let Some(lease) = args.lease {
        host = host.with_lease(Lease::new(lease));
    }
    run_hive(server, host, token, stop, GRACE).await
}

/// The token that the hive takes: the one it was given, or the one in its state directory, where queens of the same user
/// find it.
fn token(
    given: Option<Token>,
    files: &HiveFiles,
    address: SocketAddr,
) -> Result<(Token, Option<Announced>)> {
    if let Some(token) = given {
        files.withdraw();
        return Ok((token, None));
    }
    let token = files.token()?;
    let token_file = files.token_path();
    tracing::info!(token_file = %token_file.display(), "the token that queens need is in this file");
    // Without it the hive works too: queens have to be told the token.
    let announced = files.announce(address).inspect_err(|error| {
        tracing::warn!(%error, "queens on this machine do not find the token by themselves");
    });
    Ok((token, announced.ok()))
}
