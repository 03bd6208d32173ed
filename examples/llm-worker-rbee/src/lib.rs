//! One loaded model, in a separate process.
//!
//! A hive starts it and sends it its order on the standard input. A program that contains its own worker calls
//! [`main_from_stdin`] when it is started as one.

use std::{process::ExitCode, time::Duration};

use rbee_core::{CandleFactory, Result};
use rbee_transport_http::{
    EngineFactory,
    server::{exit_status, on_hangup, raise_file_limit, run_worker, stop_signal},
    wire::worker::Start,
};

/// The time that an engine has to end after its worker: less than a hive gives both together.
const ENGINE_GRACE: Duration = Duration::from_secs(3);

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
    let engine = EngineFactory::new(engine, start.context);
    let done = tokio::select! {
        done = run_worker(start, engine.clone(), stop) => done,
        why = engine.died() => Err(why),
    };
    engine.end(ENGINE_GRACE).await;
    done
}
