//! What a store is told when it is opened.

use std::{path::PathBuf, time::Duration};

/// How a [`ModelStore`](crate::models::ModelStore) works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// The hub's cache. As it stands: the standard place, which is `HF_HUB_CACHE`, else `hub` below `HF_HOME`, else
    /// `huggingface/hub` below `XDG_CACHE_HOME`, else that below `.cache` in the user's directory.
    pub hub_cache: Option<PathBuf>,
    /// Bytes that the models may take which this store has fetched; those that were least recently used make room.
    /// Nothing: as many as there are. What other tools put in the hub's cache counts for nothing and is not touched.
    pub budget: Option<u64>,
    /// Bytes of the disk that must stay free, 1 GiB as it stands.
    pub head_room: u64,
    /// How long a source may give nothing before a copy from it fails, 60 s as it stands. Ten times as long this
    /// process waits for another that fetches the same model and comes no further: it may be reading what it has.
    pub stall: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { hub_cache: None, budget: None, head_room: 1 << 30, stall: Duration::from_secs(60) }
    }
}
