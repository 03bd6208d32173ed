//! The checks and benchmarks of this workspace, as one command: `cargo xtask`.

mod api;
mod dependencies;
mod layers;
mod metadata;
mod purity;
mod python;
mod python_packages;
mod source;
mod steps;
mod system;
mod test;
mod words;

use std::process::ExitCode;

use steps::Step;

const HELP: &str = "\
The checks and benchmarks of this workspace.

Usage: cargo xtask <COMMAND>

Commands:
  test           Everything that must hold before a change is merged, stopping at the first failure:
                 programs that the tests need (installed if missing), formatting, dependency rules,
                 licenses, layers, purity, words, the public API, lints, documentation, tests, the Python package
  bench [NAME] [ARGS]
                 The benchmarks, or the one of this name: engine, gateway, overhead, place, policy,
                 registry, replay, sandbox, tunnel, worker.
                 ARGS go to `cargo bench`; after `--` to the benchmark itself. `worker` measures llama.cpp
                 beside rbee's engine, `gateway` vLLM's router beside the queen; both are installed with Python.
                 `tunnel` measures SSH beside TCP on a machine in a network namespace, so it needs root

  python         Builds the wheel of the Python package, and tests it with every Python that is installed
  layers [--summary]
                 Checks that modules use only lower layers; --summary shows which top-level modules use which
  purity         Checks that the modules that decide use no clock, no input or output and no random numbers
  words          Checks names, comments, messages and pages for words that this project does not use
  api [--check | --size]
                 Writes the listings of the public API in docs/api; --check compares them, --size checks the
                 size of the API

Options:
  -h, --help     This text

Environment:
  CI_REQUIRE_DENY=1   `test` fails if cargo-deny is not installed, instead of leaving out the licenses
  RBEE_SKIP_PYTHON=1  `test` leaves out the Python package
  RBEE_SKIP_CLIENTS=1 `test` leaves out what needs third-party programs: clients, a browser, llama.cpp
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["-h" | "--help" | "help", ..] | ["test" | "bench", "-h" | "--help"] => {
            print!("{HELP}");
            Ok(())
        }
        ["test"] => test::run(),
        ["python"] => python::test(),
        ["layers"] => layers::check(),
        ["purity"] => purity::check(),
        ["words"] => words::check(),
        ["api"] => api::write(),
        ["api", "--check"] => api::check(),
        ["api", "--size"] => api::check_size(),
        ["layers", "--summary"] => layers::summary().map(|text| print!("{text}")),
        ["bench", ref more @ ..] => {
            let mut built = Vec::new();
            let mut bench = Step::cargo("benchmarks", &["bench", "--package", "rbee-benchmarks"]);
            match more.first() {
                Some(&"worker") => python_packages::llama_cpp(),
                Some(&"gateway") => {
                    let daemon = ["build", "--release", "--package", "queen-rbee"];
                    built.push(Step::cargo("the daemon of the benchmark", &daemon));
                    let program = steps::root().join("target/release/queen-rbee");
                    bench = bench.environment("QUEEN_RBEE", program.display().to_string());
                    if let Some(router) = python_packages::vllm_router() {
                        bench = bench.environment("VLLM_ROUTER", router.display().to_string());
                    }
                }
                Some(&"tunnel") => {
                    let hive = ["build", "--release", "--package", "rbee-hive"];
                    built.push(Step::cargo("the hive of the benchmark", &hive));
                    let worker = ["build", "--release", "--package", "rbee-transport-http"];
                    let mut worker = Step::cargo("the worker of the benchmark", &worker);
                    worker.arguments(&["--example", "echo-worker"]);
                    built.push(worker);
                }
                _ => {}
            }
            if let [name, ref rest @ ..] = more[..]
                && !name.starts_with('-')
            {
                bench.arguments(&["--bench", name]);
                bench.arguments(rest);
            } else {
                bench.arguments(more);
            }
            built.push(bench);
            steps::run(&built)
        }
        [] => Err(format!("a command is missing\n\n{HELP}")),
        ref unknown => Err(format!(
            "{:?} is not a command; allowed are test, bench [ARGS], python, layers [--summary], purity, words, api [--check | --size] \
             and --help",
            unknown.join(" ")
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("\nerror: {why}");
            ExitCode::FAILURE
        }
    }
}
