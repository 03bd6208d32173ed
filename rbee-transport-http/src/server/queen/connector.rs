//! Connects to hives that are added while the queen runs.

use std::{fmt, sync::Arc};

use rbee_core::{HiveBackend, HiveId, Result, async_trait};

use crate::wire::queen::AddHive;

/// Makes a [`HiveBackend`] from a client's request, and saves it for the next start if the daemon supports that.
#[async_trait]
pub trait HiveConnector: fmt::Debug + Send + Sync + 'static {
    /// Connects to the hive and learns its name. The queen adds it then.
    ///
    /// # Errors
    /// Any problem with the request, or [`ErrorKind::HiveUnreachable`](rbee_core::ErrorKind::HiveUnreachable).
    async fn connect(&self, request: AddHive) -> Result<Arc<dyn HiveBackend>>;

    /// The queen has removed this hive: the next start must not connect to it. Idempotent.
    async fn forget(&self, hive: &HiveId) -> Result<()>;
}
