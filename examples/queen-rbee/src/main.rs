//! `queen-rbee`: the orchestrator as a daemon. See the library.

use std::process::ExitCode;

/// A request makes many small objects: see the benchmark of the gateway.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    #[cfg(feature = "inside")]
    if let Some(code) = queen_rbee::be_worker_if_told() {
        return code;
    }
    queen_rbee::run(std::env::args_os()).into()
}
