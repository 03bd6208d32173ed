//! The daemon as a process: how it starts, reloads and ends, its limits, and its protection from browsers.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;
/// Shared with the tests of the keeper.
#[path = "../../../rbee-keeper/tests/rbee/support/well_said.rs"]
mod well_said;

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
mod store;
