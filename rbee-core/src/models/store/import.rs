//! Copies from other places: complete, or file by file as another machine sends them.

use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use tokio::time::timeout;

use super::{ModelStore, Shared, StoreError, StoredModel, record::Record};
use crate::{
    digest::Digest,
    error::Result,
    model_ref::{ModelRef, ModelSource},
    models::{
        Manifest, ModelFile, ModelFiles,
        disk::{self, Lock, failed, file_size},
        files::blocking,
    },
    progress::{Progress, ProgressUpdate},
};

/// A copy that was begun, with its existing files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Its identifier for [`ModelStore::write`] and [`ModelStore::finish`].
    pub digest: Digest,
    /// Every file with the number of its existing bytes, in the order of the manifest. The rest must be written.
    pub files: Vec<(ModelFile, u64)>,
}

impl Begun {
    /// The number of existing bytes.
    pub fn done(&self) -> u64 {
        self.files.iter().map(|(_, there)| there).sum()
    }
}

impl ModelStore {
    /// Copies the model from another place. Existing data is not read again, and the checksum of every file is compared
    /// before the model is registered. There is only one copy per model: all callers attach to it, and it continues
    /// when they disconnect.
    ///
    /// # Errors
    /// Those of [`begin`](Self::begin) and [`finish`](Self::finish), those of the source, and
    /// [`ErrorKind::HubUnreachable`](crate::ErrorKind::HubUnreachable) if the source delivers nothing for
    /// [`StoreOptions::stall`](crate::models::StoreOptions::stall). The data received until then is kept.
    pub async fn import(
        &self,
        model: &ModelRef,
        from: Arc<dyn ModelFiles>,
        progress: Progress,
    ) -> Result<StoredModel> {
        not_an_alias(model)?;
        let (store, to_be) = (self.clone(), model.clone());
        let work = |progress| async move { store.copy(&to_be, &*from, &progress).await };
        self.shared.fetch(model, &progress, work).await.0
    }

    async fn copy(
        &self,
        model: &ModelRef,
        from: &dyn ModelFiles,
        progress: &Progress,
    ) -> Result<StoredModel> {
        let shared = self.shared.clone();
        let (manifest, total) = (from.manifest().clone(), Some(from.manifest().bytes()));
        let there = {
            let (shared, manifest) = (shared.clone(), manifest.clone());
            move || ProgressUpdate { done: shared.there(&manifest), total }
        };
        let at = shared.fetch_lock(model);
        let _right = shared.right_to_fetch(model, &at, progress, there).await?;
        let begin = {
            let (shared, model) = (shared.clone(), model.clone());
            move || {
                let done = shared.there(&manifest);
                let room = shared.make_room(&model, manifest.bytes(), done, None)?;
                Ok((shared.begin_copy(&model, &manifest)?, room))
            }
        };
        let (begun, _room) = blocking(begin).await?;
        let mut done = begun.done();
        progress.update(done, total);
        for (file, there) in &begun.files {
            if *there == file.bytes {
                continue;
            }
            let source = from.read(&file.path, *there);
            let Ok(source) = timeout(shared.options.stall, source).await else {
                return Err(shared.stalled(model, &file.path));
            };
            let tell = |bytes| {
                done += bytes;
                progress.update(done, total);
            };
            shared.write(model, &begun.digest, file, *there, source?, tell).await?;
        }
        self.finish_copy(&begun.digest, progress).await
    }

