//! Suites that every implementation of a trait must pass; exported so that third parties can run them too.
//!
//! Each module has a function `check` that runs all of its checks and panics with a sentence where the implementation
//! breaks the contract. A test of an implementation is that one call:
//!
//! ```
//! use rbee_core::{FnScheduler, Placement, conformance};
//!
//! // As a test: #[test] fn my_policy_keeps_the_contract() { … }
//! let my_policy = FnScheduler::new("first free", |ask, cluster| {
//!     let fits = |numerics| ask.must_match.as_ref().is_none_or(|wanted| wanted == numerics);
//!     let free = cluster.available(&ask.job.model).filter(|worker| fits(&worker.info.numerics));
//!     let mut best: Vec<_> = free.collect();
//!     // Better a worker on which this job has not failed yet.
//!     best.sort_by_key(|worker| ask.avoid.contains(&worker.info.id));
//!     Ok(best.first().map_or(Placement::Wait, |worker| Placement::Assign(worker.info.id)))
//! });
//! conformance::scheduler::check(&my_policy);
//! ```
//!
//! That the suites catch what they are for is tested too: each is run against implementations that break one rule.

pub mod hive;
pub mod registry;
pub mod scheduler;
pub mod worker;
