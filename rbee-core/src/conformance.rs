//! Test suites that every implementation of a trait must pass; public so that third parties can also run them.
//!
//! Each module has a function `check` that runs all of its checks and panics with a sentence if the implementation
//! breaks the contract. The test of an implementation is that one call:
//!
//! ```
//! use rbee_core::{FnScheduler, LeastLoaded, Placement, Scheduler, conformance};
//!
//! // As a test: #[test] fn my_policy_keeps_the_contract() { … }
//! let my_policy = FnScheduler::new("never starts a worker", |ask, cluster| {
//!     Ok(match LeastLoaded::default().place(ask, cluster)? {
//!         Placement::Spawn { .. } => Placement::Wait,
//!         placement => placement,
//!     })
//! });
//! conformance::scheduler::check(&my_policy);
//! ```
//!
//! Tests of the suites check that they detect broken implementations: each suite runs on implementations that break one
//! rule.

pub mod hive;
pub mod registry;
pub mod scheduler;
pub mod worker;