    /// Begins to receive a model that another machine sends, or continues to: frees space, and returns what exists
    /// already. After that, [write](Self::write) every file, and [finish](Self::finish) the model.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) for an alias,
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage) if the disk or its budget is too small, and
    /// [`ErrorKind::DiskInUse`](crate::ErrorKind::DiskInUse) if models in use take too much of the budget; with the
    /// figures.
    pub async fn begin(&self, model: &ModelRef, manifest: &Manifest) -> Result<Begun> {
        not_an_alias(model)?;
        let (shared, model, manifest) = (self.shared.clone(), model.clone(), manifest.clone());
        blocking(move || {
            let _room =
                shared.make_room(&model, manifest.bytes(), shared.there(&manifest), None)?;
            shared.begin_copy(&model, &manifest)
        })
        .await
    }

    /// Writes bytes of one file from this offset on, which must not be beyond the existing bytes; bytes after the
    /// offset are overwritten. Returns the number of existing bytes, also after a stream that ended early.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if no such copy was begun or it has no such file,
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if the offset would leave a gap or another caller writes the
    /// file, [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) if the stream has more bytes than the
    /// file, and the first failure of the stream. The data received until then is kept.
    pub async fn write(
        &self,
        digest: &Digest,
        file: &str,
        at: u64,
        bytes: impl Stream<Item = Result<Bytes>> + Send + Unpin,
    ) -> Result<u64> {
        let (shared, wanted, digest) = (self.shared.clone(), file.to_owned(), *digest);
        let begun = blocking(move || shared.begun(&digest)).await?;
        let Some(file) = begun.manifest.file(&wanted) else {
            return Err(StoreError::NoFile(wanted).into());
        };
        // A record always has a reference.
        let Some(model) = begun.models.first() else {
            return Err(StoreError::NotBegun(digest).into());
        };
        self.shared.write(model, &digest, file, at, bytes, |_| {}).await
    }

    /// Compares the checksum of every written file, and registers the model.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if no such copy was begun,
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if a file is not complete, is being written, or the
    /// reference belongs to other content that is in use, and
    /// [`ErrorKind::ModelIncompatible`](crate::ErrorKind::ModelIncompatible) if a file does not match the manifest: it
    /// is named and kept apart, and the others stay.
    pub async fn finish(&self, digest: &Digest, progress: Progress) -> Result<StoredModel> {
        self.finish_copy(digest, &progress).await
    }

    async fn finish_copy(&self, digest: &Digest, progress: &Progress) -> Result<StoredModel> {
        let (shared, digest, progress) = (self.shared.clone(), *digest, progress.clone());
        blocking(move || shared.finish(&digest, &progress)).await
    }
}

fn not_an_alias(model: &ModelRef) -> Result<()> {
    match model.source() {
        ModelSource::Alias(_) => Err(StoreError::Alias(model.clone()).into()),
        _ => Ok(()),
    }
}

impl Shared {
    fn part_dir(&self, digest: &Digest) -> PathBuf {
        self.dir.join("parts").join(digest.hex())
    }

    fn stalled(&self, model: &ModelRef, file: &str) -> crate::error::Error {
        let (model, file, after) = (model.clone(), file.to_owned(), self.options.stall.as_secs());
        StoreError::Stalled { model, file, after }.into()
    }

    /// The number of existing bytes of this content, in the copy and in its unfinished part.
    fn there(&self, manifest: &Manifest) -> u64 {
        let digest = manifest.digest();
        manifest.files().iter().map(|file| self.file_there(&digest, file)).sum()
    }

    fn file_there(&self, digest: &Digest, file: &ModelFile) -> u64 {
        let copy = self.copy_dir(digest).join("files").join(&file.path);
        if file_size(&copy) == Some(file.bytes) {
            return file.bytes;
        }
        let part = self.part_dir(digest).join("files").join(&file.path);
        // A part that is too long is ignored.
        file_size(&part).filter(|there| *there <= file.bytes).unwrap_or(0)
    }

    fn begin_copy(&self, model: &ModelRef, manifest: &Manifest) -> Result<Begun> {
        let digest = manifest.digest();
        let part = self.part_dir(&digest);
        let _lock = self.lock()?;
        self.disk.create_dir(&part)?;
        let mut record = Record::new(model.clone(), manifest.clone(), true);
        if let Some(before) = Record::read(&part.join("record.json")) {
            record.models.extend(before.models.into_iter().filter(|other| other != model));
        }
        record.write(&self.disk, &part.join("record.json"))?;
        self.disk.create_dir(&part.join("files"))?;
        let there = |file: &ModelFile| (file.clone(), self.file_there(&digest, file));
        Ok(Begun { digest, files: manifest.files().iter().map(there).collect() })
    }

