//! Where models come from: what a reference stands for, and from which place a hive takes its files.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::watch, time::Instant};

use crate::{
    ClusterView, Error, ErrorKind, HiveAddress, HiveBackend, HubAccess, ModelOnDisk, ModelOrigin,
    ModelRef, ModelSource, Progress, ProgressUpdate, Result,
};

/// How long the answer to what a branch stands for is used without asking again.
const PIN_KEPT: Duration = Duration::from_secs(300);
/// Branches whose answers are kept; the oldest goes first.
const PINS: usize = 1_024;

/// The hub, as far as the queen needs it.
#[async_trait]
pub(super) trait Pin: fmt::Debug + Send + Sync + 'static {
    /// The reference with the commit that it stands for now.
    async fn pin(&self, model: &ModelRef) -> Result<ModelRef>;
    /// How hives reach it.
    fn access(&self) -> HubAccess;
}

#[cfg(feature = "hub")]
#[async_trait]
impl Pin for crate::Hub {
    async fn pin(&self, model: &ModelRef) -> Result<ModelRef> {
        self.resolve(model).await.map(|resolved| resolved.model().clone())
    }
    fn access(&self) -> HubAccess {
        Self::access(self)
    }
}

/// Pins references, and sees to it that a model is fetched once and copied from there.
#[derive(Clone, Debug, Default)]
pub(super) struct Models(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    hub: Option<Arc<dyn Pin>>,
    pins: Mutex<BTreeMap<ModelRef, Pinned>>,
    downloads: Mutex<BTreeMap<ModelRef, Arc<Download>>>,
}

/// What a branch stands for. The lock is held while the hub is asked, so that it is asked once.
type Pinned = Arc<tokio::sync::Mutex<Option<(ModelRef, Instant)>>>;

/// A model that hives want, and that none had.
#[derive(Debug)]
struct Download {
    /// Held by the hive that downloads; those after it find where it is.
    turn: tokio::sync::Mutex<Option<Arc<dyn HiveBackend>>>,
    progress: watch::Sender<ProgressUpdate>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under a lock is one call on one map.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Models {
    pub(super) fn new(hub: Option<Arc<dyn Pin>>) -> Self {
        Self(Arc::new(Inner { hub, ..Inner::default() }))
    }

    /// The reference that a hive can be given: one to a hub names a commit.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`] where the hub has no such model, and what else it answers with.
    pub(super) async fn pinned(&self, model: ModelRef, known: &ClusterView) -> Result<ModelRef> {
        let ModelSource::Hub { revision, file, .. } = model.source() else { return Ok(model) };
        let is_pinned = revision.is_some_and(crate::model_ref::is_commit) && file.is_some();
        // A worker may go by the very name.
        if is_pinned || known.knows_model(&model) {
            return Ok(model);
        }
        let Some(hub) = &self.0.hub else {
            return newest_known(&model, known).ok_or_else(|| {
                let message = format!(
                    "model {model} is nowhere in the fleet, and this queen has no hub to ask for it"
                );
                Error::new(ErrorKind::ModelNotFound, message)
            });
        };
        let slot = {
            let mut pins = lock(&self.0.pins);
            if pins.len() >= PINS && !pins.contains_key(&model) {
                pins.pop_first();
            }
            pins.entry(model.clone()).or_default().clone()
        };
        let mut slot = slot.lock().await;
        if let Some((pinned, at)) = &*slot
            && at.elapsed() < PIN_KEPT
        {
            return Ok(pinned.clone());
        }
        match hub.pin(&model).await {
            Ok(pinned) => {
                *slot = Some((pinned.clone(), Instant::now()));
                Ok(pinned)
            }
            Err(error) if error.kind() == ErrorKind::HubUnreachable => {
                // What is there serves as long as the hub does not answer.
                let before = slot.as_ref().map(|(pinned, _)| pinned.clone());
                before.or_else(|| newest_known(&model, known)).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Puts a model on the disk of a hive: copied from a hive that has it, or else downloaded, once for all.
    pub(super) async fn put(
        &self,
        hive: &Arc<dyn HiveBackend>,
        model: &ModelRef,
        holders: Vec<Arc<dyn HiveBackend>>,
        progress: Progress,
    ) -> Result<ModelOnDisk> {
        match model.source() {
            ModelSource::Alias(_) => hive.provision(model, ModelOrigin::Here, progress).await,
            ModelSource::File(_) => put_file(hive, model, holders, progress).await,
            ModelSource::Hub { .. } => {
                for holder in holders.iter().filter(|holder| holder.id() != hive.id()) {
                    match copy(holder, hive, model, progress.clone()).await {
                        Err(error) if is_the_source(&error) => {
                            tracing::info!(from = %holder.id(), to = %hive.id(), %model, %error, "the model could not be copied");
                        }
                        done => return done,
                    }
                }
                self.download(hive, model, progress).await
            }
        }
    }

    /// The first hive downloads; those that come meanwhile see its progress, and copy from it.
    async fn download(
        &self,
        hive: &Arc<dyn HiveBackend>,
        model: &ModelRef,
        progress: Progress,
    ) -> Result<ModelOnDisk> {
        let download = lock(&self.0.downloads)
            .entry(model.clone())
            .or_insert_with(|| {
                let (turn, progress) = (tokio::sync::Mutex::default(), watch::Sender::default());
                Arc::new(Download { turn, progress })
            })
            .clone();
        let _listed = Listed { models: self, model, download: &download };
        let mut turn = follow(&download, &progress).await;
        if let Some(holder) = turn.clone() {
            drop(turn);
            match copy(&holder, hive, model, progress.clone()).await {
                Err(error) if is_the_source(&error) => {
                    tracing::info!(from = %holder.id(), to = %hive.id(), %model, %error, "the model could not be copied");
                    return self.download_to(hive, model, progress).await;
                }
                done => return done,
            }
        }
        let (tell, own) = (download.clone(), progress);
        let progress = Progress::new(move |update: ProgressUpdate| {
            tell.progress.send_replace(update);
            own.update(update.done, update.total);
        });
        let done = self.download_to(hive, model, progress).await;
        if done.is_ok() {
            *turn = Some(hive.clone());
        }
        done
    }

    async fn download_to(
        &self,
        hive: &Arc<dyn HiveBackend>,
        model: &ModelRef,
        progress: Progress,
    ) -> Result<ModelOnDisk> {
        let origin = match &self.0.hub {
            Some(hub) => ModelOrigin::Hub(hub.access()),
            None => ModelOrigin::Here,
        };
        hive.provision(model, origin, progress).await
    }
}

/// Takes a download off the list when the last who waits for it goes.
struct Listed<'a> {
    models: &'a Models,
    model: &'a ModelRef,
    download: &'a Arc<Download>,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        let mut downloads = lock(&self.models.0.downloads);
        // The list's own, and this caller's.
        if Arc::strong_count(self.download) <= 2 {
            downloads.remove(self.model);
        }
    }
}

/// Waits for the turn, and passes on how far the one before has come.
async fn follow<'a>(
    download: &'a Download,
    progress: &Progress,
) -> tokio::sync::MutexGuard<'a, Option<Arc<dyn HiveBackend>>> {
    let mut told = download.progress.subscribe();
    let turn = download.turn.lock();
    tokio::pin!(turn);
    loop {
        tokio::select! {
            biased;
            turn = &mut turn => return turn,
            Ok(()) = told.changed() => {
                let ProgressUpdate { done, total } = *told.borrow_and_update();
                progress.update(done, total);
            }
        }
    }
}

