//! Tenants: their limits, their usage, and their keys.

use rbee_core::{TenantId, tenant::TenantLimits};
use serde::{Deserialize, Serialize};

/// `GET`: the tenants ([`Listing`](super::queen::Listing) of [`TenantView`]).
pub const TENANTS: &str = "/v1/tenants";
/// `GET`: one tenant ([`TenantView`]); `PUT` ([`TenantLimits`]) adds it or sets its limits; `DELETE` removes it.
pub const TENANT: &str = "/v1/tenants/{id}";
/// `POST` ([`NewKey`]): a new key for the tenant (201, [`IssuedKey`]).
pub const TENANT_KEYS: &str = "/v1/tenants/{id}/keys";
/// `DELETE`: revoke the key whose hash begins with this.
pub const TENANT_KEY: &str = "/v1/tenants/{id}/keys/{hash}";

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TenantView {
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: TenantId,
    /// Its limits.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub limits: TenantLimits,
    /// Tokens it has used today (UTC).
    pub used_today: u64,
    /// Its jobs in the queue and running.
    pub live_jobs: u32,
    /// Its keys, without the secrets.
    pub keys: Vec<KeyView>,
}

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyView {
    /// The SHA-256 of the key, in lower-case hexadecimal.
    pub hash: String,
    /// Its purpose.
    pub label: String,
    /// When it was issued, in milliseconds of the Unix epoch.
    pub created_at_ms: u64,
}

/// The purpose of a new key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct NewKey {
    /// A label; at most 64 characters.
    pub label: String,
}

/// A new key. It is shown only once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IssuedKey {
    /// The tenant.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub tenant: TenantId,
    /// The key: its clients send it as `Authorization: Bearer KEY`.
    pub key: String,
    /// Its SHA-256, by which it is identified from now on.
    pub hash: String,
}

impl std::fmt::Debug for IssuedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedKey")
            .field("tenant", &self.tenant)
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}
