//! How much each tenant has: its files, their bytes, and its uploads.

use rbee_core::{Error, ErrorKind, Result, TenantId};

use super::FileStore;
use crate::server::queen::batches::disk;

/// The files of one tenant, including those that are being uploaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) files: usize,
    pub(super) bytes: u64,
    uploads: usize,
}

impl FileStore {
    /// Takes the room for one more upload of a tenant.
    ///
    /// # Errors
    /// [`ErrorKind::QuotaExceeded`] if the tenant has too many files, [`ErrorKind::RateLimited`] if it has too many
    /// uploads at once, [`ErrorKind::SystemAtCapacity`] if all tenants together have.
    pub(in crate::server::queen::batches) fn begin_upload(
        &self,
        tenant: &Option<TenantId>,
    ) -> Result<()> {
        let most = self.limits.tenant_uploads;
        let mut state = self.lock();
        let held = state.held.get(tenant).copied().unwrap_or_default();
        if held.files >= self.limits.tenant_files {
            let message = format!(
                "there are {} files already; allowed are {}. Delete files that are no longer needed",
                held.files, self.limits.tenant_files
            );
            return Err(Error::for_client(ErrorKind::QuotaExceeded, message));
        }
        if held.uploads >= most {
            let message =
                format!("{} files are uploaded at once; allowed are {most}", held.uploads);
            let error = Error::for_client(ErrorKind::RateLimited, message);
            return Err(error.with_retry_after(disk::RETRY_AFTER));
        }
        if tenant.is_some() && state.uploads >= most.saturating_mul(4) {
            let message = "too many files are uploaded at once; try again later";
            let error = Error::for_client(ErrorKind::SystemAtCapacity, message);
            return Err(error.with_retry_after(disk::RETRY_AFTER));
        }
        state.uploads += usize::from(tenant.is_some());
        let held = state.held.entry(tenant.clone()).or_default();
        held.uploads += 1;
        held.files += 1;
        Ok(())
    }

    /// Takes the room for more bytes of an upload.
    ///
    /// # Errors
    /// [`ErrorKind::QuotaExceeded`] if the tenant then has too many.
    pub(in crate::server::queen::batches) fn take_bytes(
        &self,
        tenant: &Option<TenantId>,
        bytes: u64,
    ) -> Result<()> {
        let most = self.limits.tenant_bytes;
        let mut state = self.lock();
        let held = state.held.entry(tenant.clone()).or_default();
        let all = held.bytes.saturating_add(bytes);
        if all > most {
            let message = format!(
                "all files together would have more than {most} bytes, which is the limit. Delete files that are no \
                 longer needed"
            );
            return Err(Error::for_client(ErrorKind::QuotaExceeded, message));
        }
        held.bytes = all;
        Ok(())
    }

    /// Takes the room for more bytes, also beyond the limit.
    pub(super) fn count_bytes(&self, tenant: &Option<TenantId>, bytes: u64) {
        let mut state = self.lock();
        let held = state.held.entry(tenant.clone()).or_default();
        held.bytes = held.bytes.saturating_add(bytes);
    }

    pub(super) fn release_bytes(&self, tenant: &Option<TenantId>, bytes: u64) {
        let release = |held: &mut Held| held.bytes = held.bytes.saturating_sub(bytes);
        self.lock().change(tenant, release);
    }

    /// Ends an upload, and releases the room that it took.
    pub(in crate::server::queen::batches) fn end_upload(
        &self,
        tenant: &Option<TenantId>,
        bytes: u64,
    ) {
        let mut state = self.lock();
        state.uploads = state.uploads.saturating_sub(usize::from(tenant.is_some()));
        state.change(tenant, |held| {
            held.uploads = held.uploads.saturating_sub(1);
            held.files = held.files.saturating_sub(1);
            held.bytes = held.bytes.saturating_sub(bytes);
        });
    }
}
