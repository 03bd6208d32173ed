//! The files: what is known of them, who may see them, and how much of them there is.
//!
//! A file is two files on the disk: its content, and its record. The record is written last and removed first, so content
//! without a record is of no use, and is removed at the next start.

mod guards;
mod room;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rbee_core::{Error, ErrorKind, Result, TenantId};

use super::{
    BatchLimits,
    disk::{self, blocking},
    records::FileRecord,
};
use crate::server::queen::caller::Caller;
pub(super) use guards::{Reading, ResultRoom};
use room::Held;

/// The files of a directory.
#[derive(Debug)]
pub(super) struct FileStore {
    directory: PathBuf,
    limits: BatchLimits,
    state: Mutex<State>,
}

/// The files of the batches that have not ended.
#[derive(Debug, Default)]
pub(super) struct FilesOfBatches {
    /// The input file of each batch.
    pub(super) inputs: Vec<String>,
    /// The files that they write to, which have no records yet.
    pub(super) outputs: HashSet<String>,
    /// False if there are batches whose records cannot be read.
    pub(super) are_all: bool,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<String, FileRecord>,
    /// How many batches read each file.
    readers: HashMap<String, usize>,
    /// What each tenant has; `None` is the operator.
    held: HashMap<Option<TenantId>, Held>,
    /// The uploads of all tenants. Those of the operator do not count, so that tenants cannot lock it out.
    uploads: usize,
}

impl State {
    fn get(&self, caller: &Caller, id: &str) -> Result<FileRecord> {
        let found = self.files.get(id).filter(|file| sees(caller, &file.tenant));
        found.cloned().ok_or_else(|| missing(id))
    }

    fn insert(&mut self, record: FileRecord) {
        let held = self.held.entry(record.tenant.clone()).or_default();
        held.files += 1;
        held.bytes = held.bytes.saturating_add(record.bytes);
        self.files.insert(record.id.clone(), record);
    }

    /// Changes what a tenant has. A tenant that has nothing is removed.
    fn change(&mut self, tenant: &Option<TenantId>, change: impl FnOnce(&mut Held)) {
        if let Some(held) = self.held.get_mut(tenant) {
            change(held);
            if *held == Held::default() {
                self.held.remove(tenant);
            }
        }
    }
}

impl FileStore {
    /// Reads the records of a directory. If all batches are known, content that belongs to nothing is removed.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the directory cannot be read.
    pub(super) fn open(
        directory: PathBuf,
        limits: BatchLimits,
        batches: &FilesOfBatches,
    ) -> Result<Self> {
        let (records, _) = disk::read_records::<FileRecord>(&directory)?;
        let mut state = State::default();
        for record in records {
            state.insert(record);
        }
        for id in &batches.inputs {
            *state.readers.entry(id.clone()).or_default() += 1;
        }
        let store = Self { directory, limits, state: Mutex::new(state) };
        store.remove_leftovers(batches)?;
        Ok(store)
    }

