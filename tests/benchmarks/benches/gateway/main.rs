//! The cost of a queen between a client and a worker, compared in one run with the direct path to a worker of the same
//! speed and with nginx as a plain reverse proxy.
//!
//! Every part is a process of its own: this one is the clients, `upstream` the workers (rbee's protocol for the queen,
//! OpenAI's for the clients that come directly or through nginx), and `queen` a queen with a database file that records
//! every job before it runs it. If the machine has two processors, the gateway has the first to itself and the others
//! share the second. The cost of a gateway is the processor time of its process, as the kernel counts it; wall-clock
//! times are measured by the clients.
//!
//! With `endurance` as the only argument it measures the queen's memory under many requests, slow readers and
//! connections.
//!
//! nginx must be installed; without it its lines are missing. Linux only.

mod cpu;
mod endurance;
mod load;
mod middle;
mod upstream;

use std::{process::ExitCode, time::Duration};

use cpu::Process;
use load::{Load, Measured};
use middle::{Middle, Running};

/// The kind of load.
#[derive(Clone, Copy)]
struct Scene {
    name: &'static str,
    /// The model that answers: see [`upstream`].
    model: &'static str,
    stream: bool,
    tokens: u32,
    connections: usize,
    /// The number of answers.
    answers: usize,
}

const SCENES: &[Scene] = &[
    whole("whole answers of 16 tokens, C=1", 1, 5_000),
    whole("whole answers of 16 tokens, C=64", 64, 20_000),
    whole("whole answers of 16 tokens, C=256", 256, 20_000),
    fast("streams of 64 tokens at once, C=1", 1, 1_000),
    fast("streams of 64 tokens at once, C=64", 64, 4_000),
    fast("streams of 64 tokens at once, C=256", 256, 4_000),
    paced("streams of 64 tokens, one in 10 ms, C=1", 1, 6),
    paced("streams of 64 tokens, one in 10 ms, C=64", 64, 640),
    paced("streams of 64 tokens, one in 10 ms, C=256", 256, 2_560),
];

const fn whole(name: &'static str, connections: usize, answers: usize) -> Scene {
    Scene { name, model: upstream::FAST, stream: false, tokens: 16, connections, answers }
}

const fn fast(name: &'static str, connections: usize, answers: usize) -> Scene {
    Scene { name, model: upstream::FAST, stream: true, tokens: 64, connections, answers }
}

const fn paced(name: &'static str, connections: usize, answers: usize) -> Scene {
    Scene { name, model: upstream::PACED, stream: true, tokens: 64, connections, answers }
}

/// The result of one path in one scenario.
struct Line {
    way: &'static str,
    measured: Measured,
    /// Processor time of the gateway.
    cpu: Option<Duration>,
    memory_kib: Option<u64>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let role: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match role[..] {
        ["upstream"] => upstream::serve(),
        ["endurance", ..] => endurance::run(),
        ["queen", fast, paced] => middle::serve_queen(fast, paced),
        // cargo passes `--bench`; other arguments are parts of a scenario's name.
        ref words => compare(words.iter().copied().find(|word| !word.starts_with('-'))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn compare(only: Option<&str>) -> Result<()> {
    let workers = Running::upstream()?;
    let middles =
        [Some(Middle::direct(&workers)), Middle::nginx(&workers)?, Some(Middle::queen(&workers)?)];
    let middles: Vec<Middle> = middles.into_iter().flatten().collect();
    cpu::stay_beside();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for scene in SCENES.iter().filter(|scene| only.is_none_or(|only| scene.name.contains(only))) {
        println!("\n{}", scene.name);
        let mut lines = Vec::new();
        for middle in &middles {
            let load = Load::new(scene, middle.address);
            runtime.block_on(load.run(scene.answers.div_ceil(10)))?;
            let process = middle.process();
            let before = process.map(Process::time).transpose()?;
            let measured = runtime.block_on(load.run(scene.answers))?;
            let after = process.map(Process::time).transpose()?;
            lines.push(Line {
                way: middle.name,
                measured,
                cpu: before.zip(after).map(|(before, after)| after - before),
                memory_kib: process.map(Process::memory_kib).transpose()?,
            });
        }
        report(scene, &lines);
    }
    Ok(())
}

fn report(scene: &Scene, lines: &[Line]) {
    let base = lines.first().map(|line| (line.measured.first(0.5), line.measured.first(0.99)));
    let nginx = lines.iter().find(|line| line.way == "nginx").and_then(|line| line.cpu);
    println!(
        "  {:<8} {:>10} {:>22} {:>14} {:>10} {:>9}",
        "", "answers/s", "first token +p50/+p99", "CPU s/100k", "of nginx", "RSS MiB"
    );
    for line in lines {
        let answers = scene.answers as f64;
        let rate = answers / line.measured.wall.as_secs_f64();
        let first = base.map_or_else(String::new, |(p50, p99)| {
            let added = |part, base: Duration| {
                (line.measured.first(part).as_secs_f64() - base.as_secs_f64()) * 1e3
            };
            format!("{:+.2}/{:+.2} ms", added(0.5, p50), added(0.99, p99))
        });
        // Per token if they are streamed one by one, else per answer.
        let units = if scene.stream { answers * f64::from(scene.tokens) } else { answers };
        let cpu = line.cpu.map(|cpu| format!("{:.2}", cpu.as_secs_f64() * 1e5 / units));
        let ratio = line.cpu.zip(nginx).map(|(cpu, nginx)| {
            format!("{:.2}", cpu.as_secs_f64() / nginx.as_secs_f64().max(0.01))
        });
        let memory = line.memory_kib.map(|kib| (kib / 1024).to_string());
        println!(
            "  {:<8} {rate:>10.0} {first:>22} {:>14} {:>10} {:>9}",
            line.way,
            cpu.unwrap_or_default(),
            ratio.unwrap_or_default(),
            memory.unwrap_or_default(),
        );
    }
}
