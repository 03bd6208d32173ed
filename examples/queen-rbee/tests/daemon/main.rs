//! The daemon as a process: how it starts, reloads and ends, its limits, and its protection from browsers.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;
/// Shared with the tests of the keeper.
#[path = "../../../rbee-keeper/tests/rbee/support/well_said.rs"]
mod well_said;

/// Shared with the tests of the transport, which use more of it.
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "the tests of the transport use the rest")]
#[path = "../../../../rbee-transport-ssh/tests/ssh/keys.rs"]
mod keys;
/// Shared with the tests of the transport.
#[cfg(target_os = "linux")]
#[path = "../../../../rbee-transport-ssh/tests/ssh/machine.rs"]
mod machine;
/// Shared with the tests of the transport, which use more of it.
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "the tests of the transport use the rest")]
#[path = "../../../../rbee-transport-ssh/tests/ssh/programs.rs"]
mod programs;
/// Shared with the tests of the transport, which use more of it.
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "the tests of the transport use the rest")]
#[path = "../../../../rbee-transport-ssh/tests/ssh/sshd.rs"]
mod sshd;

#[cfg(target_os = "linux")]
mod batches;
mod browser;
#[cfg(target_os = "linux")]
mod cached_tokens;
#[cfg(target_os = "linux")]
mod check_config;
#[cfg(target_os = "linux")]
mod faults;
#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod gated;
#[cfg(target_os = "linux")]
mod guarded;
#[cfg(target_os = "linux")]
mod kills;
#[cfg(target_os = "linux")]
mod limits;
#[cfg(target_os = "linux")]
mod metrics;
#[cfg(target_os = "linux")]
mod reaching;
#[cfg(target_os = "linux")]
mod reload;
#[cfg(target_os = "linux")]
mod running;
#[cfg(target_os = "linux")]
mod sampling;
#[cfg(target_os = "linux")]
mod shutdown;
#[cfg(target_os = "linux")]
mod ssh;
#[cfg(target_os = "linux")]
mod store;
