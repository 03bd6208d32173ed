//! Downloads from a hub into the cache that other tools share.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

use tokio::sync::oneshot;

use super::{ModelStore, Shared, StoreError, StoredModel, lock, record::Record};
use crate::{
    error::{ErrorKind, Result},
    model_ref::{ModelRef, ModelSource},
    models::{
        Manifest, ModelFile,
        disk::Disk,
        files::blocking,
        hub::{Hub, HubError, Transfer},
    },
    progress::{Progress, ProgressUpdate},
};

impl ModelStore {
    /// Downloads the model from the hub; a model that is complete already is not requested again. The leftovers of a
    /// previous download, also of a killed process, are continued. There is only one download per model: all callers
    /// attach to it, and it continues when they disconnect.
    ///
    /// A reference that is not resolved is resolved first, and the returned model has the resolved reference.
    ///
    /// # Errors
    /// Those of [`Hub::resolve`], [`ErrorKind::Storage`] if the disk or its budget is too small and
    /// [`ErrorKind::DiskInUse`] if models in use take too much of the budget (both with the figures),
    /// [`ErrorKind::ModelIncompatible`] if a file arrived damaged: it is named and kept apart, and
    /// [`ErrorKind::HubUnreachable`] if the hub failed too often. The data received until then is kept.
    pub async fn download(
        &self,
        hub: &Hub,
        model: &ModelRef,
        progress: Progress,
    ) -> Result<StoredModel> {
        if let Some(stored) = self.ready(model, &progress).await? {
            return Ok(stored);
        }
        let (mut model, mut revision) = (model.clone(), None);
        if self.shared.snapshot(&model).is_none() {
            let resolved = hub.resolve(&model).await?;
            revision = Some(resolved.revision().to_owned());
            model = resolved.model().clone();
            if let Some(stored) = self.ready(&model, &progress).await? {
                return Ok(stored);
            }
        }
        let mut tries = 0;
        loop {
            tries += 1;
            let (store, hub, to_be) = (self.clone(), hub.clone(), model.clone());
            let revision = revision.clone();
            let work =
                |progress| async move { store.transfer(hub, to_be, revision, progress).await };
            let (outcome, began) = self.shared.fetch(&model, &progress, work).await;
            match outcome {
                // That result was for another caller's token or budget.
                Err(error) if !began && tries < 2 && depends_on_the_caller(error.kind()) => {}
                outcome => return outcome,
            }
        }
    }

    /// The model, if it is ready without a download.
    async fn ready(&self, model: &ModelRef, progress: &Progress) -> Result<Option<StoredModel>> {
        let (store, wanted) = (self.clone(), model.clone());
        let stored = blocking(move || {
            let Some(in_use) = store.open_model(&wanted)? else { return Ok(None) };
            let entry = store.shared.entry(in_use.model());
            Ok(entry.map(|entry| store.shared.stored(&entry)))
        });
        let stored = stored.await?;
        if let Some(stored) = &stored {
            progress.update(stored.bytes, Some(stored.bytes));
        }
        Ok(stored)
    }

    async fn transfer(
        self,
        hub: Hub,
        model: ModelRef,
        revision: Option<String>,
        progress: Progress,
    ) -> Result<StoredModel> {
        let shared = &self.shared;
        let resolved = hub.resolve(&model).await?;
        if hub.is_offline() {
            // A complete model in the cache was found before.
            return Err(HubError::Offline { model }.into());
        }
        let ModelSource::Hub { org, repo, .. } = model.source() else {
            return Err(HubError::NoHubModel(model).into());
        };
        let name = format!("models--{org}--{repo}");
        let bytes = resolved.bytes();
        let total = Some(bytes);
        let transfer = Arc::new(Transfer {
            repository: shared.hub_cache.join(&name),
            locks: shared.hub_cache.join(".locks").join(&name),
            damaged: self.damaged(),
            disk: shared.disk.clone(),
            abandoned: AtomicBool::new(false),
            done: AtomicU64::new(0),
            tell: {
                let progress = progress.clone();
                Box::new(move |done| progress.update(done, total))
            },
            hub,
            resolved,
        });
        let look = {
            let transfer = transfer.clone();
            move || ProgressUpdate { done: there(&transfer), total }
        };
        let at = shared.fetch_lock(&model);
        let _right = shared.right_to_fetch(&model, &at, &progress, look).await?;
        if let Some(stored) = self.ready(&model, &progress).await? {
            return Ok(stored);
        }
        let prepare = {
            let (shared, model, transfer) = (shared.clone(), model.clone(), transfer.clone());
            move || {
                let (total, there) = (transfer.resolved.bytes(), there(&transfer));
                let room = shared.make_room(&model, total, there, transfer.hub.tenant_budget())?;
                shared.disk.create_dir(&transfer.repository.join("blobs"))?;
                shared.disk.create_dir(&transfer.locks)?;
                transfer.done.store(there, Ordering::Relaxed);
                (transfer.tell)(there);
                Ok(room)
            }
        };
        let _room = blocking(prepare).await?;
        let files = match run(transfer.clone()).await {
            Ok(files) => files,
            Err(error) => {
                if transfer.hub.tenant_budget().is_some() {
                    // Unregistered files count for no budget, so none of them may stay.
                    let (shared, model) = (shared.clone(), model.clone());
                    let removed = blocking(move || shared.remove_unfinished(&model, &transfer));
                    if let Err(error) = removed.await {
                        tracing::warn!(%error, "cannot remove the files of a failed download");
                    }
                }
                return Err(error);
            }
        };
        progress.update(bytes, total);
        let manifest = Manifest::new(files)?;
        let shared = shared.clone();
        blocking(move || shared.settle(&model, &transfer, manifest, revision.as_deref())).await
    }
}