    /// Removes what a killed process left: unfinished uploads and records, and content without a record.
    fn remove_leftovers(&self, batches: &FilesOfBatches) -> Result<()> {
        let failed = |cause| disk::unusable(&self.directory, cause);
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let extension = path.extension().unwrap_or_default();
            let id = path.file_stem().and_then(|id| id.to_str());
            let is_output = id.is_some_and(|id| batches.outputs.contains(id));
            let is_leftover = match extension.to_str() {
                Some("part" | "new") => true,
                Some("jsonl") => {
                    batches.are_all && !is_output && !path.with_extension("json").exists()
                }
                _ => false,
            };
            if is_leftover {
                disk::remove(&path).map_err(|cause| disk::unusable(&path, cause))?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here can panic in the middle of a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn limits(&self) -> &BatchLimits {
        &self.limits
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The path of the content of a file.
    pub(super) fn content(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.jsonl"))
    }

    fn record(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }

    /// A file that the caller may see.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], also for a file of another tenant.
    pub(super) fn get(&self, caller: &Caller, id: &str) -> Result<FileRecord> {
        self.lock().get(caller, id)
    }

    /// The files that the caller may see, the newest first.
    pub(super) fn list(&self, caller: &Caller) -> Vec<FileRecord> {
        let state = self.lock();
        let seen = state.files.values().filter(|file| sees(caller, &file.tenant));
        let mut files: Vec<_> = seen.cloned().collect();
        drop(state);
        files.sort_unstable_by(|a, b| (b.created_at_ms, &b.id).cmp(&(a.created_at_ms, &a.id)));
        files
    }

    /// Adds a file whose content is complete. Does nothing if it was added before.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`].
    pub(super) async fn add(&self, record: FileRecord) -> Result<()> {
        if self.lock().files.contains_key(&record.id) {
            return Ok(());
        }
        let path = self.record(&record.id);
        let json = serde_json::to_vec(&record).map_err(|cause| {
            Error::new(ErrorKind::Internal, format!("the record of a file: {cause}"))
        })?;
        blocking(move || disk::write_atomically(&path, &json)).await?;
        self.lock().insert(record);
        Ok(())
    }

    /// Notes that a batch reads this file, which is then not removed.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(super) fn begin_reading(&self, caller: &Caller, id: &str) -> Result<FileRecord> {
        let mut state = self.lock();
        let record = state.get(caller, id)?;
        *state.readers.entry(id.to_owned()).or_default() += 1;
        Ok(record)
    }

    /// Notes that a batch no longer reads this file.
    pub(super) fn end_reading(&self, id: &str) {
        let mut state = self.lock();
        if let Some(count) = state.readers.get_mut(id) {
            *count -= 1;
            if *count == 0 {
                state.readers.remove(id);
            }
        }
    }

    /// Removes a file.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`ErrorKind::Conflict`] if a batch reads it; [`ErrorKind::Storage`].
    pub(super) async fn remove(&self, caller: &Caller, id: &str) -> Result<()> {
        let record = self.get(caller, id)?;
        self.take_out(&record)?;
        let (content, path) = (self.content(id), self.record(id));
        let removed = blocking(move || {
            disk::remove(&path).map_err(|cause| disk::failed(&path, cause))?;
            disk::remove(&content).map_err(|cause| disk::failed(&content, cause))
        });
        if let Err(error) = removed.await {
            // It can be removed again.
            self.lock().insert(record);
            return Err(error);
        }
        Ok(())
    }

    fn take_out(&self, record: &FileRecord) -> Result<()> {
        let mut state = self.lock();
        if state.readers.contains_key(&record.id) {
            let message = format!(
                "file {} is the input of a batch that has not ended; cancel the batch, or wait for its end",
                record.id
            );
            return Err(Error::for_client(ErrorKind::Conflict, message).with_param("id"));
        }
        // Another request may have removed it meanwhile.
        if state.files.remove(&record.id).is_some() {
            state.change(&record.tenant, |held| {
                held.files = held.files.saturating_sub(1);
                held.bytes = held.bytes.saturating_sub(record.bytes);
            });
        }
        Ok(())
    }

    /// The tenants that have files or upload one.
    pub(super) fn tenants(&self) -> BTreeSet<TenantId> {
        self.lock().held.keys().flatten().cloned().collect()
    }

    /// Removes the files of a tenant that no batch reads.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`] if one cannot be removed.
    pub(super) async fn remove_of(&self, tenant: &TenantId) -> Result<()> {
        for file in self.list(&Caller::Tenant(tenant.clone())) {
            match self.remove(&Caller::Operator, &file.id).await {
                Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {
                }
                removed => removed?,
            }
        }
        Ok(())
    }

    /// The ids of the files that have expired by then and that no batch reads.
    pub(super) fn expired(&self, now_ms: u64) -> Vec<String> {
        let state = self.lock();
        let expired = state
            .files
            .values()
            .filter(|file| file.expires_at_ms <= now_ms && !state.readers.contains_key(&file.id));
        expired.map(|file| file.id.clone()).collect()
    }
}

/// The error for a file that does not exist.
pub(super) fn missing(id: &str) -> Error {
    let shown: String = id.chars().take(60).collect();
    Error::for_client(ErrorKind::NotFound, format!("file {shown:?} does not exist"))
        .with_param("id")
}

/// True if the caller may see the things of this tenant: the operator sees all.
pub(super) fn sees(caller: &Caller, owner: &Option<TenantId>) -> bool {
    caller.tenant().is_none_or(|tenant| owner.as_ref() == Some(tenant))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{server::queen::batches::records::new_file_id, wire::batches::FilePurpose};

    fn open(directory: &Path, output: Option<&str>, are_all: bool) -> FileStore {
        let limits = BatchLimits { tenant_files: 3, ..BatchLimits::default() };
        let outputs = output.into_iter().map(str::to_owned).collect();
        let batches = FilesOfBatches { outputs, are_all, ..FilesOfBatches::default() };
        FileStore::open(directory.to_owned(), limits, &batches).unwrap()
    }

    fn file(tenant: Option<&str>, expires_at_ms: u64) -> FileRecord {
        FileRecord {
            id: new_file_id(),
            tenant: tenant.map(|tenant| TenantId::new(tenant).unwrap()),
            filename: "a.jsonl".into(),
            purpose: FilePurpose::Batch,
            bytes: 5,
            created_at_ms: 1,
            expires_at_ms,
        }
    }

    #[tokio::test]
    async fn what_a_killed_process_left_is_removed_and_what_is_in_use_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let record = file(None, 100);
        let store = open(path, None, true);
        store.add(record.clone()).await.unwrap();
        drop(store);
        let names = [
            format!("{}.jsonl", record.id),
            "file-1.part".into(),
            "file-2.new".into(),
            "file-3.jsonl".into(),
            "file-4.jsonl".into(),
        ];
        for name in &names {
            fs::write(path.join(name), "x").unwrap();
        }
        open(path, Some("file-3"), false);
        assert!(path.join("file-4.jsonl").exists(), "a batch that cannot be read may need it");
        let store = open(path, Some("file-3"), true);
        assert_eq!(store.list(&Caller::Operator), [record]);
        let left = names.map(|name| path.join(name).exists());
        assert_eq!(left, [true, false, false, true, false]);
    }

    #[tokio::test]
    async fn a_tenant_gets_back_the_room_of_files_that_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path(), None, true);
        let acme = Caller::Tenant(TenantId::new("acme").unwrap());
        let records = [file(Some("acme"), 100), file(Some("acme"), 200)];
        for record in &records {
            store.add(record.clone()).await.unwrap();
            // A batch that is taken up again adds its output file again.
            store.add(record.clone()).await.unwrap();
        }
        let tenant = &records[0].tenant;
        store.begin_upload(tenant).unwrap();
        let full = store.begin_upload(tenant).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::QuotaExceeded);
        store.end_upload(tenant, 0);
        store.begin_reading(&acme, &records[0].id).unwrap();
        let used = store.remove(&acme, &records[0].id).await.unwrap_err();
        assert_eq!(used.kind(), ErrorKind::Conflict);
        assert_eq!(store.expired(150), [""; 0], "a batch reads it");
        store.end_reading(&records[0].id);
        assert_eq!(store.expired(150), [records[0].id.clone()]);
        for record in &records {
            store.remove(&acme, &record.id).await.unwrap();
        }
        assert!(store.lock().held.is_empty());
        assert!(store.get(&acme, &records[0].id).is_err());
    }
}
