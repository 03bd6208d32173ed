//! One loaded model, as a process of its own.
//!
//! A hive starts it, and tells it what to be on its standard input. A program that brings its own worker along calls
//! [`main_from_stdin`] when it is started as one.

use std::process::ExitCode;

use rbee_core::{CandleFactory, Result};
use rbee_transport_http::{
    server::{exit_status, run_worker, stop_signal},
    wire::worker::Start,
};

/// Is the worker that the order on the standard input describes, until it is told to end. Starts a runtime of its own.
pub fn main_from_stdin() -> ExitCode {
    let done = Start::read(std::io::stdin().lock()).and_then(run);
    done.map_or_else(
        |error| {
            eprintln!("llm-worker-rbee: {error:?}");
            exit_status(&error).into()
        },
        |()| ExitCode::SUCCESS,
    )
}

#[tokio::main]
async fn run(start: Start) -> Result<()> {
    let stop = stop_signal()?;
    let factory = CandleFactory { threads: start.threads, context: start.context };
    run_worker(start, factory, stop).await
}
