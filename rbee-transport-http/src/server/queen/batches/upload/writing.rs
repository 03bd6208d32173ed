//! The content of an upload on the disk.

use std::{
    fs::File,
    io::Write,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use multer::Field;
use rbee_core::{Error, ErrorKind, Result, TenantId, private_files::open_own};

use super::{Form, malformed};
use crate::{
    server::queen::batches::{
        disk::{self, blocking},
        file_store::FileStore,
        records::{FileRecord, later, new_file_id, now_ms},
    },
    wire::batches::FilePurpose,
};

/// How much of a file is written at once.
const WRITE_BYTES: usize = 256 << 10;

/// A file that arrives. Dropping it removes what was written.
pub(super) struct Upload {
    store: Arc<FileStore>,
    tenant: Option<TenantId>,
    id: String,
    /// `None` while it is being written to, and after a failure.
    file: Option<Part>,
    bytes: u64,
}

impl Upload {
    pub(super) fn begin(store: Arc<FileStore>, tenant: Option<TenantId>) -> Result<Self> {
        store.begin_upload(&tenant)?;
        Ok(Self { store, tenant, id: new_file_id(), file: None, bytes: 0 })
    }

    fn part(&self) -> PathBuf {
        self.store.content(&self.id).with_extension("part")
    }

    /// Writes the content of the file.
    pub(super) async fn take(&mut self, mut field: Field<'_>, ahead: &AtomicUsize) -> Result<()> {
        let (path, free) = (self.part(), self.store.limits().free_bytes);
        let directory = self.store.directory().to_owned();
        let created = blocking(move || {
            disk::check_free(&directory, free).map_err(|cause| disk::failed(&directory, cause))?;
            let file = open_own(&path, File::options().write(true).create_new(true))
                .map_err(|cause| disk::failed(&path, cause))?;
            Ok(Part { file, path })
        });
        self.file = Some(created.await?);
        let mut buffer = Vec::new();
        while let Some(chunk) = field.chunk().await.map_err(malformed)? {
            ahead.store(0, Ordering::Relaxed);
            let (most, bytes) = (self.store.limits().file_bytes, chunk.len() as u64);
            if self.bytes + bytes > most {
                let message = format!("the file is larger than {most} bytes");
                return Err(
                    Error::for_client(ErrorKind::PayloadTooLarge, message).with_param("file")
                );
            }
            self.store.take_bytes(&self.tenant, bytes)?;
            self.bytes += bytes;
            buffer.extend_from_slice(&chunk);
            if buffer.len() >= WRITE_BYTES {
                self.write(std::mem::take(&mut buffer)).await?;
            }
        }
        self.write(buffer).await
    }

    async fn write(&mut self, buffer: Vec<u8>) -> Result<()> {
        let free = self.store.limits().free_bytes;
        let Some(mut part) = self.file.take() else { return Ok(()) };
        let written = blocking(move || {
            disk::check_free(&part.path, free)
                .and_then(|()| part.file.write_all(&buffer))
                .map_err(|cause| disk::failed(&part.path, cause))?;
            Ok(part)
        });
        self.file = Some(written.await?);
        Ok(())
    }

    /// Checks the form, and adds the file.
    pub(super) async fn finish(&mut self, form: Form) -> Result<FileRecord> {
        let (filename, lifetime) = form.check(self.store.limits().retention)?;
        let now = now_ms();
        let record = FileRecord {
            id: self.id.clone(),
            tenant: self.tenant.clone(),
            filename,
            purpose: FilePurpose::Batch,
            bytes: self.bytes,
            created_at_ms: now,
            expires_at_ms: later(now, lifetime),
        };
        let (part, content) = (self.file.take(), self.store.content(&self.id));
        let kept = blocking(move || {
            let kept = part.map_or(Ok(()), |part| {
                part.file.sync_all().and_then(|()| std::fs::rename(&part.path, &content))
            });
            kept.and_then(|()| disk::sync_parent(&content))
                .map_err(|cause| disk::failed(&content, cause))
        });
        kept.await?;
        if let Err(error) = self.store.add(record.clone()).await {
            let _ = disk::remove(&self.store.content(&self.id));
            return Err(error);
        }
        Ok(record)
    }
}

/// The content of a file that arrives. Dropping it removes it if it has not been renamed: also if the client disconnects
/// while it is being created, and nobody waits for it.
struct Part {
    file: File,
    path: PathBuf,
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Err(cause) = disk::remove(&self.path) {
            tracing::warn!(path = %self.path.display(), %cause, "an unfinished upload cannot be removed");
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.file = None;
        // It is there only if the upload has failed or its client is gone.
        if let Err(cause) = disk::remove(&self.part()) {
            tracing::warn!(file = self.id, %cause, "an unfinished upload cannot be removed");
        }
        self.store.end_upload(&self.tenant, self.bytes);
    }
}
