//! Current loads: callers attach to a load, and no caller owns it.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, ErrorKind, Result},
    progress::{Progress, ProgressUpdate},
    worker::Worker,
};

/// How long a load may take to end after it was forced to.
const FORCED: Duration = Duration::from_secs(1);

/// The result of a load.
pub(super) type Loaded = Result<Arc<dyn Worker>>;

/// A current load.
#[derive(Clone, Debug)]
pub(super) struct Load {
    progress: watch::Receiver<Option<ProgressUpdate>>,
    outcome: watch::Receiver<Option<Loaded>>,
    force: CancellationToken,
    /// True if nobody needs the worker any more. Valid in the hive's own copy; other copies may be older.
    pub(super) given_up: bool,
}

/// The end of a load that the loading task holds.
#[derive(Debug)]
pub(super) struct Loading {
    pub(super) progress: watch::Sender<Option<ProgressUpdate>>,
    pub(super) outcome: watch::Sender<Option<Loaded>>,
    /// Cancelled if the load must end at once.
    pub(super) force: CancellationToken,
}

impl Load {
    /// A load that is about to begin, and the end of it for the loading task.
    pub(super) fn new() -> (Self, Loading) {
        let (tell_progress, progress) = watch::channel(None);
        let (tell_outcome, outcome) = watch::channel(None);
        let force = CancellationToken::new();
        let loading =
            Loading { progress: tell_progress, outcome: tell_outcome, force: force.clone() };
        (Self { progress, outcome, force, given_up: false }, loading)
    }

    /// Waits for the end, and forwards the progress.
    pub(super) async fn outcome(mut self, progress: &Progress) -> Loaded {
        let tell = |update: Option<ProgressUpdate>| {
            if let Some(ProgressUpdate { done, total }) = update {
                progress.update(done, total);
            }
        };
        let mut moves = true;
        loop {
            tokio::select! {
                biased;
                () = ended(&mut self.outcome) => {
                    if self.progress.has_changed().unwrap_or(false) {
                        tell(*self.progress.borrow_and_update());
                    }
                    return self.outcome.borrow().clone().unwrap_or_else(|| {
                        let message = "the load was ended with the runtime it ran on";
                        Err(Error::new(ErrorKind::Cancelled, message))
                    });
                }
                changed = self.progress.changed(), if moves => match changed {
                    Ok(()) => tell(*self.progress.borrow_and_update()),
                    Err(_) => moves = false,
                },
            }
        }
    }

    /// Waits for the end, and forces it after `grace`. A factory that blocks its thread cannot be forced; the worker
    /// that it makes in the end is dropped.
    pub(super) async fn end(mut self, grace: Duration) {
        if timeout(grace, ended(&mut self.outcome)).await.is_ok() {
            return;
        }
        self.force.cancel();
        if timeout(FORCED, ended(&mut self.outcome)).await.is_err() {
            tracing::warn!("a stopped load does not end; its worker will be dropped");
        }
    }

    /// True if it ended without a result, together with its runtime.
    pub(super) fn is_lost(&self) -> bool {
        self.outcome.has_changed().is_err() && self.outcome.borrow().is_none()
    }

    /// Forces it to end, without waiting.
    pub(super) fn force(&self) {
        self.force.cancel();
    }
}

/// Returns when there is a result, or when the task is gone.
async fn ended(outcome: &mut watch::Receiver<Option<Loaded>>) {
    let _ = outcome.wait_for(Option::is_some).await;
}
