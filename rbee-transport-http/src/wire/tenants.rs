//! Tenants: their limits, what they use, and their keys.

use rbee_core::{TenantId, tenant::TenantLimits};
use serde::{Deserialize, Serialize};

/// `GET`: the tenants ([`Listing`](super::queen::Listing) of [`TenantView`]).
pub const TENANTS: &str = "/v1/tenants";
/// `GET`: one tenant ([`TenantView`]); `PUT` ([`TenantLimits`]) adds it or sets its limits; `DELETE` removes it.
pub const TENANT: &str = "/v1/tenants/{id}";
/// `POST` ([`NewKey`]): a new key for the tenant (201, [`IssuedKey`]).
pub const TENANT_KEYS: &str = "/v1/tenants/{id}/keys";
/// `DELETE`: revoke the key whose hash begins so.
pub const TENANT_KEY: &str = "/v1/tenants/{id}/keys/{hash}";

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TenantView {
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: TenantId,
    /// What it may use.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub limits: TenantLimits,
    /// Tokens it has used today (UTC).
    pub used_today: u64,
    /// Jobs it has now, waiting and running.
    pub live_jobs: u32,
    /// Its keys; of each no more than what tells it from others.
    pub keys: Vec<KeyView>,
}

/// A key, without what would let anybody use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyView {
    /// The SHA-256 of the key, in lower-case hexadecimal.
    pub hash: String,
    /// What it is for.
    pub label: String,
    /// When it was issued, in milliseconds of the Unix epoch.
    pub created_at_ms: u64,
}

/// What a new key is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct NewKey {
    /// In words; 64 characters at most.
    pub label: String,
}

/// A new key. It is shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IssuedKey {
    /// The tenant.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub tenant: TenantId,
    /// The key: what its clients send as `Authorization: Bearer KEY`.
    pub key: String,
    /// Its SHA-256, by which it is known from now on.
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
