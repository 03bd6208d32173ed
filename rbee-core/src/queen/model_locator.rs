//! The sources of models: the commit that a reference stands for, and the place from which a hive fetches the files.

mod kinds;
mod public;
mod vouched;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::watch, time::Instant};

use crate::{
    cluster::ClusterView,
    error::{Error, ErrorKind, Result},
    hive::{HiveBackend, ModelOrigin},
    hive_address::HiveAddress,
    model_on_disk::ModelOnDisk,
    model_ref::{ModelRef, ModelSource},
    models::HubAccess,
    progress::{Progress, ProgressUpdate},
    settings::Settings,
};

use kinds::Kinds;
pub(super) use kinds::Readers;
use public::Public;
pub(super) use vouched::Grant;
use vouched::Vouched;

/// How long the commit of a branch is used without asking the hub again.
const PIN_KEPT: Duration = Duration::from_secs(300);
/// The time limits for an answer of the hub: if a hive already has the model, and if none has it.
const PIN_TIMEOUT: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(60));
/// The maximum number of references whose commits are kept.
const PINS: usize = 1_024;

/// The part of the hub that the queen needs.
#[async_trait]
pub(super) trait Pin: fmt::Debug + Send + Sync + 'static {
    /// The reference, with the commit that it stands for now. If `anonymous`, the hub is asked without a token, and the
    /// answer is an error unless it gives the model's files to such a caller.
    async fn pin(&self, model: &ModelRef, anonymous: bool) -> Result<ModelRef>;
    /// The text of the `config.json` of a model that names a commit; `None` if it has none. If `anonymous`, the hub is
    /// asked without a token.
    async fn config(&self, model: &ModelRef, anonymous: bool) -> Result<Option<Vec<u8>>>;
    /// The size of the model's files, in bytes.
    async fn bytes(&self, model: &ModelRef) -> Result<u64>;
    /// The access to the hub, for hives.
    fn access(&self) -> HubAccess;
}

#[cfg(feature = "hub")]
#[async_trait]
impl Pin for crate::models::Hub {
    async fn pin(&self, model: &ModelRef, anonymous: bool) -> Result<ModelRef> {
        let resolved = match anonymous {
            true => self.resolve_public(model).await,
            false => self.resolve(model).await,
        };
        resolved.map(|resolved| resolved.model().clone())
    }
    async fn config(&self, model: &ModelRef, anonymous: bool) -> Result<Option<Vec<u8>>> {
        Self::config(self, model, anonymous).await
    }
    async fn bytes(&self, model: &ModelRef) -> Result<u64> {
        self.resolve(model).await.map(|resolved| resolved.bytes())
    }
    fn access(&self) -> HubAccess {
        Self::access(self)
    }
}

/// Pins references to commits, and ensures that a model is downloaded once and then copied between hives.
#[derive(Clone, Debug, Default)]
pub(super) struct ModelLocator(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    hub: Option<Arc<dyn Pin>>,
    vouched: Vouched,
    public: Public,
    kinds: Kinds,
    /// By the reference, with `true` if the hub was asked without a token.
    pins: Mutex<BTreeMap<(ModelRef, bool), Pinned>>,
    downloads: Mutex<BTreeMap<ModelRef, Weak<Download>>>,
}

/// The commit of a branch, with the time of the answer. The lock is held during the request to the hub, so that
/// concurrent callers share one request.
type Pinned = Arc<tokio::sync::Mutex<Option<(ModelRef, Instant)>>>;

