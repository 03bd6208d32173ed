//! Helpers that the tests of this crate share: third-party programs, installed once and kept with the build.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod built;
mod environment;
mod place;
mod program;

pub use built::{built, built_bin, built_example};
pub use environment::{Environment, are_clients_skipped};
pub use place::private_tempdir;
pub use program::{Output, Program};
