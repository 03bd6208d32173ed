//! `rbee`: the command line of rbee.

use std::process::ExitCode;

fn main() -> ExitCode {
    rbee_keeper::main()
}
