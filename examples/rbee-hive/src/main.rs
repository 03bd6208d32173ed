//! The agent of one machine, as a daemon. See the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    rbee_hive::main()
}
