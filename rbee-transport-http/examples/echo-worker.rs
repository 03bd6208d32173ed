//! A worker without a model in a process of its own: the tests of a hive start it instead of one with a model.
//!
//! The name of its model controls what it does, by words between dashes: `silent` does not listen, `exits` ends at
//! once, `taken` finds its port taken, `imposter` responds with another id, `slow` loads until it is killed, `fails`
//! cannot load, `ticks` emits a token every 20 ms. It serves the `slots` of its order.

use std::{process::ExitCode, sync::Arc, time::Duration};

use rbee_core::{
    Error, ErrorKind, HiveId, Result, Worker, WorkerId, WorkerSpec, async_trait,
    hive::{Progress, WorkerFactory},
    worker::EchoWorker,
};
use rbee_transport_http::{
    server::{exit_status, on_hangup, run_worker, stop_signal},
    wire::worker::{EXIT_PORT_TAKEN, Start},
};

#[derive(Debug)]
struct Echo;

fn asks_for(spec: &WorkerSpec, what: &str) -> bool {
    spec.model.as_str().rsplit('/').next().is_some_and(|name| name.split('-').any(|w| w == what))
}

#[async_trait]
impl WorkerFactory for Echo {
    async fn load(
        &self,
        id: WorkerId,
        hive: &HiveId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> Result<Arc<dyn Worker>> {
        progress.update(1, Some(2));
        if asks_for(spec, "slow") {
            std::future::pending::<()>().await;
        }
        if asks_for(spec, "fails") || spec.model.as_str().starts_with("file:/no/such") {
            let message = format!("{} has no weights", spec.model);
            return Err(Error::new(ErrorKind::ModelIncompatible, message));
        }
        let echo = EchoWorker::builder(spec.model.clone()).id(id).hive(hive.clone());
        let delay = if asks_for(spec, "ticks") { 20 } else { 0 };
        let echo = echo.slots(spec.slots).token_delay(Duration::from_millis(delay));
        Ok(echo.heartbeats(Duration::from_secs(1)).build())
    }
}

fn main() -> ExitCode {
    // It can stand in for a deployed worker, whose version is asked for.
    if std::env::args().nth(1).is_some_and(|argument| argument == "--version") {
        println!("echo-worker {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let done = Start::read(std::io::stdin().lock()).and_then(run);
    done.map_or_else(|error| exit_status(&error).into(), |()| ExitCode::SUCCESS)
}

#[tokio::main]
async fn run(mut start: Start) -> Result<()> {
    eprintln!("echo-worker: devices {:?}", start.devices);
    if asks_for(&start.spec, "exits") {
        eprintln!("echo-worker: out of honey");
        std::process::exit(3);
    }
    if asks_for(&start.spec, "taken") {
        std::process::exit(EXIT_PORT_TAKEN.into());
    }
    if asks_for(&start.spec, "imposter") {
        start.id = WorkerId::random();
    }
    if asks_for(&start.spec, "silent") {
        std::future::pending::<()>().await;
    }
    on_hangup(|| {})?;
    run_worker(start, Echo, stop_signal()?).await
}
