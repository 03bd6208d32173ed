//! The options of a store.

use std::{path::PathBuf, time::Duration};

/// The options of a [`ModelStore`](crate::models::ModelStore).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// The hub's cache. By default the standard directory, which is `HF_HUB_CACHE`, else `hub` below `HF_HOME`, else
    /// `huggingface/hub` below `XDG_CACHE_HOME`, else that below `.cache` in the user's home directory.
    pub hub_cache: Option<PathBuf>,
    /// The most bytes of all models that this store has fetched; the least recently used models are removed first.
    /// `None`: no limit. Models that other tools put in the hub's cache do not count and are not removed.
    pub budget: Option<u64>,
    /// Bytes of the disk that must stay free, 1 GiB by default.
    pub head_room: u64,
    /// How long a source may deliver nothing before a copy from it fails, 60 s by default. This process waits ten times
    /// as long for another process that fetches the same model and makes no progress: that may be reading existing
    /// data.
    pub stall: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { hub_cache: None, budget: None, head_room: 1 << 30, stall: Duration::from_secs(60) }
    }
}
