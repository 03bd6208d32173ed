//! The queen as an application uses it: its jobs, streams, tenants, policies and store.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(feature = "hub")]
#[path = "../support/hub.rs"]
mod hub;
#[path = "../support/queen.rs"]
mod queen_support;

mod crashes;
mod faults;
mod fleet;
mod idempotency;
#[cfg(feature = "sqlite")]
mod names;
#[cfg(feature = "rhai")]
mod policies;
mod policy;
#[cfg(feature = "hub")]
mod readable;
#[cfg(feature = "rhai")]
mod replay;
mod restart;
mod shutdown;
mod silence;
mod store;
mod streams;
#[cfg(feature = "hub")]
mod tenant_references;
#[cfg(feature = "sqlite")]
mod tenants;
