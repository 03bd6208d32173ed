//! Policies written as scripts: what they can do, what is said of wrong ones, and that hostile ones are stopped.

#![cfg(all(feature = "conformance", feature = "rhai"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "rhai_scheduler/apart.rs"]
mod apart;
#[path = "rhai_scheduler/fleet.rs"]
mod fleet;
#[path = "rhai_scheduler/hostile.rs"]
mod hostile;
#[path = "rhai_scheduler/language.rs"]
mod language;
#[path = "rhai_scheduler/policies.rs"]
mod policies;
#[path = "rhai_scheduler/reference.rs"]
mod reference;
#[path = "rhai_scheduler/rules.rs"]
mod rules;
