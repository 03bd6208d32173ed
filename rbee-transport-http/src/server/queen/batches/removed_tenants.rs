//! What is left of tenants that were removed: a new tenant of the same name must not see it.

use std::collections::BTreeSet;

use rbee_core::{Error, ErrorKind, Result, TenantId};
use tokio::sync::MutexGuard;

use super::{super::Inner, Batches, disk};

impl Inner {
    /// Waits until nobody else adds or removes a tenant; nobody can as long as the result lives.
    pub(in crate::server::queen) async fn hold_tenants(&self) -> Option<MutexGuard<'_, ()>> {
        match &self.batches {
            Some(batches) => Some(batches.tenants.lock().await),
            None => None,
        }
    }

    /// Checks that a tenant can be removed.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] while it has batches that have not ended.
    pub(in crate::server::queen) fn check_batches_ended(&self, tenant: &TenantId) -> Result<()> {
        let left = self.batches.as_ref().map_or(0, |batches| batches.batches.unfinished(tenant));
        if left == 0 {
            return Ok(());
        }
        let message = format!(
            "tenant {tenant} has {left} batches that have not ended; cancel them, or wait for their end"
        );
        Err(Error::new(ErrorKind::Conflict, message))
    }

    /// Removes the files and batches of a tenant that was removed.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`] if something cannot be removed, and [`ErrorKind::Conflict`] while a batch is being
    /// cancelled or a file is uploaded.
    pub(in crate::server::queen) async fn remove_files_of(&self, tenant: &TenantId) -> Result<()> {
        match &self.batches {
            Some(batches) => batches.remove_tenant(tenant).await,
            None => Ok(()),
        }
    }

    /// The same before a tenant is added, if there is none of this name.
    ///
    /// # Errors
    /// As [`remove_files_of`](Self::remove_files_of).
    pub(in crate::server::queen) async fn clear_for(&self, tenant: &TenantId) -> Result<()> {
        match self.queen.tenants().get(tenant).await {
            Err(error) if error.kind() == ErrorKind::NotFound => self.remove_files_of(tenant).await,
            found => found.map(drop),
        }
    }

    /// Removes what is left of tenants that do not exist any more.
    pub(super) async fn remove_files_of_removed(&self) {
        let Some(batches) = &self.batches else { return };
        for tenant in batches.tenants() {
            let _held = self.hold_tenants().await;
            if let Err(error) = self.clear_for(&tenant).await {
                tracing::warn!(%tenant, error = error.for_log(), "the files of a removed tenant cannot be removed yet");
            }
        }
    }
}

impl Batches {
    fn tenants(&self) -> BTreeSet<TenantId> {
        self.files.tenants().into_iter().chain(self.batches.tenants()).collect()
    }

    async fn remove_tenant(&self, tenant: &TenantId) -> Result<()> {
        self.batches.remove_of(tenant).await?;
        self.files.remove_of(tenant).await?;
        if !self.tenants().contains(tenant) {
            return Ok(());
        }
        let message = format!(
            "a removed tenant {tenant} has batches that are being cancelled, or uploads that have not ended"
        );
        Err(Error::new(ErrorKind::Conflict, message).with_retry_after(disk::RETRY_AFTER))
    }
}
