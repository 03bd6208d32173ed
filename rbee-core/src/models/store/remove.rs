//! Removal of models.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::{ModelStore, Shared, StoreError, lock, record::StoreEntry, scan::names};
use crate::{
    error::Result,
    model_ref::{ModelRef, ModelSource},
    models::{disk::Lock, files::blocking},
};

impl ModelStore {
    /// Removes the model from the disk; no error if it is not there. Of a model in the hub's cache, only files are
    /// removed that no other model of this store and no other snapshot needs.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if it is in use or being fetched.
    pub async fn remove(&self, model: &ModelRef) -> Result<()> {
        let (shared, model) = (self.shared.clone(), model.clone());
        blocking(move || {
            if lock(&shared.fetches).has(&model) {
                return Err(StoreError::BeingFetched(model).into());
            }
            let Some(_fetch) = Lock::try_exclusive(&shared.fetch_lock(&model))? else {
                return Err(StoreError::BeingFetched(model).into());
            };
            match shared.try_remove(&model)? {
                true => Ok(()),
                false => Err(StoreError::InUse(model).into()),
            }
        })
        .await
    }
}

impl Shared {
    /// Removes it unless it is in use. Returns true if it was removed.
    fn try_remove(&self, model: &ModelRef) -> Result<bool> {
        let Some(_use) = Lock::try_exclusive(&self.use_lock(model))? else {
            return Ok(false);
        };
        self.remove_locked(model)?;
        Ok(true)
    }

    /// Removes it. The caller holds the exclusive lock on its use.
    pub(super) fn remove_locked(&self, model: &ModelRef) -> Result<()> {
        let _store = self.lock()?;
        let entries = self.entries();
        if let Some(entry) = entries.iter().find(|entry| entry.model == *model) {
            match entry.copied {
                true => self.remove_copy(entry)?,
                false => self.remove_from_hub_cache(entry, &entries)?,
            }
            self.forget_use(model)?;
            self.tell();
        }
        Ok(())
    }

    /// Removes the leftover files of a failed download, unless a snapshot uses them or another download of the
    /// repository is running.
    #[cfg(feature = "hub")]
    pub(super) fn remove_unfinished(
        &self,
        model: &ModelRef,
        transfer: &crate::models::hub::Transfer,
    ) -> Result<()> {
        let of = |model: &ModelRef| match model.source() {
            ModelSource::Hub { org, repo, .. } => Some((org.to_owned(), repo.to_owned())),
            _ => None,
        };
        let _store = self.lock()?;
        let under_way = lock(&self.fetches).progress();
        if under_way.iter().any(|(other, _)| other != model && of(other) == of(model)) {
            return Ok(());
        }
        let linked = linked(&transfer.repository.join("snapshots"))?;
        transfer.resolved.wanted().iter().try_for_each(|file| {
            let is_linked = linked.contains(std::ffi::OsStr::new(&file.check.name()));
            transfer.discard(&transfer.want(file), is_linked)
        })
    }

    /// Removes the reference from the copy, and the copy together with its last reference.
    pub(super) fn remove_copy(&self, entry: &StoreEntry) -> Result<()> {
        let mut record = entry.record.clone();
        record.models.retain(|model| *model != entry.model);
        if !record.models.is_empty() {
            return record.write(&self.disk, &entry.at);
        }
        let dir = self.copy_dir(&record.manifest.digest());
        let trash = self.dir.join("trash").join(uuid::Uuid::new_v4().simple().to_string());
        self.disk.rename(&dir, &trash)?;
        Ok(self.disk.remove_tree(&trash)?)
    }

    /// The record is removed last: after an interruption the model is incomplete, and can be removed again.
    fn remove_from_hub_cache(&self, entry: &StoreEntry, entries: &[StoreEntry]) -> Result<()> {
        let others = entries.iter().filter(|other| other.root == entry.root);
        let needed: BTreeSet<&str> = others
            .filter(|other| other.model != entry.model)
            .flat_map(|other| other.record.manifest.files())
            .map(|file| file.path.as_str())
            .collect();
        let ModelSource::Hub { org, repo, revision: Some(commit), .. } = entry.model.source()
        else {
            return Ok(self.disk.remove_file(&entry.at)?);
        };
        let repository = self.repository(org, repo);
        let mut blobs = Vec::new();
        for file in entry.record.manifest.files() {
            if needed.contains(file.path.as_str()) {
                continue;
            }
            let link = entry.root.join(&file.path);
            blobs.extend(
                fs::read_link(&link).ok().and_then(|blob| Some(blob.file_name()?.to_owned())),
            );
            // After an interrupted removal the link may be gone while the blob still exists.
            blobs.push(file.sha256.hex().into());
            self.disk.remove_file(&link)?;
            remove_empty(link.parent(), &entry.root);
        }
        let linked = linked(&repository.join("snapshots"))?;
        for blob in blobs.iter().filter(|blob| !linked.contains(*blob)) {
            self.disk.remove_file(&repository.join("blobs").join(blob))?;
        }
        if !entry.root.exists() {
            for name in refs_to(&repository.join("refs"), commit) {
                self.disk.remove_file(&name)?;
            }
        }
        Ok(self.disk.remove_file(&entry.at)?)
    }
}

/// Removes the directory and its parents, up to and including `top`, as far as they are empty.
fn remove_empty(mut directory: Option<&Path>, top: &Path) {
    while let Some(empty) = directory.filter(|directory| directory.starts_with(top)) {
        if fs::remove_dir(empty).is_err() {
            return;
        }
        directory = empty.parent();
    }
}

/// The names of all blobs that any snapshot links to. A directory that cannot be read may link to any blob, so it is a
/// failure.
fn linked(snapshots: &Path) -> Result<BTreeSet<std::ffi::OsString>> {
    let mut linked = BTreeSet::new();
    let mut directories = vec![snapshots.to_owned()];
    while let Some(directory) = directories.pop() {
        let failed = crate::models::disk::failed;
        let entries = match fs::read_dir(&directory) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(failed("read", &directory))?,
        };
        for entry in entries {
            let entry = entry.map_err(failed("read", &directory))?;
            let kind = entry.file_type().map_err(failed("read", &directory))?;
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_symlink() {
                let path = entry.path();
                let blob = fs::read_link(&path).map_err(failed("read", &path))?;
                linked.extend(blob.file_name().map(ToOwned::to_owned));
            }
        }
    }
    Ok(linked)
}

/// The files below this directory that contain this commit.
fn refs_to(directory: &Path, commit: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for path in names(&directory) {
            if path.is_dir() {
                directories.push(path);
            } else if fs::read_to_string(&path).is_ok_and(|is| is.trim() == commit) {
                found.push(path);
            }
        }
    }
    found
}
