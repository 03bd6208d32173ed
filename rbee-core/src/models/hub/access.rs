//! The access to a hub that a queen gives to a hive for one download.

use super::{Hub, HubError, HubToken, Resolved};
use std::path::Path;

use crate::{error::Result, model_ref::ModelRef, models::HubAccess};

impl Hub {
    /// The hub for this access, with its cache in this directory. Fields that are not set come from the environment;
    /// the token of the environment is used only for the endpoint of the environment.
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

    /// The access that a hive needs for this hub.
    pub(crate) fn access(&self) -> HubAccess {
        let token = self.shared.token.as_ref().map(|token| token.reveal().into());
        HubAccess {
            endpoint: Some(self.shared.endpoint.clone()),
            token,
            offline: self.is_offline(),
            ..HubAccess::default()
        }
    }

    /// Resolves the reference with a request without a token, and checks that the hub delivers the files to such a
    /// caller. The cache is not used, because its files may have been downloaded with a token.
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
