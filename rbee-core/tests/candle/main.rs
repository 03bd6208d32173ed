//! The worker that runs models in this process.
//!
//! Apart from the other tests because it takes all processors, and some of those measure time.

#![cfg(feature = "candle")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/checkpoint.rs"]
mod support;

#[cfg(feature = "conformance")]
mod conformance;
mod embed;
mod hostile;
mod worker;
