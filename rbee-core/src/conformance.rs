//! Suites that every implementation of a trait must pass; exported so that third parties can run them too.
//!
//! Each suite is an async function that panics with a sentence where the implementation breaks the contract.

pub mod hive;
pub mod registry;
pub mod scheduler;
pub mod worker;
