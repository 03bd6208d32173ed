//! What an acknowledged record survives.

/// What an acknowledged record survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// The death of this process, also by `kill -9`. Where the power fails or the system crashes, the last records
    /// may be lost, but never a part of one and never their order. (`synchronous = NORMAL`)
    #[default]
    ProcessCrash,
    /// Also the loss of power: each commit waits for the disk. (`synchronous = FULL`)
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