/// The download of a model that no hive has. It exists as long as a hive waits for it.
#[derive(Debug, Default)]
struct Download {
    /// Held for the hive that downloads; the hives after it find here which hive has the model.
    turn: tokio::sync::Mutex<Option<Arc<dyn HiveBackend>>>,
    progress: watch::Sender<ProgressUpdate>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic cannot leave a map half changed: every change under a lock is one call on one map.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ModelLocator {
    pub(super) fn new(hub: Option<Arc<dyn Pin>>, settings: &Settings) -> Self {
        let vouched = Vouched::new(settings);
        Self(Arc::new(Inner { hub, vouched, ..Inner::default() }))
    }

    /// The reference in the form that a hive can use: a reference to a hub names a commit.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`] if the hub has no such model, and every other error of the hub.
    pub(super) async fn pinned(
        &self,
        model: ModelRef,
        grant: Grant,
        known: &ClusterView,
    ) -> Result<ModelRef> {
        let pinned = self.pin(model, self.0.vouched.is_anonymous(grant), known).await?;
        if grant == Grant::Operator {
            self.vouch_for(&pinned);
        }
        Ok(pinned)
    }

    /// Records that the operator wants this model; the reference is in the form that hives use.
    pub(super) fn vouch_for(&self, model: &ModelRef) {
        self.0.vouched.add(model);
    }

    /// As [`pinned`](Self::pinned), but the model does not count as one that the operator wants.
    pub(super) async fn pin(
        &self,
        model: ModelRef,
        anonymous: bool,
        known: &ClusterView,
    ) -> Result<ModelRef> {
        let ModelSource::Hub { revision, file, .. } = model.source() else { return Ok(model) };
        let is_pinned = revision.is_some_and(crate::model_ref::is_commit) && file.is_some();
        // A worker may have exactly this name. A present model may be private to the operator, so for a caller without
        // a token the hub is asked.
        if !anonymous && (is_pinned || known.knows_model(&model)) {
            return Ok(model);
        }
        let Some(hub) = &self.0.hub else {
            return self.newest_known(&model, anonymous, known).ok_or_else(|| {
                let message = match anonymous {
                    true => format!("this queen has no hub to ask whether model {model} is public"),
                    false => format!(
                        "model {model} is nowhere in the fleet, and this queen has no hub to ask for it"
                    ),
                };
                Error::new(ErrorKind::ModelNotFound, message)
            });
        };
        let slot = {
            let mut pins = lock(&self.0.pins);
            let key = (model.clone(), anonymous);
            if pins.len() >= PINS && !pins.contains_key(&key) {
                pins.pop_first();
            }
            pins.entry(key).or_default().clone()
        };
        // If the hub does not answer, a present commit is used.
        let known = self.newest_known(&model, anonymous, known);
        let timeout = if known.is_some() { PIN_TIMEOUT.0 } else { PIN_TIMEOUT.1 };
        let asking = async {
            let mut slot = slot.lock().await;
            if let Some((pinned, at)) = &*slot
                && at.elapsed() < PIN_KEPT
            {
                return Ok(pinned.clone());
            }
            let answer = hub.pin(&model, anonymous).await;
            if anonymous {
                self.0.public.note(&model, &answer);
            }
            let pinned = match (answer, &known) {
                (Err(error), Some(known)) if error.kind() == ErrorKind::HubUnreachable => {
                    known.clone()
                }
                (pinned, _) => pinned?,
            };
            *slot = Some((pinned.clone(), Instant::now()));
            Ok(pinned)
        };
        // The limit also covers the wait for the request of another caller.
        if let Ok(pinned) = tokio::time::timeout(timeout, asking).await {
            return pinned;
        }
        let Some(known) = known else {
            let message = format!(
                "the hub did not answer within {timeout:?} which commit model {model} stands for"
            );
            return Err(Error::new(ErrorKind::HubUnreachable, message));
        };
        if let Ok(mut slot) = slot.try_lock() {
            *slot = Some((known.clone(), Instant::now()));
        }
        Ok(known)
    }

    /// A commit of the same model that a hive already has. For a caller without a token, only a commit that the hub
    /// gave to such a caller before.
    fn newest_known(
        &self,
        model: &ModelRef,
        anonymous: bool,
        known: &ClusterView,
    ) -> Option<ModelRef> {
        let mut held = known.hives().flat_map(|hive| hive.models.keys());
        let fits = |held: &&ModelRef| held.is_of(model) && (!anonymous || self.0.public.has(held));
        held.find(fits).cloned()
    }

    /// Puts a model on the disk of a hive: copied from a hive that has it, else downloaded, once for all hives. A model
    /// that no engine of the hive can read is refused before anything is copied.
    pub(super) async fn put(
        &self,
        hive: &Arc<dyn HiveBackend>,
        model: &ModelRef,
        holders: Vec<Arc<dyn HiveBackend>>,
        readers: Readers,
        progress: Progress,
    ) -> Result<ModelOnDisk> {
        self.check_readable(hive, model, readers).await?;
        match model.source() {
            ModelSource::Alias(_) => hive.provision(model, ModelOrigin::Here, progress).await,
            ModelSource::File(_) => {
                let may_be_there = self.0.vouched.has(model);
                put_file(hive, model, holders, may_be_there, progress).await
            }
            // Not copied from another hive: only what is fetched from the hub is counted against the budget.
            ModelSource::Hub { .. } if !self.0.vouched.has(model) => {
                hive.provision(model, self.origin_for_tenants(), progress).await
            }
            ModelSource::Hub { .. } => {
                let mut failed = None;
                for holder in holders.iter().filter(|holder| holder.info().id != hive.info().id) {
                    match copy(holder, hive, model, progress.clone()).await {
                        Err(error) if is_the_source(&error) => {
                            tracing::info!(from = %holder.info().id, to = %hive.info().id, %model, %error, "the model could not be copied");
                            failed = Some(error);
                        }
                        done => return done,
                    }
                }
                let done = self.download(hive, model, progress).await;
                // Without a hub, the error of the copy is more precise.
                done.map_err(|error| match failed {
                    Some(failed) if self.0.hub.is_none() => failed,
                    _ => error,
                })
            }
        }
    }

    /// The first hive downloads. Hives that come meanwhile get its progress, and then copy from it.
    async fn download(
        &self,
        hive: &Arc<dyn HiveBackend>,
        model: &ModelRef,
        progress: Progress,
    ) -> Result<ModelOnDisk> {
        let download = {
            let mut downloads = lock(&self.0.downloads);
            downloads.retain(|_, download| download.strong_count() > 0);
            let under_way = downloads.get(model).and_then(Weak::upgrade);
            under_way.unwrap_or_else(|| {
                let download = Arc::<Download>::default();
                downloads.insert(model.clone(), Arc::downgrade(&download));
                download
            })
        };
        let mut turn = follow(&download, &progress).await;
        if let Some(holder) = turn.clone() {
            drop(turn);
            match copy(&holder, hive, model, progress.clone()).await {
                Err(error) if is_the_source(&error) => {
                    tracing::info!(from = %holder.info().id, to = %hive.info().id, %model, %error, "the model could not be copied");
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

    /// The origin of a model that only tenants have asked for.
    fn origin_for_tenants(&self) -> ModelOrigin {
        match &self.0.hub {
            Some(hub) => ModelOrigin::Hub(self.0.vouched.access_for_tenants(hub.access())),
            None => ModelOrigin::Here,
        }
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

/// Waits until no other hive downloads, and passes on the progress of the one that does.
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

/// Provisions a file of the queen's machine: hives of the same machine use it in place, and it is copied to the others.
/// If it cannot be copied and `may_be_there` is true, it may be a file of the other machine. That is false for a file
/// that only a tenant has named: it was checked to be below `file_roots` on the queen's machine, and another file may
/// be at that path elsewhere.
async fn put_file(
    hive: &Arc<dyn HiveBackend>,
    model: &ModelRef,
    holders: Vec<Arc<dyn HiveBackend>>,
    may_be_there: bool,
    progress: Progress,
) -> Result<ModelOnDisk> {
    if is_on_this_machine(&**hive) {
        return hive.provision(model, ModelOrigin::Here, progress).await;
    }
    // A hive of this machine that has a store knows the checksums of large files that it has seen before.
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
        // The hive has no store, or the path exists only on that machine.
        Err(error)
            if may_be_there
                && matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::ModelNotFound) =>
        {
            let there = hive.provision(model, ModelOrigin::Here, progress).await;
            there.map_err(|_| error)
        }
        done => done,
    }
}

fn is_on_this_machine(hive: &dyn HiveBackend) -> bool {
    hive.info().address == HiveAddress::Local
}

async fn copy(
    from: &Arc<dyn HiveBackend>,
    to: &Arc<dyn HiveBackend>,
    model: &ModelRef,
    progress: Progress,
) -> Result<ModelOnDisk> {
    let files = from.files(model).await.map_err(|error| {
        // The fault is on the source side, not on the side that the model is copied to.
        let message = format!("hive {} cannot provide model {model}: {error}", from.info().id);
        Error::new(ErrorKind::HiveUnreachable, message).with_source(error)
    })?;
    to.provision(model, ModelOrigin::Files(files), progress).await
}

/// Returns true if the source of the copy is at fault, so that another source may work.
fn is_the_source(error: &Error) -> bool {
    use ErrorKind::{Cancelled, DiskInUse, Fenced, Storage};
    !matches!(error.kind(), Storage | DiskInUse | Cancelled | Fenced)
}

#[cfg(test)]
mod tests;
