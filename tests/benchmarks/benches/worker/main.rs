//! The speed of rbee's own engine, compared in one run with llama.cpp, with candle-transformers' own loop, and with the
//! memory bandwidth of the machine.
//!
//! Every engine is a process of its own that gets the same cases: prompts as token ids, and the number of tokens to
//! generate. The rounds of all engines alternate; a number is the median of the rounds. Wall-clock times are measured by
//! the engines themselves, and the processor time is the one of their process.
//!
//! `cargo xtask bench worker -- [--threads N] [--rounds N] [--model PATH] [--only-model] [CASE]`. The random models are
//! made by the benchmark; `--model` is a GGUF file to measure as well, or with `--only-model` alone. llama.cpp is the
//! Python package `xllamacpp`, which `cargo xtask` installs below `target`; without it its column is missing.

mod bandwidth;
mod candle_loop;
mod cases;
mod models;
mod peer;
mod rbee;
mod report;

use std::{path::PathBuf, process::ExitCode};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// What the command line asks for.
struct Options {
    threads: usize,
    rounds: usize,
    model: Option<PathBuf>,
    only_model: bool,
    only: Option<String>,
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options { threads: 1, rounds: 5, model: None, only_model: false, only: None };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--threads" => options.threads = value()?.parse()?,
            "--rounds" => options.rounds = value()?.parse()?,
            "--model" => options.model = Some(value()?.into()),
            "--only-model" => options.only_model = true,
            // cargo passes it.
            "--bench" => {}
            _ => options.only = Some(word),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    let result = match words.peek().map(String::as_str) {
        Some("rbee") => rbee::serve(words.skip(1)),
        Some("candle") => candle_loop::serve(words.skip(1)),
        _ => options(words).and_then(|options| cases::run(&options)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
