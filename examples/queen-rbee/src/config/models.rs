//! Where models come from, and where they are kept.

use std::path::PathBuf;

#[cfg(feature = "hub")]
use rbee_core::{Hub, HubToken};
use rbee_core::{ModelStore, Result, StoreOptions};

#[cfg(feature = "hub")]
use super::read_bounded;

/// Where models come from, and where this machine keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelSettings {
    /// Where models are kept that are fetched to this machine; `models-fetched` in the data directory by default.
    pub dir: Option<PathBuf>,
    /// Bytes that they may take; those used longest ago make room. Without bounds by default.
    pub budget: Option<usize>,
    /// Where the hub's models are kept; the place that other tools share by default.
    pub hub_cache: Option<PathBuf>,
    /// The address of the hub; that of `HF_ENDPOINT` or the usual one by default.
    pub hub_endpoint: Option<String>,
    /// A file with the token that the user is known to the hub by; `HF_TOKEN` or that of a login by default.
    pub hub_token_file: Option<PathBuf>,
    /// Ask no hub.
    pub offline: bool,
}

impl ModelSettings {
    /// The store of this machine, here by default.
    pub(crate) fn store(&self, dir: PathBuf) -> Result<ModelStore> {
        let dir = self.dir.clone().unwrap_or(dir);
        let options = StoreOptions {
            hub_cache: self.hub_cache.clone(),
            budget: self.budget.map(|bytes| bytes as u64),
            ..StoreOptions::default()
        };
        ModelStore::open(&dir, options)
            .map_err(|error| error.context(format_args!("models_dir {}", dir.display())))
    }

    /// The hub.
    #[cfg(feature = "hub")]
    pub(crate) fn hub(&self) -> Result<Hub> {
        let mut hub = Hub::builder().environment()?;
        if let Some(endpoint) = &self.hub_endpoint {
            hub = hub.endpoint(endpoint);
        }
        if let Some(cache) = &self.hub_cache {
            hub = hub.cache(cache);
        }
        if let Some(path) = &self.hub_token_file {
            let text = read_bounded(path).map_err(|error| error.context("hub_token_file"))?;
            let token = HubToken::new(text.trim()).map_err(|error| {
                error.context(format_args!("hub_token_file {}", path.display()))
            })?;
            hub = hub.token(Some(token));
        }
        if self.offline {
            hub = hub.offline(true);
        }
        hub.build().map_err(|error| error.context("hub_endpoint"))
    }
}
