//! What is fixed for a run of the engine.

use super::*;

/// The settings, and what belongs to this run alone.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) settings: Arc<Settings>,
    /// Names for models that tenants' limits may use.
    pub(super) aliases: BTreeMap<String, ModelRef>,
    /// The ownership that records are written under.
    pub(super) epoch: Epoch,
    /// How the memory of workers is estimated.
    pub(super) sizing: Sizing,
    /// Of this run only: see [`JobOutline`](crate::registry::JobOutline).
    pub(super) secret: u64,
}

impl Config {
    pub(super) fn new(settings: Settings, epoch: Epoch) -> Self {
        Self {
            settings: Arc::new(settings),
            aliases: BTreeMap::new(),
            epoch,
            sizing: Sizing::default(),
            secret: 0,
        }
    }
}
