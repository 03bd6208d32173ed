//! What a batch holds of the files of its tenant, given back when it is dropped.

use std::sync::Arc;

use rbee_core::{Result, TenantId};

use super::FileStore;
use crate::{server::queen::caller::Caller, wire::batches::FilePurpose};

/// A file that a batch reads, which is then not removed. Dropping it ends that.
#[derive(Debug)]
pub(in crate::server::queen::batches) struct Reading {
    files: Arc<FileStore>,
    /// Empty once it is kept.
    id: String,
}

impl Reading {
    /// Begins to read a file. Returns its purpose too.
    ///
    /// # Errors
    /// As [`FileStore::get`].
    pub(in crate::server::queen::batches) fn begin(
        files: &Arc<FileStore>,
        caller: &Caller,
        id: &str,
    ) -> Result<(Self, FilePurpose)> {
        let record = files.begin_reading(caller, id)?;
        Ok((Self { files: files.clone(), id: record.id }, record.purpose))
    }

    /// Goes on until [`FileStore::end_reading`] is called.
    pub(in crate::server::queen::batches) fn keep(mut self) {
        self.id.clear();
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        // No file has an empty id.
        self.files.end_reading(&self.id);
    }
}

/// The room of a tenant that the results of a running batch take, in bytes. Dropping it releases the room.
#[derive(Debug)]
pub(in crate::server::queen::batches) struct ResultRoom {
    files: Arc<FileStore>,
    tenant: Option<TenantId>,
    bytes: u64,
}

impl ResultRoom {
    /// The room for results that exist.
    pub(in crate::server::queen::batches) fn new(
        files: &Arc<FileStore>,
        tenant: &Option<TenantId>,
        bytes: u64,
    ) -> Self {
        files.count_bytes(tenant, bytes);
        Self { files: files.clone(), tenant: tenant.clone(), bytes }
    }

    /// Takes the room for one more result.
    ///
    /// # Errors
    /// As [`FileStore::take_bytes`].
    pub(in crate::server::queen::batches) fn take(&mut self, bytes: u64) -> Result<()> {
        self.files.take_bytes(&self.tenant, bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Takes the room for errors, which are short and always kept.
    pub(in crate::server::queen::batches) fn count(&mut self, bytes: u64) {
        self.files.count_bytes(&self.tenant, bytes);
        self.bytes += bytes;
    }

    /// Releases the room of results that count as a file now.
    pub(in crate::server::queen::batches) fn release(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.files.release_bytes(&self.tenant, bytes);
    }
}

impl Drop for ResultRoom {
    fn drop(&mut self) {
        self.files.release_bytes(&self.tenant, self.bytes);
    }
}
