//! One loaded model, as a process of its own.
//!
//! A hive starts it, and tells it what to be on its standard input. A program that brings its own worker along calls
//! [`main_from_stdin`] when it is started as one.

use std::{process::ExitCode, time::Duration};

use rbee_core::{CandleFactory, Result};
use rbee_transport_http::{
    EngineFactory,
    server::{exit_status, on_hangup, raise_file_limit, run_worker, stop_signal},
    wire::worker::Start,
};

/// How long an engine has to end when its worker does: less than a hive gives the two of them together.
const ENGINE_GRACE: Duration = Duration::from_secs(3);

/// Is the worker that the order on the standard input describes, until it is told to end. Starts a runtime of its own.
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
    // Its terminal may go away; there is no file that it would read again.
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
