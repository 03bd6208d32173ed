//! One loaded model, in a separate process.
//!
//! A hive starts it and sends it its order on the standard input. A program that contains its own worker calls
//! [`main_from_stdin`] when it is started as one.

use std::process::ExitCode;

use rbee_core::{CandleFactory, Result};
use rbee_transport_http::{
    server::{exit_status, on_hangup, raise_file_limit, run_worker, stop_signal},
    wire::{engine::EngineCommand, worker::Start},
};
use tokio_util::sync::CancellationToken;

/// Runs the worker that the order on the standard input describes, until it must end. Starts its own runtime.
pub fn main_from_stdin() -> ExitCode {
    let done = Start::read(std::io::stdin().lock()).and_then(|start| {
        start.log.start()?;
        run(start)
    });
    done.map_or_else(
        |error| {
            eprintln!("llm-worker-rbee: {error:?}");
            exit_status(&error).into()
        },
        |()| ExitCode::SUCCESS,
    )
}

#[tokio::main]
async fn run(mut start: Start) -> Result<()> {
    let stop = stop_signal()?;
    // Its terminal may close, and the worker has no file to read again.
    on_hangup(|| {})?;
    raise_file_limit();
    let Some(engine) = start.engine.take() else {
        let candle = CandleFactory { threads: start.threads, context: start.context };
        return run_worker(start, candle, stop).await;
    };
    run_engine(engine, start, stop).await
}

/// Is a worker whose model another engine runs, as a child of this process.
#[cfg(feature = "engines")]
async fn run_engine(engine: EngineCommand, start: Start, stop: CancellationToken) -> Result<()> {
    /// How long an engine has to end when its worker does: less than a hive gives the two of them together.
    const GRACE: std::time::Duration = std::time::Duration::from_secs(3);

    let engine = rbee_transport_http::EngineFactory::new(engine, start.context);
    let done = tokio::select! {
        done = run_worker(start, engine.clone(), stop) => done,
        why = engine.died() => Err(why),
    };
    engine.end(GRACE).await;
    done
}

#[cfg(not(feature = "engines"))]
async fn run_engine(_: EngineCommand, start: Start, stop: CancellationToken) -> Result<()> {
    run_worker(start, NoEngines, stop).await
}

/// Says to whoever ordered another engine that there is none here.
#[cfg(not(feature = "engines"))]
#[derive(Debug)]
struct NoEngines;

#[cfg(not(feature = "engines"))]
#[rbee_core::async_trait]
impl rbee_core::hive::WorkerFactory for NoEngines {
    async fn load(
        &self,
        _: rbee_core::WorkerId,
        _: &rbee_core::HiveId,
        spec: &rbee_core::WorkerSpec,
        _: rbee_core::hive::Progress,
    ) -> Result<std::sync::Arc<dyn rbee_core::Worker>> {
        let message = format!(
            "{} is to run in another engine, and this worker was built without them; build it with the feature `engines`",
            spec.model
        );
        Err(rbee_core::Error::new(rbee_core::ErrorKind::Unsupported, message))
    }
}