/// A file of the queen's machine: where it lies for hives of the same machine, and copied to the others.
async fn put_file(
    hive: &Arc<dyn HiveBackend>,
    model: &ModelRef,
    holders: Vec<Arc<dyn HiveBackend>>,
    progress: Progress,
) -> Result<ModelOnDisk> {
    if is_on_this_machine(&**hive) {
        return hive.provision(model, ModelOrigin::Here, progress).await;
    }
    // A hive of this machine with a store knows the checksums of large files that it has seen before.
    let mut files = None;
    for beside in holders.iter().filter(|holder| is_on_this_machine(&***holder)) {
        files = beside.files(model).await.ok();
        if files.is_some() {
            break;
        }
    }
    let files = match files {
        Some(files) => Ok(files),
        None => crate::models::files_at(model, progress.clone()).await,
    };
    let copied = match files {
        Ok(files) => hive.provision(model, ModelOrigin::Files(files), progress.clone()).await,
        Err(error) => Err(error),
    };
    match copied {
        // A hive without a store, or a path that means something on that machine alone.
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::ModelNotFound) => {
            let there = hive.provision(model, ModelOrigin::Here, progress).await;
            there.map_err(|_| error)
        }
        done => done,
    }
}

fn is_on_this_machine(hive: &dyn HiveBackend) -> bool {
    hive.contact().address == HiveAddress::Local
}

async fn copy(
    from: &Arc<dyn HiveBackend>,
    to: &Arc<dyn HiveBackend>,
    model: &ModelRef,
    progress: Progress,
) -> Result<ModelOnDisk> {
    let files = from.files(model).await?;
    to.provision(model, ModelOrigin::Files(files), progress).await
}

/// Is it the place that the model was to be copied from that is at fault? Then another may do.
fn is_the_source(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::Storage | ErrorKind::Cancelled | ErrorKind::Fenced)
}

/// A commit of the same model that a hive has already.
fn newest_known(model: &ModelRef, known: &ClusterView) -> Option<ModelRef> {
    known.hives().find_map(|hive| hive.models.keys().find(|other| other.is_of(model)).cloned())
}