    fn begun(&self, digest: &Digest) -> Result<Record> {
        let record = Record::read(&self.part_dir(digest).join("record.json"));
        Ok(record
            .filter(|record| record.manifest.digest() == *digest)
            .ok_or(StoreError::NotBegun(*digest))?)
    }

    async fn write(
        self: &Arc<Self>,
        model: &ModelRef,
        digest: &Digest,
        file: &ModelFile,
        at: u64,
        mut bytes: impl Stream<Item = Result<Bytes>> + Send + Unpin,
        mut tell: impl FnMut(u64) + Send,
    ) -> Result<u64> {
        let path = self.part_dir(digest).join("files").join(&file.path);
        let (shared, wanted) = (self.clone(), file.clone());
        let mut open = {
            let path = path.clone();
            blocking(move || shared.open_part(&path, &wanted, at)).await?
        };
        let mut there = at;
        loop {
            let Ok(next) = timeout(self.options.stall, bytes.next()).await else {
                return Err(self.stalled(model, &file.path));
            };
            let Some(chunk) = next.transpose()? else { break };
            let end = there.saturating_add(chunk.len() as u64);
            if end > file.bytes {
                let (file, bytes) = (file.path.clone(), file.bytes);
                return Err(StoreError::Long { file, bytes }.into());
            }
            let (shared, path) = (self.clone(), path.clone());
            let write = move || {
                shared.disk.write(&mut open, &path, &chunk)?;
                Ok((open, chunk.len() as u64))
            };
            let (file, written) = blocking(write).await?;
            open = file;
            there = end;
            tell(written);
        }
        blocking(move || Ok(open.sync_all().map_err(failed("sync", &path))?)).await?;
        Ok(there)
    }

    /// Opens the part of a file to write from `at` on; nobody else can write it at the same time.
    fn open_part(&self, path: &Path, file: &ModelFile, at: u64) -> Result<File> {
        if let Some(parent) = path.parent() {
            self.disk.create_dir(parent)?;
        }
        let open = self.disk.append(path)?;
        if open.try_lock().is_err() {
            return Err(StoreError::Busy { file: file.path.clone() }.into());
        }
        let mut there = open.metadata().map_err(failed("open", path))?.len();
        if there > file.bytes {
            self.disk.truncate(&open, path, 0)?;
            there = 0;
        }
        if at > there {
            return Err(StoreError::Gap { file: file.path.clone(), there, at }.into());
        }
        if at < there {
            self.disk.truncate(&open, path, at)?;
        }
        Ok(open)
    }

    fn finish(&self, digest: &Digest, progress: &Progress) -> Result<StoredModel> {
        let begun = self.begun(digest)?;
        let part = self.part_dir(digest).join("files");
        let copy = self.copy_dir(digest).join("files");
        let total = begun.manifest.bytes();
        let mut written = Vec::new();
        for file in begun.manifest.files() {
            if file_size(&copy.join(&file.path)) == Some(file.bytes) {
                continue;
            }
            // Kept to the end: nobody can write the files that are being compared.
            written
                .push(self.compare(&begun, file, &part, || progress.update(total, Some(total)))?);
        }
        let lock = self.lock()?;
        self.register_copy(digest, &begun, &part, &copy)?;
        drop(lock);
        drop(written);
        self.tell();
        let model = begun.models.first().ok_or(StoreError::NotBegun(*digest))?;
        let entry = self.entry(model).ok_or_else(|| StoreError::Unknown(model.clone()))?;
        Ok(self.stored(&entry))
    }

