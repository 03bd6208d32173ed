//! The worker that runs models in this process.
//!
//! Separate from the other tests because it uses all processors, and some of the others measure time.

#![cfg(feature = "candle")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/checkpoint.rs"]
mod support;

#[cfg(feature = "conformance")]
mod conformance;
mod embed;
mod guided;
mod hostile;
mod hostile_gguf;
mod memory;
mod rerank;
mod worker;
