//! The batches: what is known of them, and which of them run.
//!
//! What is known of a batch is what is on the disk, except for the number of its results, which is counted again after a
//! restart.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rbee_core::{Error, ErrorKind, Result, TenantId};
use tokio_util::sync::CancellationToken;

use super::{
    BatchLimits,
    disk::{self, blocking, to_the_end},
    file_store::{FilesOfBatches, sees},
    records::{BatchRecord, later},
};
use crate::{
    server::queen::caller::Caller,
    wire::batches::{BatchStatus, RequestCounts},
};

/// The batches of a tenant that are kept after their end.
const MOST_ENDED: usize = 1_000;

/// The batches of a directory.
#[derive(Debug)]
pub(super) struct BatchStore {
    directory: PathBuf,
    limits: BatchLimits,
    /// True if the records of all batches could be read.
    is_whole: bool,
    /// Held by whoever adds a batch.
    adding: tokio::sync::Mutex<()>,
    state: Mutex<HashMap<String, BatchEntry>>,
}

#[derive(Debug)]
struct BatchEntry {
    record: BatchRecord,
    /// Held by whoever changes the record.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Cancelled when the batch is to be cancelled.
    cancel: CancellationToken,
    /// True if it has a runner.
    runs: bool,
}

impl BatchEntry {
    fn new(record: BatchRecord) -> Self {
        let cancel = CancellationToken::new();
        if record.status == BatchStatus::Cancelling {
            cancel.cancel();
        }
        Self { record, turn: Arc::default(), cancel, runs: false }
    }
}

