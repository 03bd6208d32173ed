//! The cost of a queen between a client and a worker, compared in one run with nginx as a plain reverse proxy, with the
//! least that a gateway in Rust costs, and with another router.
//!
//! Every part is a process of its own: this one is the clients, `upstream` the workers (rbee's protocol for the queen,
//! OpenAI's for the others), and `queen` a queen with a database file that records every job before it runs it. If the
//! machine has two processors, the gateway has the first to itself and the others share the second. The cost of a
//! gateway is the processor time of its process, as the kernel counts it; wall-clock times are measured by the clients.
//! The rounds of all gateways alternate. nginx runs twice: the difference of the two is what the method cannot see.
//!
//! Arguments: `--rounds N`, parts of the names of cases and gateways, and `--other PROGRAM`, another build of this
//! benchmark whose queen takes part. `instructions` counts the instructions of a request with callgrind. `endurance` measures
//! the queen's memory under many requests, open streams, readers that do not read, and connections. Programs that
//! are not installed (nginx, vllm-router, valgrind) are left out. Linux only.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod compare;
mod cpu;
mod endurance;
mod instructions;
mod load;
mod middle;
mod minimal;
mod proxy;
mod queen;
mod scenes;
mod upstream;

use std::{process::ExitCode, time::Duration};

use middle::Kind;
use scenes::{SCENES, Scene};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Rounds unless another number is given.
const ROUNDS: usize = 8;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let role: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match role[..] {
        ["upstream", pace] => pace
            .parse()
            .map_err(Into::into)
            .and_then(|millis| upstream::serve(Duration::from_millis(millis))),
        ["queen", ref options @ .., fast, paced] => queen::serve(options, fast, paced),
        ["proxy", port] => proxy::serve(port),
        ["minimal", port] => minimal::serve(port),
        ["endurance", ..] => endurance::run(),
        ["instructions", ref more @ ..] => read(more).and_then(|plan| instructions::run(&plan)),
        ref more => read(more).and_then(|plan| compare::run(&plan)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What is measured.
struct Plan {
    rounds: usize,
    kinds: Vec<Kind>,
    scenes: Vec<&'static Scene>,
}

fn read(arguments: &[&str]) -> Result<Plan> {
    let (mut rounds, mut parts, mut kinds) = (ROUNDS, Vec::new(), Kind::ALL.to_vec());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match *argument {
            "--rounds" => rounds = value()?.parse()?,
            "--other" => kinds.push(Kind::OtherQueen(value()?.to_string().leak())),
            // Cargo passes it.
            "--bench" => {}
            other if other.starts_with('-') => {
                return Err(format!("{other} is not an option; see the top of {}", file!()).into());
            }
            part => parts.push(part.to_owned()),
        }
    }
    let contains = |name: &str| parts.iter().any(|part| name.contains(part.as_str()));
    if kinds.iter().any(|kind| contains(kind.name())) {
        // All others are multiples of nginx.
        kinds.retain(|kind| *kind == Kind::Nginx || contains(kind.name()));
    }
    let mut scenes: Vec<_> = SCENES.iter().filter(|scene| contains(scene.name)).collect();
    if scenes.is_empty() {
        scenes = SCENES.iter().collect();
    }
    Ok(Plan { rounds, kinds, scenes })
}
