//! Reports of how far a long operation is.

use std::{fmt, sync::Arc};

/// How far a long piece of work has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgressUpdate {
    /// What is done, in bytes or in steps.
    pub done: u64,
    /// What is to be done, where that is known.
    pub total: Option<u64>,
}

/// Where a backend tells how far it has come. Each call counts as a sign of life.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(ProgressUpdate) + Send + Sync>);

impl Progress {
    /// Calls `tell` for every update; it must not block.
    pub fn new(tell: impl Fn(ProgressUpdate) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// For those who do not want to know.
    pub fn ignore() -> Self {
        Self::new(|_| {})
    }

    /// Tells.
    pub fn update(&self, done: u64, total: Option<u64>) {
        (self.0)(ProgressUpdate { done, total });
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}
