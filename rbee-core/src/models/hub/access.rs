//! The way to a hub, handed from a queen to a hive for one download.

use super::{Hub, HubError, HubToken, Resolved};
use std::path::Path;

use crate::{error::Result, model_ref::ModelRef, models::HubAccess};

impl Hub {
    /// The hub that a hive reaches in this way, with its cache in this directory. What is left open is taken from the
    /// environment, whose token is used for the environment's own endpoint alone.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) for a token without the endpoint that it is for.
    pub(crate) fn of(access: &HubAccess, cache: &Path) -> Result<Self> {
        let mut builder = Self::builder().environment()?.cache(cache);
        if let Some(endpoint) = &access.endpoint {
            builder = builder.endpoint(endpoint);
        }
        match &access.token {
            _ if access.anonymous => builder = builder.token(None),
            Some(_) if access.endpoint.is_none() => return Err(HubError::LooseToken.into()),
            Some(token) => builder = builder.token(Some(HubToken::new(token)?)),
            None => {}
        }
        if access.offline {
            builder = builder.offline(true);
        }
        builder.tenant_budget(access.tenant_budget).build()
    }

    /// How a hive reaches this hub.
    pub(crate) fn access(&self) -> HubAccess {
        let token = self.shared.token.as_ref().map(|token| token.reveal().into());
        HubAccess {
            endpoint: Some(self.shared.endpoint.clone()),
            token,
            offline: self.is_offline(),
            ..HubAccess::default()
        }
    }

    /// What the reference stands for, as the hub answers a caller without a token that it gives the files to. What is in
    /// the cache is no answer, because it may have come with a token.
    pub(crate) async fn resolve_public(&self, model: &ModelRef) -> Result<Resolved> {
        if self.is_offline() {
            return Err(HubError::NotAsked { model: model.clone() }.into());
        }
        let hub = self.shared.settings.clone().token(None).build()?;
        let resolved = hub.resolve(model).await?;
        hub.check_access(&resolved).await?;
        Ok(resolved)
    }
}
