//! How one download reaches the hub.

use std::{fmt, sync::Arc};

/// How a hive reaches the hub for one download. What is left open the hive takes from its own environment. Its own token
/// goes to its own endpoint alone: a hive that is sent to another endpoint sends no token but the one in the order.
///
/// ```
/// use rbee_core::models::HubAccess;
///
/// let access = HubAccess { token: Some("hf_secret".into()), ..HubAccess::default() };
/// assert!(!format!("{access:?}").contains("secret"));
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HubAccess {
    /// The address of the hub.
    pub endpoint: Option<String>,
    /// The token for that address; it needs one. It is used for this download alone: no hive keeps it, and nothing shows
    /// it.
    pub token: Option<Arc<str>>,
    /// Send no token at all, also none of the hive's own.
    pub anonymous: bool,
    /// Bytes that all models which were fetched with such a bound may take together in the hive's store.
    pub tenant_budget: Option<u64>,
    /// Ask it for nothing: what the hub's cache has is all there is.
    pub offline: bool,
}

impl fmt::Debug for HubAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubAccess")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "(hidden)"))
            .field("anonymous", &self.anonymous)
            .field("tenant_budget", &self.tenant_budget)
            .field("offline", &self.offline)
            .finish()
    }
}