fn depends_on_the_caller(kind: ErrorKind) -> bool {
    use ErrorKind::{ModelNotFound, PermissionDenied, Storage, Unauthorized};
    matches!(kind, Unauthorized | PermissionDenied | ModelNotFound | Storage)
}

/// Bytes of the model that are in the cache.
fn there(transfer: &Transfer) -> u64 {
    let wanted = transfer.resolved.wanted().iter();
    wanted.map(|file| transfer.want(file).there()).sum()
}

/// Stops the threads of a download whose task is dropped.
struct Abandon(Arc<Transfer>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandoned.store(true, Ordering::Relaxed);
    }
}

/// Downloads all files, several at once, on separate threads.
async fn run(transfer: Arc<Transfer>) -> Result<Vec<ModelFile>> {
    let _abandon = Abandon(transfer.clone());
    let (tell, done) = oneshot::channel();
    let name = thread::Builder::new().name("rbee-download".to_owned());
    let spawned = name.spawn(move || {
        // The receiver may be gone.
        let _ = tell.send(fetch_all(&transfer));
    });
    spawned.map_err(|cause| {
        let message = "no thread can be started to download a model";
        crate::error::Error::new(ErrorKind::Storage, message).with_source(cause)
    })?;
    done.await.unwrap_or_else(|_| {
        let message = "a thread that downloads a model panicked";
        Err(crate::error::Error::new(ErrorKind::Internal, message))
    })
}

fn fetch_all(transfer: &Transfer) -> Result<Vec<ModelFile>> {
    let wanted = transfer.resolved.wanted();
    let next = AtomicUsize::new(0);
    let outcome = Mutex::new(Ok(Vec::with_capacity(wanted.len())));
    let work = || {
        while let Some(file) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            if transfer.abandoned.load(Ordering::Relaxed) {
                return;
            }
            let fetched = transfer.fetch(&transfer.want(file));
            let mut outcome = lock(&outcome);
            match fetched {
                Ok(sha256) => {
                    let (path, bytes) = (file.path.clone(), file.bytes);
                    if let Ok(files) = &mut *outcome {
                        files.push(ModelFile { path, bytes, sha256 });
                    }
                }
                Err(error) => {
                    // The first failure is returned; later ones result from the abort.
                    if outcome.is_ok() {
                        *outcome = Err(error);
                    }
                    transfer.abandoned.store(true, Ordering::Relaxed);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..transfer.hub.parallel().min(wanted.len()) {
            // With fewer threads it takes longer.
            let _ =
                thread::Builder::new().name("rbee-download".to_owned()).spawn_scoped(scope, work);
        }
        work();
    });
    let outcome = outcome.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let files: Vec<_> = outcome?;
    match files.len() == wanted.len() {
        true => Ok(files),
        false => Err(HubError::Abandoned.into()),
    }
}

impl Shared {
    /// Builds the snapshot from its blobs, and registers it.
    fn settle(
        &self,
        model: &ModelRef,
        transfer: &Transfer,
        manifest: Manifest,
        revision: Option<&str>,
    ) -> Result<StoredModel> {
        let root = self.snapshot(model).ok_or_else(|| HubError::NoHubModel(model.clone()))?;
        let head = transfer.repository.join("refs/main");
        let revision = match revision {
            Some(revision) => Some(revision),
            // So that it is found by requests for the model without a revision.
            None if !head.exists() => transfer.hub.is_head(&transfer.resolved).then_some("main"),
            None => None,
        };
        let store = self.lock()?;
        for file in transfer.resolved.wanted() {
            link(&self.disk, &root, &file.path, &file.check.name())?;
        }
        if let Some(revision) = revision {
            let at = transfer.repository.join("refs").join(revision);
            at.parent().map_or(Ok(()), |parent| self.disk.create_dir(parent))?;
            self.disk.replace(&at, transfer.resolved.commit().as_bytes())?;
        }
        let mut record = Record::new(model.clone(), manifest, true);
        record.for_tenants = transfer.hub.tenant_budget().is_some();
        self.register_hub(model, record)?;
        self.touch(model);
        drop(store);
        self.tell();
        let entry = self.entry(model).ok_or_else(|| StoreError::Unknown(model.clone()))?;
        match entry.is_complete() {
            true => Ok(self.stored(&entry)),
            false => Err(StoreError::Incomplete(model.clone()).into()),
        }
    }
}

/// A file of the snapshot: a relative link to its blob, so that the cache can be moved.
fn link(disk: &Disk, root: &Path, path: &str, blob: &str) -> Result<()> {
    let at = root.join(path);
    at.parent().map_or(Ok(()), |parent| disk.create_dir(parent))?;
    let up = "../".repeat(2 + path.matches('/').count());
    Ok(disk.link(&Path::new(&up).join("blobs").join(blob), &at)?)
}
