//! The parts that a queen works with: hives, model files, the registry, and the echo worker.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(feature = "hub")]
#[path = "../support/hub.rs"]
mod hub;

#[cfg(feature = "test-util")]
mod echo_worker;
#[cfg(feature = "conformance")]
mod hive_conformance;
#[cfg(feature = "hub")]
mod hub_crash;
#[cfg(feature = "hub")]
mod hub_download;
#[cfg(feature = "hub")]
mod hub_tokens;
#[cfg(feature = "test-util")]
mod in_process_hive;
mod model_store;
mod registry_conformance;
#[cfg(feature = "sqlite")]
mod registry_crash;
#[cfg(all(feature = "sqlite", target_os = "linux"))]
mod registry_disk_full;
