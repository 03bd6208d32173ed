//! One loaded model, as a process of its own. See the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    llm_worker_rbee::main_from_stdin()
}
