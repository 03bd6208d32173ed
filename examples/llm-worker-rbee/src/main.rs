//! One loaded model, in a separate process. See the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    llm_worker_rbee::main_from_stdin()
}
