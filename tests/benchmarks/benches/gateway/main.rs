//! The cost of a queen between a client and a worker, compared in one run with nginx as a plain reverse proxy, with the
//! least that a gateway in Rust costs, and with another router.
//!
//! Every part is a process of its own: this one is the clients, `upstream` the workers (rbee's protocol for the queen,
//! OpenAI's for the others), and `queen` a queen with a database file that records every job before it runs it. If the
//! machine has two processors, the gateway has the first to itself and the others share the second. The cost of a
//! gateway is the processor time of its process, as the kernel counts it; wall-clock times are measured by the clients.
//! The rounds of all gateways alternate. nginx runs twice: the difference of the two is what the method cannot see.
//!
//! Arguments: `--rounds N`, and parts of the names of cases. `instructions` counts the instructions of a request with
//! callgrind. `endurance` measures the queen's memory under many requests, slow readers and connections. Programs that
//! are not installed (nginx, vllm-router, valgrind) are left out. Linux only.

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

use std::process::ExitCode;

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Rounds unless another number is given.
const ROUNDS: usize = 8;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let role: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match role[..] {
        ["upstream"] => upstream::serve(),
        ["queen", ref options @ .., fast, paced] => queen::serve(options, fast, paced),
        ["proxy", port] => proxy::serve(port),
        ["minimal", port] => minimal::serve(port),
        ["endurance", ..] => endurance::run(),
        ["instructions", ref more @ ..] => read(more).and_then(|(_, only)| instructions::run(&only)),
        ref more => read(more).and_then(|(rounds, only)| compare::run(rounds, &only)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The number of rounds, and the parts of names that select cases and gateways.
fn read(arguments: &[&str]) -> Result<(usize, Vec<String>)> {
    let (mut rounds, mut only) = (ROUNDS, Vec::new());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match *argument {
            "--rounds" => rounds = arguments.next().ok_or("--rounds needs a number")?.parse()?,
            // Cargo passes it.
            "--bench" => {}
            part => only.push(part.to_owned()),
        }
    }
    Ok((rounds, only))
}
