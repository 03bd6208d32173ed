//! Suites that every implementation of a trait must pass; exported so that third parties can run them too.
//!
//! Each module has a function `check` that runs all of its checks and panics with a sentence where the implementation
//! breaks the contract. A test of an implementation is that one call:
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
//! That the suites catch what they are for is tested too: each is run against implementations that break one rule.

pub mod hive;
pub mod registry;
pub mod scheduler;
pub mod worker;
