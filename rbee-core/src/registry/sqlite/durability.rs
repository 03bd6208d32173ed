//! The failures that an acknowledged record survives.

use serde::{Deserialize, Serialize};

/// The failure that an acknowledged record survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Durability {
    /// The death of this process, also by `kill -9`. If the power fails or the system crashes, the last records may be
    /// lost, but never a part of one and never their order. (`synchronous = NORMAL`)
    #[default]
    #[serde(rename = "normal")]
    ProcessCrash,
    /// Also a loss of power: each commit waits for the disk. (`synchronous = FULL`)
    #[serde(rename = "full")]
    PowerLoss,
}

impl Durability {
    pub(super) const fn synchronous(self) -> &'static str {
        match self {
            Self::ProcessCrash => "NORMAL",
            Self::PowerLoss => "FULL",
        }
    }
}
