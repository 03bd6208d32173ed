//! Tests with third-party programs: clients, a reference for embeddings, other engines.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[cfg(target_os = "linux")]
mod bundled_model;
#[cfg(target_os = "linux")]
mod claude_code;
#[cfg(target_os = "linux")]
mod codex;
#[cfg(target_os = "linux")]
mod embeddings;
#[cfg(target_os = "linux")]
mod engines;
#[cfg(target_os = "linux")]
mod messages;
#[cfg(target_os = "linux")]
mod ollama;
#[cfg(target_os = "linux")]
mod rerank;
#[cfg(target_os = "linux")]
mod responses;
#[cfg(target_os = "linux")]
mod scripted;
mod sdks;
#[cfg(target_os = "linux")]
mod tools;
