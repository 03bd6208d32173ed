//! The runs in progress, so that each can be ended from outside.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rbee_core::{CorrelationId, Error, ErrorKind, JobId, OutputStream, Result, Usage};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::server::measurements;

/// How long a cancelled run may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) type Slot = Arc<Mutex<Option<OutputStream>>>;

#[derive(Clone, Debug, Default)]
pub(super) struct Runs(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    runs: BTreeMap<(JobId, u64), Handle>,
}

#[derive(Clone)]
struct Handle {
    cancel: CancellationToken,
    over: CancellationToken,
    stream: Slot,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handle")
    }
}

/// A run in the table; dropping it removes it.
pub(super) struct RunEntry {
    key: (JobId, u64),
    mark: Option<CorrelationId>,
    began: Instant,
    /// True once its end is counted and logged; if false at the drop, the run was abandoned.
    told: bool,
    handle: Handle,
    runs: Runs,
}

impl Runs {
    pub(super) fn begin(&self, job: JobId, mark: Option<CorrelationId>) -> RunEntry {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.next += 1;
        let key = (job, table.next);
        let handle = Handle {
            cancel: CancellationToken::new(),
            over: CancellationToken::new(),
            stream: Slot::default(),
        };
        table.runs.insert(key, handle.clone());
        let began = Instant::now();
        RunEntry { key, mark, began, told: false, handle, runs: self.clone() }
    }

    /// Ends every run of this job, and waits until they are over. Returns true if there were any.
    pub(super) async fn cancel(&self, job: JobId) -> bool {
        let handles: Vec<Handle> = {
            let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            table.runs.range((job, 0)..=(job, u64::MAX)).map(|(_, handle)| handle.clone()).collect()
        };
        for handle in &handles {
            handle.cancel.cancel();
            // Also if the reader is slow and the stream is not polled: it ends right here.
            let stream = handle.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            if stream.is_none()
                && tokio::time::timeout(END_TIMEOUT, handle.over.cancelled()).await.is_err()
            {
                tracing::warn!(%job, "the run did not end within {END_TIMEOUT:?}");
            }
        }
        !handles.is_empty()
    }
}

impl RunEntry {
    /// The job of the run.
    pub(super) fn job(&self) -> JobId {
        self.key.0
    }

    /// When the run began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Waits until the run is cancelled.
    pub(super) fn cancelled(&self) -> WaitForCancellationFutureOwned {
        self.handle.cancel.clone().cancelled_owned()
    }

    /// True if the run was cancelled.
    pub(super) fn is_cancelled(&self) -> bool {
        self.handle.cancel.is_cancelled()
    }

    /// The place of the run's stream, from which a cancellation takes it.
    pub(super) fn stream(&self) -> &Slot {
        &self.handle.stream
    }

    /// Records the end of the run.
    pub(super) fn tell(&mut self, end: Result<Usage, &Error>) {
        self.told = true;
        let took = self.began.elapsed();
        if let Err(error) = &end
            && error.kind() == ErrorKind::Cancelled
        {
            return self.tell_cancelled();
        }
        measurements::run_ended(end, took);
        let (job, correlation_id) = (self.key.0, self.correlation_id());
        match end {
            Ok(Usage { prompt_tokens, completion_tokens, cached_tokens }) => {
                tracing::info!(%job, correlation_id, prompt_tokens, cached_tokens, completion_tokens, ?took, "the run is complete");
            }
            Err(error) => {
                tracing::warn!(%job, correlation_id, error = error.for_log(), ?took, "the run failed");
            }
        }
    }

    fn tell_cancelled(&self) {
        let (job, took) = (self.key.0, self.began.elapsed());
        measurements::run_cancelled(took);
        tracing::info!(%job, correlation_id = self.correlation_id(), ?took, "the run was cancelled");
    }

    fn correlation_id(&self) -> Option<&str> {
        self.mark.as_ref().map(CorrelationId::as_str)
    }
}

impl Drop for RunEntry {
    fn drop(&mut self) {
        if !self.told {
            self.tell_cancelled();
        }
        let mut table = self.runs.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.runs.remove(&self.key);
        drop(table);
        self.handle.over.cancel();
    }
}

/// The error that a cancelled run ends with.
pub(super) fn cancelled(job: JobId) -> Error {
    Error::new(ErrorKind::Cancelled, format!("the run of job {job} was cancelled"))
}
