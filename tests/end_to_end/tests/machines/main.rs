//! Queens, hives and workers as real processes.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod daemon;
#[path = "../../../../examples/queen-rbee/tests/daemon/support/exposition.rs"]
mod exposition;
#[path = "../../../../rbee-core/tests/support/hub.rs"]
mod hub;
mod machine;

mod deploy;
mod fleet;
mod guided;
mod hive_tls;
mod hive_token;
mod local_files;
mod models;
mod real_model;
mod workers;