    /// Compares the checksum of a written file, and syncs it to the disk.
    fn compare(
        &self,
        begun: &Record,
        file: &ModelFile,
        part: &Path,
        tell: impl Fn(),
    ) -> Result<File> {
        let at = part.join(&file.path);
        if file.bytes == 0 && !at.exists() {
            // For an empty file nothing was sent.
            drop(self.open_part(&at, file, 0)?);
        }
        let there = file_size(&at).unwrap_or(0);
        if there != file.bytes {
            let (file, bytes) = (file.path.clone(), file.bytes);
            return Err(StoreError::Short { file, there, bytes }.into());
        }
        let open = File::options().read(true).write(true).open(&at).map_err(failed("open", &at))?;
        if open.try_lock().is_err() {
            return Err(StoreError::Busy { file: file.path.clone() }.into());
        }
        open.sync_all().map_err(failed("sync", &at))?;
        self.disk.sync_up(&at, part)?;
        let found = disk::hash(&at, |_| tell())?;
        if found == file.sha256 {
            return Ok(open);
        }
        let kept = self.keep_apart(&at, &file.path)?;
        let model = begun.models.first().ok_or(StoreError::NotBegun(begun.manifest.digest()))?;
        Err(StoreError::Damaged {
            model: model.clone(),
            file: file.path.clone(),
            found: found.to_string(),
            expected: file.sha256.to_string(),
            kept,
        }
        .into())
    }

    /// Moves a damaged file to a directory from which it is never served.
    pub(in crate::models) fn keep_apart(&self, at: &Path, file: &str) -> Result<PathBuf> {
        let name = file.rsplit('/').next().unwrap_or(file);
        let unique = uuid::Uuid::new_v4().simple();
        let kept = self.dir.join("damaged").join(format!("{unique}-{name}"));
        self.disk.rename(at, &kept)?;
        Ok(kept)
    }

    /// Turns the part into a model. The caller holds the store's lock.
    fn register_copy(
        &self,
        digest: &Digest,
        begun: &Record,
        part: &Path,
        copy: &Path,
    ) -> Result<()> {
        let record = self.copy_dir(digest).join("record.json");
        let mut uses = Vec::new();
        for model in &begun.models {
            // The reference may have belonged to other content until now.
            let before = self.entries().into_iter().filter(|entry| entry.model == *model);
            let before: Vec<_> = before.filter(|entry| entry.at != record).collect();
            if before.is_empty() {
                continue;
            }
            let Some(lock) = Lock::try_exclusive(&self.use_lock(model))? else {
                return Err(StoreError::InUse(model.clone()).into());
            };
            uses.push((lock, before));
        }
        match Record::read(&record) {
            None => {
                // A directory without a readable record is not a model.
                if self.copy_dir(digest).exists() {
                    self.disk.remove_tree(&self.copy_dir(digest))?;
                }
                self.disk.rename(&self.part_dir(digest), &self.copy_dir(digest))?;
            }
            Some(mut known) => {
                for file in begun.manifest.files() {
                    let (from, to) = (part.join(&file.path), copy.join(&file.path));
                    if file_size(&to) == Some(file.bytes) {
                        continue;
                    }
                    to.parent().map_or(Ok(()), |parent| self.disk.create_dir(parent))?;
                    self.disk.rename(&from, &to)?;
                }
                let models: BTreeSet<_> =
                    known.models.drain(..).chain(begun.models.clone()).collect();
                known.models = models.into_iter().collect();
                known.write(&self.disk, &record)?;
                self.disk.remove_tree(&self.part_dir(digest))?;
            }
        }
        for model in &begun.models {
            self.touch(model);
        }
        uses.iter().flat_map(|(_, before)| before).try_for_each(|entry| match entry.copied {
            true => self.remove_copy(entry),
            // This copy must not remove files in the hub's cache.
            false => Ok(self.disk.remove_file(&entry.at)?),
        })
    }
}
