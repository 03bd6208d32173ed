//! Reaching machines that are added while the queen runs.

use std::{fmt, sync::Arc};

use rbee_core::{HiveBackend, HiveId, Result, async_trait};

use crate::wire::queen::AddHive;

/// Makes a [`HiveBackend`] of what a client wrote, and remembers it for the next start where the daemon wants that.
#[async_trait]
pub trait HiveConnector: fmt::Debug + Send + Sync + 'static {
    /// Reaches the machine and learns its name. The queen adds it then.
    ///
    /// # Errors
    /// What is wrong with the request, or [`ErrorKind::HiveUnreachable`](rbee_core::ErrorKind::HiveUnreachable).
    async fn connect(&self, request: AddHive) -> Result<Arc<dyn HiveBackend>>;

    /// The queen has let go of this hive: it is not to be reached again at the next start. Idempotent.
    async fn forget(&self, hive: &HiveId) -> Result<()>;
}
