//! The way to a hub, handed from a queen to a hive for one download.

use super::{Hub, HubToken};
use crate::{HubAccess, ModelStore, Result};

impl Hub {
    /// The hub that a hive reaches in this way, with what it keeps in this store. What is left open is taken from the
    /// environment.
    pub(crate) fn of(access: &HubAccess, store: &ModelStore) -> Result<Self> {
        let mut builder = Self::builder().environment()?.cache(store.hub_cache());
        if let Some(endpoint) = &access.endpoint {
            builder = builder.endpoint(endpoint);
        }
        if let Some(token) = &access.token {
            builder = builder.token(Some(HubToken::new(token)?));
        }
        if access.offline {
            builder = builder.offline(true);
        }
        builder.build()
    }

    /// How a hive reaches this hub.
    pub(crate) fn access(&self) -> HubAccess {
        let token = self.shared.token.as_ref().map(|token| token.reveal().into());
        HubAccess {
            endpoint: Some(self.shared.endpoint.clone()),
            token,
            offline: self.is_offline(),
        }
    }
}
