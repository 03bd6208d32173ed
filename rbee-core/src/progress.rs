//! Progress reports of a long operation.

use std::{fmt, sync::Arc};

/// The progress of a long operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgressUpdate {
    /// The finished part, in bytes or in steps.
    pub done: u64,
    /// The total, if known.
    pub total: Option<u64>,
}

/// The receiver of a backend's progress reports. Each report counts as a heartbeat.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(ProgressUpdate) + Send + Sync>);

impl Progress {
    /// Calls `tell` for every update; it must not block.
    pub fn new(tell: impl Fn(ProgressUpdate) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// A receiver that ignores every update.
    pub fn ignore() -> Self {
        Self::new(|_| {})
    }

    /// Reports an update.
    pub fn update(&self, done: u64, total: Option<u64>) {
        (self.0)(ProgressUpdate { done, total });
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}
