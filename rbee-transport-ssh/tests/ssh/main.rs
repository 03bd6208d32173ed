//! Connections to a real `sshd`, which each test starts on a loopback port with keys of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod deploying;
mod dropbear;
mod hive;
mod host_keys;
mod hostile;
mod jump;
mod keys;
mod lifetime;
mod login;
mod machine;
mod machines;
mod programs;
mod sessions;
mod sshd;