impl BatchStore {
    /// Reads the records of a directory.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it cannot be read.
    pub(super) fn open(directory: PathBuf, limits: BatchLimits) -> Result<Self> {
        let (records, is_whole) = disk::read_records::<BatchRecord>(&directory)?;
        let entries =
            records.into_iter().map(|record| (record.id.clone(), BatchEntry::new(record)));
        let state = Mutex::new(entries.collect());
        Ok(Self { directory, limits, is_whole, adding: tokio::sync::Mutex::default(), state })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, BatchEntry>> {
        // Nothing in here can panic in the middle of a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }

    /// The files of the batches that have not ended.
    pub(super) fn files(&self) -> FilesOfBatches {
        let state = self.lock();
        let mut files = FilesOfBatches { are_all: self.is_whole, ..FilesOfBatches::default() };
        let all = state.values().map(|entry| &entry.record);
        for batch in all.filter(|batch| !batch.status.is_ended()) {
            files.inputs.push(batch.input.clone());
            files.outputs.extend([batch.output.clone(), batch.error_output.clone()]);
        }
        files
    }

    /// A batch that the caller may see.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], also for a batch of another tenant.
    pub(super) fn get(&self, caller: &Caller, id: &str) -> Result<BatchRecord> {
        let state = self.lock();
        let found = state.get(id).map(|entry| &entry.record);
        found.filter(|batch| sees(caller, &batch.tenant)).cloned().ok_or_else(|| missing(id))
    }

    /// The batches that the caller may see, the newest first.
    pub(super) fn list(&self, caller: &Caller) -> Vec<BatchRecord> {
        let state = self.lock();
        let all = state.values().map(|entry| &entry.record);
        let mut seen: Vec<_> = all.filter(|batch| sees(caller, &batch.tenant)).cloned().collect();
        drop(state);
        seen.sort_unstable_by(|a, b| (b.created_at_ms, &b.id).cmp(&(a.created_at_ms, &a.id)));
        seen
    }

    /// Adds a new batch.
    ///
    /// # Errors
    /// [`ErrorKind::RateLimited`] if its tenant has too many that have not ended, and [`ErrorKind::Storage`].
    pub(super) async fn add(&self, record: BatchRecord) -> Result<()> {
        let most = self.limits.tenant_batches;
        let _turn = self.adding.lock().await;
        let live = self.live(&record.tenant);
        if live >= most {
            let message = format!(
                "{live} batches have not ended; allowed are {most}. Wait until some have ended, or cancel them"
            );
            let error = Error::for_client(ErrorKind::RateLimited, message);
            return Err(error.with_retry_after(disk::RETRY_AFTER));
        }
        self.write(&record).await?;
        self.lock().insert(record.id.clone(), BatchEntry::new(record));
        Ok(())
    }

    /// The number of batches of a tenant that have not ended.
    fn live(&self, tenant: &Option<TenantId>) -> usize {
        let state = self.lock();
        let own = state.values().map(|entry| &entry.record);
        own.filter(|batch| batch.tenant == *tenant && !batch.status.is_ended()).count()
    }

    async fn write(&self, record: &BatchRecord) -> Result<()> {
        let path = self.path(&record.id);
        let json = serde_json::to_vec(record).map_err(|cause| {
            Error::new(ErrorKind::Internal, format!("the record of a batch: {cause}"))
        })?;
        blocking(move || disk::write_atomically(&path, &json)).await
    }

    /// Changes a batch, and returns the changed record once it is on the disk. A change that has begun is completed, also
    /// if the caller is gone: what is on the disk stays what is known.
    ///
    /// # Errors
    /// The error of `change`, [`ErrorKind::NotFound`], and [`ErrorKind::Storage`]; then nothing is changed.
    pub(super) async fn update(
        self: &Arc<Self>,
        id: &str,
        change: impl FnOnce(&mut BatchRecord) -> Result<()>,
    ) -> Result<BatchRecord> {
        self.update_then(id, change, || ()).await
    }

    /// The same; `then` is called when the changed record is on the disk, and before anyone can see it.
    ///
    /// # Errors
    /// As [`update`](Self::update); then `then` is not called.
    pub(super) async fn update_then(
        self: &Arc<Self>,
        id: &str,
        change: impl FnOnce(&mut BatchRecord) -> Result<()>,
        then: impl FnOnce() + Send + 'static,
    ) -> Result<BatchRecord> {
        let turn = self.lock().get(id).ok_or_else(|| missing(id))?.turn.clone();
        let turn = turn.lock_owned().await;
        let mut record = self.lock().get(id).ok_or_else(|| missing(id))?.record.clone();
        change(&mut record)?;
        let store = self.clone();
        to_the_end(async move {
            let _turn = turn;
            store.write(&record).await?;
            then();
            if let Some(entry) = store.lock().get_mut(&record.id) {
                // The counts may have changed while it was written, but not after the end of the run.
                if !record.status.is_ended() {
                    record.counts = entry.record.counts;
                }
                entry.record = record.clone();
            }
            Ok(record)
        })
        .await
    }

    /// Sets the numbers of requests, in memory only.
    pub(super) fn count(&self, id: &str, counts: RequestCounts) {
        if let Some(entry) = self.lock().get_mut(id) {
            entry.record.counts = counts;
        }
    }

    /// Has the runner of a batch cancel it.
    pub(super) fn cancel(&self, id: &str) {
        if let Some(entry) = self.lock().get(id) {
            entry.cancel.cancel();
        }
    }

    /// The tenants that have batches.
    pub(super) fn tenants(&self) -> BTreeSet<TenantId> {
        self.lock().values().filter_map(|entry| entry.record.tenant.clone()).collect()
    }

    /// The number of batches of a tenant that have not ended.
    pub(super) fn unfinished(&self, tenant: &TenantId) -> usize {
        let state = self.lock();
        let own = state.values().filter(|entry| entry.record.tenant.as_ref() == Some(tenant));
        own.filter(|entry| !entry.record.status.is_ended()).count()
    }

    /// Removes the batches of a tenant that have ended, and has those cancelled that have not.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`] if one cannot be removed.
    pub(super) async fn remove_of(self: &Arc<Self>, tenant: &TenantId) -> Result<()> {
        let own: Vec<(String, bool)> = {
            let state = self.lock();
            let own =
                state.iter().filter(|(_, entry)| entry.record.tenant.as_ref() == Some(tenant));
            own.map(|(id, entry)| (id.clone(), entry.record.status.is_ended())).collect()
        };
        for (id, is_over) in own {
            if is_over {
                self.remove(&id).await?;
                continue;
            }
            let cancel = |record: &mut BatchRecord| {
                if !record.status.is_ended() && record.status != BatchStatus::Cancelling {
                    record.enter(BatchStatus::Cancelling);
                }
                Ok(())
            };
            match self.update(&id, cancel).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                updated => drop(updated?),
            }
            self.cancel(&id);
        }
        Ok(())
    }

    /// Removes a batch that has ended.
    async fn remove(&self, id: &str) -> Result<()> {
        let path = self.path(id);
        blocking(move || disk::remove(&path).map_err(|cause| disk::failed(&path, cause))).await?;
        self.lock().remove(id);
        Ok(())
    }

    /// Chooses the batches that may begin to run now, and marks them as running: the oldest of each tenant first, and all
    /// that are to be cancelled. Returns each id with the token that cancels it.
    pub(super) fn take_startable(&self) -> Vec<(String, CancellationToken)> {
        let most = self.limits.tenant_active.max(1);
        let mut state = self.lock();
        let (mut active, mut all) = (HashMap::<Option<TenantId>, usize>::new(), 0);
        let mut waiting = BTreeMap::new();
        for (id, entry) in &*state {
            let tenant = entry.record.tenant.clone();
            if entry.runs {
                *active.entry(tenant).or_default() += 1;
                all += 1;
            } else if !entry.record.status.is_ended() {
                waiting.insert((entry.record.created_at_ms, id.clone()), tenant);
            }
        }
        let mut chosen = Vec::new();
        for ((_, id), tenant) in waiting {
            let Some(entry) = state.get_mut(&id) else { continue };
            let own = active.entry(tenant).or_default();
            let has_room = *own < most && all < most.saturating_mul(8);
            if has_room || entry.cancel.is_cancelled() {
                (*own, all, entry.runs) = (*own + 1, all + 1, true);
                chosen.push((id, entry.cancel.clone()));
            }
        }
        chosen
    }

    /// The number of batches that run: those of a tenant, and all.
    pub(super) fn active(&self, tenant: &Option<TenantId>) -> (usize, usize) {
        let state = self.lock();
        let active = state.values().filter(|entry| entry.runs);
        active.fold((0, 0), |(own, all), entry| {
            (own + usize::from(entry.record.tenant == *tenant), all + 1)
        })
    }

    /// Notes that a batch has no runner any more.
    pub(super) fn stopped(&self, id: &str) {
        if let Some(entry) = self.lock().get_mut(id) {
            entry.runs = false;
        }
    }

    /// Removes the batches that ended before the retention, and the oldest of tenants that have too many.
    pub(super) async fn remove_old(&self, now_ms: u64) {
        for id in self.old(now_ms) {
            if let Err(error) = self.remove(&id).await {
                tracing::warn!(batch = id, error = error.for_log(), "it cannot be removed");
            }
        }
    }

    fn old(&self, now_ms: u64) -> Vec<String> {
        let state = self.lock();
        let mut ended: HashMap<&Option<TenantId>, Vec<(u64, &String)>> = HashMap::new();
        for (id, entry) in &*state {
            if let (Some(at), false) = (entry.record.ended_at_ms(), entry.runs) {
                ended.entry(&entry.record.tenant).or_default().push((at, id));
            }
        }
        let mut old = Vec::new();
        for batches in ended.values_mut() {
            batches.sort_unstable();
            let surplus = batches.len().saturating_sub(MOST_ENDED);
            let is_old = |(number, (at, _)): &(usize, &(u64, &String))| {
                *number < surplus || later(*at, self.limits.retention) <= now_ms
            };
            let of_tenant = batches.iter().enumerate().filter(is_old);
            old.extend(of_tenant.map(|(_, (_, id))| (*id).clone()));
        }
        old
    }
}

fn missing(id: &str) -> Error {
    let shown: String = id.chars().take(60).collect();
    Error::for_client(ErrorKind::NotFound, format!("batch {shown:?} does not exist"))
        .with_param("id")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt;

    use super::*;
    use crate::{
        server::queen::batches::records::{new_batch_id, new_file_id},
        wire::batches::BatchEndpoint,
    };

    fn record() -> BatchRecord {
        BatchRecord {
            id: new_batch_id(),
            tenant: None,
            local_user: false,
            endpoint: BatchEndpoint::ChatCompletions,
            input: new_file_id(),
            output: new_file_id(),
            error_output: new_file_id(),
            has_output: false,
            has_errors: false,
            output_kept: std::time::Duration::from_secs(1),
            metadata: None,
            status: BatchStatus::InProgress,
            faults: Vec::new(),
            counts: RequestCounts::default(),
            created_at_ms: 1,
            expires_at_ms: 2,
            in_progress_at_ms: Some(1),
            finalizing_at_ms: None,
            completed_at_ms: None,
            failed_at_ms: None,
            expired_at_ms: None,
            cancelling_at_ms: None,
            cancelled_at_ms: None,
        }
    }

    #[test]
    fn a_change_whose_caller_is_gone_is_completed_before_the_next_one_begins() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().to_owned();
            let store = Arc::new(BatchStore::open(path, BatchLimits::default()).unwrap());
            let record = record();
            store.add(record.clone()).await.unwrap();
            // The only thread that writes is busy until then.
            let (free, busy) = mpsc::channel::<()>();
            let disk = tokio::task::spawn_blocking(move || busy.recv());
            let mut first = Box::pin(store.update(&record.id, |record| {
                record.enter(BatchStatus::Cancelling);
                Ok(())
            }));
            assert!((&mut first).now_or_never().is_none());
            drop(first);
            let mut second = Box::pin(store.update(&record.id, |record| {
                record.has_output = true;
                Ok(())
            }));
            assert!((&mut second).now_or_never().is_none());
            free.send(()).unwrap();
            let changed = second.await.unwrap();
            assert_eq!((changed.status, changed.has_output), (BatchStatus::Cancelling, true));
            assert_eq!(store.get(&Caller::Operator, &record.id).unwrap(), changed);
            let stored = disk::read_records::<BatchRecord>(directory.path()).unwrap();
            assert_eq!(stored, (vec![changed], true));
            disk.await.unwrap().unwrap();
        });
    }
}
