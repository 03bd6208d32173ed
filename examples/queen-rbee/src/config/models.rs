//! Where models come from, and where they are kept.

use std::path::PathBuf;

#[cfg(feature = "hub")]
use rbee_core::models::{Hub, HubToken};
use rbee_core::{
    Result,
    models::{CachePool, ModelStore, StoreOptions},
};

use super::Config;
#[cfg(feature = "hub")]
use super::sources::read_bounded;

impl Config {
    /// The KV cache of workers on this machine, in rbee's own engine.
    pub(crate) fn worker_cache(&self) -> CachePool {
        CachePool { tokens: self.worker_cache_tokens, kind: self.worker_cache_type }
    }

    /// The store of this machine's models, by default in `dir`.
    pub(crate) fn model_store(&self, dir: PathBuf) -> Result<ModelStore> {
        let dir = self.models_dir.clone().unwrap_or(dir);
        let options = StoreOptions {
            hub_cache: self.hub_cache.clone(),
            budget: self.models_budget.map(Into::into),
            ..StoreOptions::default()
        };
        ModelStore::open(&dir, options)
            .map_err(|error| error.context(format_args!("models_dir {}", dir.display())))
    }

    /// The hub, from the environment and then the keys.
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
