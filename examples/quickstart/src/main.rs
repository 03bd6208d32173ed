//! The first five minutes with rbee: the queen's daemon with its durable queue, a model in a separate process, an
//! answer that appears as it is generated, and an API that continues to serve.
//!
//! The answer goes to standard output and everything else to standard error, so it can be piped.

mod args;
mod screen;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    process::ExitCode,
    time::Duration,
};

use args::Args;
use clap::Parser;
use queen_rbee::{BUNDLED_MODEL, Config, Running, Signals};
use rbee_core::{Error, ErrorKind, EventKind, JobHandle, Queen, Request, Result, Role};
use rbee_transport_http::{
    server::{LogRing, LogStyle},
    wire::{HIVE_PORT, ListenHost, QUEEN_PORT},
};
use screen::Screen;

/// The number of previous turns that are sent again: the small model has a small context.
const TURNS: usize = 6;
/// The number of ports that are tried if the usual one is taken.
const PORTS: u16 = 20;

fn main() -> ExitCode {
    if let Some(code) = queen_rbee::be_worker_if_told() {
        return code;
    }
    run(&Args::parse())
}

#[tokio::main]
async fn run(args: &Args) -> ExitCode {
    let screen = Screen::new();
    match serve(args, &screen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == ErrorKind::Cancelled => {
            screen.line("cancelled");
            ExitCode::from(130)
        }
        Err(error) => {
            screen.failure(&error);
            ExitCode::FAILURE
        }
    }
}

/// The model's name in requests.
fn model(args: &Args) -> &str {
    args.model.as_ref().map_or(BUNDLED_MODEL, |model| model.as_str())
}

async fn serve(args: &Args, screen: &Screen) -> Result<()> {
    let logs = LogRing::new(1_000, 1 << 20);
    LogStyle::default().start_only(logs.clone())?;
    let signals = Signals::listen()?;
    let (port, running) = loop {
        let port = free_port();
        let config = Config {
            listen_port: port,
            data_dir: args.data_dir()?,
            // One at a time, so that the first answer is as fast as possible.
            worker_slots: 1,
            drain_grace: Duration::ZERO.into(),
            ..Config::default()
        };
        match queen_rbee::start(config, Some(logs.clone())).await {
            // Another program took the port first; there are others.
            Err(_) if port != 0 && free_port() != port => {}
            started => break (port, started?),
        }
    };
    if port != QUEEN_PORT {
        screen.line(&format!("port {QUEEN_PORT} is taken, so this queen has another"));
    }
    screen.title(model(args), &running);
    tokio::select! {
        result = talk(args, screen, &running, &signals) => {
            running.shutdown().await?;
            result
        }
        keeps_hives = running.shutdown_ordered() => {
            screen.line("shutting down, as it was ordered over HTTP");
            match keeps_hives {
                true => running.hand_over().await,
                false => running.shutdown().await,
            }
        }
    }
}

/// True if no program listens on this port at an address of the queen.
fn is_free(port: u16) -> bool {
    let is_taken = |address: SocketAddr| {
        TcpListener::bind(address).is_err_and(|cause| cause.kind() == io::ErrorKind::AddrInUse)
    };
    !ListenHost::default().addresses(port).any(is_taken)
}

/// The usual port, or the next free one.
fn free_port() -> u16 {
    // The hive's port stays free for a hive.
    let mut ports = (QUEEN_PORT..QUEEN_PORT + PORTS).filter(|port| *port != HIVE_PORT);
    ports.find(|port| is_free(*port)).unwrap_or(0)
}

async fn talk(args: &Args, screen: &Screen, running: &Running, signals: &Signals) -> Result<()> {
    let queen = running.queen();
    tokio::select! {
        restored = finish_restored(screen, queen) => restored?,
        () = signals.end.cancelled() => return Ok(()),
    }
    let mut turns: Vec<(Role, String)> = Vec::new();
    let mut prompt = args.prompt.clone();
    loop {
        screen.question(&prompt);
        turns.push((Role::User, prompt));
        let mut request =
            Request::chat(model(args)).max_tokens(args.max_tokens).temperature(args.temperature);
        if let Some(seed) = args.seed {
            request = request.seed(seed);
        }
        for (role, text) in turns.iter().skip(turns.len().saturating_sub(TURNS)) {
            request = request.message(*role, text);
        }
        let is_cold = queen.cluster().await?.workers().next().is_none();
        let job = queen.submit(request).await?;
        let id = job.id();
        let answer = stream(screen, queen, is_cold, job, signals).await?;
        screen.summary(&answer, id, running.database());
        let is_first = turns.len() == 1;
        turns.push((Role::Assistant, answer.text));
        if args.once {
            return Ok(());
        }
        if is_first {
            screen.invite(running.url(), model(args));
        }
        tokio::select! {
            next = screen.ask() => prompt = next,
            () = signals.end.cancelled() => return Ok(()),
        }
    }
}

/// Prints the answer as it arrives. Ctrl-C cancels the job.
async fn stream(
    screen: &Screen,
    queen: &Queen,
    is_cold: bool,
    mut job: JobHandle,
    signals: &Signals,
) -> Result<screen::Measured> {
    let mut answer = screen::Measured::begin(is_cold);
    let mut loading = screen.loading();
    loop {
        let event = tokio::select! {
            event = job.next() => event,
            () = loading.tick(queen) => continue,
            () = signals.end.cancelled() => {
                job.cancel();
                job.next().await
            }
        };
        let Some(event) = event else {
            let broken = || Error::new(ErrorKind::Internal, "the events of the job broke off");
            return Err(job.interruption().cloned().unwrap_or_else(broken));
        };
        match event.kind {
            EventKind::Started(started) => answer.queue_wait = started.queue_wait,
            EventKind::Token { text, .. } => {
                loading.done();
                answer.token(&text);
                screen.chunk(&text);
            }
            EventKind::Metrics(metrics) => answer.prefill = Some(metrics.prefill),
            EventKind::Vectors(_) => {}
            EventKind::End { usage, .. } => {
                screen.end_of_answer();
                answer.end(usage);
                return Ok(answer);
            }
            EventKind::Error(error) => {
                loading.done();
                if !answer.text.is_empty() {
                    screen.end_of_answer();
                }
                return Err(error);
            }
        }
    }
}

/// Runs the jobs that a previous run accepted but did not end, before anything new.
async fn finish_restored(screen: &Screen, queen: &Queen) -> Result<()> {
    for job in queen.status().await?.restored.iter() {
        let before = queen.job(*job).await?;
        screen.restored(*job, before.chunks.len());
        let mut events = queen.attach(*job, None).await?;
        let mut loading = screen.loading();
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = loading.tick(queen) => continue,
            };
            match event.map(|event| event.kind) {
                Some(EventKind::Token { text, .. }) => {
                    loading.done();
                    screen.aside(&text);
                }
                Some(EventKind::Error(error)) => {
                    loading.done();
                    screen.end_of_aside();
                    screen.line(&format!("it ended with an error: {error}"));
                    break;
                }
                Some(_) => {}
                None => {
                    screen.end_of_aside();
                    break;
                }
            }
        }
        let state = queen.job(*job).await?.status.state();
        screen.line(&format!("job {job} is {state} now\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_another_program_has_on_one_loopback_address_is_not_free() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(other) = TcpListener::bind(address) else {
                eprintln!("NOT TESTED: this machine has no {address}");
                continue;
            };
            assert!(!is_free(other.local_addr().unwrap().port()), "{address}");
        }
    }
}
