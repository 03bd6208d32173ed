//! The priority of a job.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The priority of a job.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// A person waits for the answer.
    #[default]
    Interactive,
    /// Nobody waits; the job runs when there is capacity, and it never starves.
    Batch,
}

impl Priority {
    /// Both, the more urgent first.
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Batch];

    /// The name in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Batch => "batch",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
