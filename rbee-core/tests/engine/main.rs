//! The deciding parts, without input or output: the engine, the policies, and both in virtual time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/engine.rs"]
mod parts;

mod autoscaler;
mod least_loaded;
mod properties;
mod replay;
mod replay_properties;
#[cfg(all(feature = "conformance", feature = "rules"))]
mod rhai_scheduler;
mod rules;
#[cfg(feature = "conformance")]
mod scheduler_conformance;
mod simulation;
