//! The program `rbee` as a process, against a queen in the process of the test.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

mod access;
#[cfg(target_os = "linux")]
mod base_model;
mod exits;
mod files;
mod fleet;
mod follow;
#[cfg(unix)]
mod launch;
mod policy;
#[cfg(target_os = "linux")]
mod real;
mod run;
#[cfg(unix)]
mod serve;
#[cfg(unix)]
mod terminal;
