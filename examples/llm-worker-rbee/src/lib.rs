//! One loaded model, in a separate process.
//!
//! A hive starts it and sends it its order on the standard input. A program that contains its own worker calls
//! [`main_from_stdin`] when it is started as one.

use std::{io::IsTerminal, process::ExitCode};

use rbee_core::{CandleFactory, Result};
use rbee_transport_http::{
    Program,
    server::{
        EXIT_MISUSED, exit_status, on_hangup, raise_file_limit, report, run_worker, stop_signal,
    },
    wire::{engine::EngineCommand, worker::Start},
};
use tokio_util::sync::CancellationToken;

/// What `--help` prints.
const HELP: &str = "\
One loaded model, in a process of its own. A hive starts it, gives it its order, and ends it: `rbee load MODEL` is the
usual way to get one. It needs to be started by hand only to try it alone.

Usage: llm-worker-rbee [OPTIONS] < ORDER

The order is one line of JSON on the standard input, because the command line can be read by everybody on this machine,
and the order has the token. Its fields:
    id          the worker's id, a UUID
    hive        the name of its hive
    spec        the model (file:/path or hf:org/repo), the jobs that run at the same time (slots), the devices as its
                hive numbers them, and the bytes of memory that it needs (0 if unknown)
    devices     a list of devices as this process sees them: [0] is the CPU, then GPUs follow
    host, port  where it listens
    tls         {\"certificates\": FILE, \"key\": FILE, \"sockets\": DIR}: it has TLS there, and listens on the Unix socket
                PORT.sock in DIR as well, without TLS, for its hive (optional)
    token       the token that requests must have; `openssl rand -hex 32` makes one
    lease_ms    ends after this many milliseconds without a heartbeat; 0 is never
    engine      the engine to run instead, as in the file of rbee-hive --engines (optional)
    threads     CPU threads (optional; all cores)
    context     longest prompt and answer together, in tokens (optional; the model's own limit)
    cache       {\"tokens\": NUMBER, \"kind\": \"f32\", \"f16\" or \"q8\"}: the tokens whose keys and values there is
                memory for, and their data type (optional; 4096 per slot and at least the context, and f16)
    file_roots  directories out of which no link of a model may lead (optional)
    log         {\"format\": \"text\" or \"json\", \"level\": LEVEL} (optional; text and info)

Example, with the model in /models/bee-tiny, which answers once the model is loaded:
    echo '{\"id\":\"67e55044-10b1-426f-9247-bb680e5fe0c8\",\"hive\":\"desk\",\"spec\":{\"model\":\"file:/models/bee-tiny\",\
\"slots\":1,\"devices\":[0],\"need_bytes\":0},\"devices\":[0],\"host\":\"127.0.0.1\",\"port\":7899,\
\"token\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\",\"lease_ms\":0}' > order
    llm-worker-rbee < order
    curl -H 'Authorization: Bearer 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef' http://127.0.0.1:7899/health

Options:
    --worker ID, --model REFERENCE  shown in the list of processes; the order counts
    -h, --help                      prints this
    -V, --version                   prints the version

It reads no variables of its own. Ctrl-C and SIGTERM end it.

Exit codes:
    0  it was stopped, or its lease ended
    1  the order cannot be read, the model cannot be loaded, or something else failed
    2  the command line is wrong
   75  another program has the port
";

/// What a command line requests.
#[derive(Debug, PartialEq, Eq)]
enum Requested {
    /// Read the order, and serve.
    Serve,
    /// Print this text, and end.
    Print(&'static str),
    /// This argument is not known.
    Unknown(String),
}

/// Reads the arguments after the program's name.
fn requested(mut arguments: impl Iterator<Item = String>) -> Requested {
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-h" | "--help" => return Requested::Print(HELP),
            "-V" | "--version" => {
                return Requested::Print(concat!(
                    "llm-worker-rbee ",
                    env!("CARGO_PKG_VERSION"),
                    "\n"
                ));
            }
            "--worker" | "--model" => drop(arguments.next()),
            _ => return Requested::Unknown(argument),
        }
    }
    Requested::Serve
}

/// Runs the worker that the order on the standard input describes, until it must end. Starts its own runtime. The
/// arguments of the process are those of a worker, perhaps after its name.
pub fn main_from_stdin() -> ExitCode {
    let arguments = Program::own_arguments("llm-worker-rbee").into_iter().skip(1);
    match requested(arguments.map(|text| text.to_string_lossy().into_owned())) {
        Requested::Serve => {}
        Requested::Print(text) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Requested::Unknown(argument) => {
            eprintln!(
                "llm-worker-rbee: unexpected argument {argument}; --help lists what is allowed"
            );
            return EXIT_MISUSED.into();
        }
    }
    if std::io::stdin().is_terminal() {
        eprintln!(
            "llm-worker-rbee: waiting for an order, one line of JSON on the standard input; a hive starts this program, \
             and --help says how to do it by hand"
        );
    }
    let done = Start::read(std::io::stdin().lock()).and_then(|start| {
        start.log.start()?;
        run(start)
    });
    done.map_or_else(
        |error| {
            report("llm-worker-rbee", &error);
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
        let candle = CandleFactory {
            threads: start.threads,
            context: start.context,
            cache_tokens: start.cache.tokens,
            cache_type: start.cache.kind,
            ..CandleFactory::default()
        };
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
