//! The HTTP server of a queen: every path that it serves, and its limits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

mod add_hive;
mod bad_input;
mod batches;
mod bounds;
mod connections;
mod encodings;
mod fleet;
mod jobs;
mod messages;
mod names;
mod ollama;
mod openai;
mod operation;
mod pages;
mod policy;
mod readable;
mod redaction;
mod rerank;
mod responses;
mod retry_after;
mod shutdown;
mod tenants;
