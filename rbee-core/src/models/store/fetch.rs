//! Fetches: each download or copy is its own task. Callers attach to it, and no caller owns it.

use std::{
    collections::BTreeMap, future::Future, panic::AssertUnwindSafe, path::Path, sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{Shared, StoreError, StoredModel, lock};
use crate::{
    error::Result,
    model_ref::ModelRef,
    models::{disk::Lock, files::blocking},
    progress::{Progress, ProgressUpdate},
};

/// How often to check whether another process has finished.
const LOOK: Duration = Duration::from_millis(100);

/// The current fetches of this process.
#[derive(Default)]
pub(super) struct Fetches(BTreeMap<ModelRef, Fetch>);

impl Fetches {
    pub(super) fn progress(&self) -> Vec<(ModelRef, ProgressUpdate)> {
        self.0.iter().map(|(model, fetch)| (model.clone(), *fetch.progress.borrow())).collect()
    }

    pub(super) fn has(&self, model: &ModelRef) -> bool {
        self.0.contains_key(model)
    }
}

/// A current fetch.
#[derive(Clone)]
struct Fetch {
    progress: watch::Receiver<ProgressUpdate>,
    outcome: watch::Receiver<Option<Result<StoredModel>>>,
}

/// Removes a fetch from the list, also if its task was dropped with the runtime.
struct Listed {
    shared: Arc<Shared>,
    model: ModelRef,
}

impl Drop for Listed {
    fn drop(&mut self) {
        lock(&self.shared.fetches).0.remove(&self.model);
        self.shared.tell();
    }
}

impl Shared {
    /// Attaches to the fetch of this model, and begins `work` if there is none. Returns true if it began.
    pub(super) async fn fetch<F>(
        self: &Arc<Self>,
        model: &ModelRef,
        progress: &Progress,
        work: impl FnOnce(Progress) -> F,
    ) -> (Result<StoredModel>, bool)
    where
        F: Future<Output = Result<StoredModel>> + Send + 'static,
    {
        let (fetch, began) = {
            let mut fetches = lock(&self.fetches);
            match fetches.0.get(model) {
                Some(fetch) => (fetch.clone(), false),
                None => {
                    let fetch = self.begin(model, work);
                    fetches.0.insert(model.clone(), fetch.clone());
                    (fetch, true)
                }
            }
        };
        if began {
            self.tell();
        }
        (fetch.outcome(model, progress).await, began)
    }

    fn begin<F>(self: &Arc<Self>, model: &ModelRef, work: impl FnOnce(Progress) -> F) -> Fetch
    where
        F: Future<Output = Result<StoredModel>> + Send + 'static,
    {
        let (tell_progress, progress) = watch::channel(ProgressUpdate::default());
        let (tell_outcome, outcome) = watch::channel(None);
        let work = work(Progress::new(move |update| {
            tell_progress.send_replace(update);
        }));
        let listed = Listed { shared: self.clone(), model: model.clone() };
        tokio::spawn(async move {
            let done = AssertUnwindSafe(work).catch_unwind().await;
            let model = listed.model.clone();
            // Before the result is sent, so that a caller who retries after a failure starts a new fetch.
            drop(listed);
            let done = done.unwrap_or_else(|_| Err(StoreError::Panicked(model).into()));
            tell_outcome.send_replace(Some(done));
        });
        Fetch { progress, outcome }
    }

    /// The exclusive right of this process to fetch this model. Waits for another holder as long as that makes
    /// progress: `there` returns the existing bytes.
    pub(super) async fn right_to_fetch(
        &self,
        model: &ModelRef,
        at: &Path,
        progress: &Progress,
        there: impl Fn() -> ProgressUpdate + Send + Sync + 'static,
    ) -> Result<Lock> {
        let there = Arc::new(there);
        let (mut last, mut moved) = (None, Instant::now());
        loop {
            let (path, there) = (at.to_owned(), there.clone());
            let (lock, now) = blocking(move || Ok((Lock::try_exclusive(&path)?, there()))).await?;
            if let Some(lock) = lock {
                return Ok(lock);
            }
            if last.replace(now) != Some(now) {
                moved = Instant::now();
                progress.update(now.done, now.total);
            }
            let after = self.options.stall.saturating_mul(10);
            if moved.elapsed() > after {
                let (model, after) = (model.clone(), after.as_secs());
                return Err(StoreError::OtherStalled { model, after }.into());
            }
            sleep(LOOK).await;
        }
    }
}

impl Fetch {
    /// Waits for the end, and forwards the progress.
    async fn outcome(mut self, model: &ModelRef, progress: &Progress) -> Result<StoredModel> {
        let tell = |ProgressUpdate { done, total }: ProgressUpdate| progress.update(done, total);
        let mut moves = true;
        loop {
            tokio::select! {
                biased;
                () = ended(&mut self.outcome) => {
                    if self.progress.has_changed().unwrap_or(true) {
                        tell(*self.progress.borrow());
                    }
                    let outcome = self.outcome.borrow().clone();
                    return outcome.unwrap_or_else(|| Err(StoreError::Ended(model.clone()).into()));
                }
                changed = self.progress.changed(), if moves => match changed {
                    Ok(()) => tell(*self.progress.borrow_and_update()),
                    Err(_) => moves = false,
                },
            }
        }
    }
}

/// Returns when there is a result, or when the task is gone.
async fn ended(outcome: &mut watch::Receiver<Option<Result<StoredModel>>>) {
    let _ = outcome.wait_for(Option::is_some).await;
}
