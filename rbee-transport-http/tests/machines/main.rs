//! Hives and workers over HTTP and as processes of their own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

mod daemon_access;
mod hive_owner;
mod http_hive;
mod http_models;
mod link;
#[cfg(feature = "openai")]
mod openai_count;
mod openai_worker;
#[cfg(unix)]
mod process_hive;
#[cfg(unix)]
mod silent_worker;
#[cfg(all(unix, feature = "https", feature = "tls"))]
mod tls;
mod worker;
