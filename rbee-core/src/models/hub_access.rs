//! The access to the hub for one download.

use std::{fmt, sync::Arc};

/// The access of a hive to the hub for one download. Fields that are not set come from the hive's own environment. The
/// hive's token is only sent to the hive's own endpoint: if the order names another endpoint, the hive sends no token
/// except the one in the order.
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
    /// The token for that address; it requires `endpoint`. It is used for this download alone: no hive stores it, and
    /// it is never shown.
    pub token: Option<Arc<str>>,
    /// Send no token at all, not even the hive's own.
    pub anonymous: bool,
    /// The total size limit, in bytes, of all models in the hive's store that were downloaded with such a limit.
    pub tenant_budget: Option<u64>,
    /// Send no requests to the hub: only models in the hub's cache are available.
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
