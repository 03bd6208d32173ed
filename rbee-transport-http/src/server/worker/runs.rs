//! The runs in progress, so that each can be ended from outside.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use rbee_core::{CorrelationId, Error, ErrorKind, JobId, Output, OutputStream, Result, Usage};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::server::measurements;
use crate::wire::{
    ErrorBody, sse,
    worker::{End, Token, frame},
};

/// How long a cancelled run may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// Outputs that are available together are sent together, up to this many bytes.
const MOST_TOGETHER: usize = 16 << 10;

type Slot = Arc<Mutex<Option<OutputStream>>>;

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
    /// Waits until the run is cancelled.
    pub(super) fn cancelled(&self) -> impl Future<Output = ()> {
        self.handle.cancel.clone().cancelled_owned()
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

/// The body that sends a run's outputs as they come. Dropping it ends the run.
pub(super) fn body_of(entry: RunEntry, stream: OutputStream) -> Body {
    *entry.handle.stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
    let cancelled = Box::pin(entry.handle.cancel.clone().cancelled_owned());
    Body::from_stream(Frames {
        entry: Some(entry),
        cancelled,
        buffer: BytesMut::new(),
        spoke: false,
    })
}

struct Frames {
    entry: Option<RunEntry>,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    buffer: BytesMut,
    /// True if something was sent.
    spoke: bool,
}

impl Frames {
    /// Drops the run's stream, then its entry in the table.
    fn end(&mut self) {
        if let Some(entry) = self.entry.take() {
            drop(entry.handle.stream.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }

    /// Takes the available outputs.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(entry) = &mut self.entry else { return Poll::Ready(()) };
            let mut slot = entry.handle.stream.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(stream) = slot.as_mut() else {
                drop(slot);
                put(&mut self.buffer, Err(cancelled(entry.key.0)));
                self.end();
                return Poll::Ready(());
            };
            let item = match stream.as_mut().poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(item) => item,
            };
            drop(slot);
            let item = item.unwrap_or_else(|| {
                let message = "the engine's stream broke off before its end";
                Err(Error::new(ErrorKind::WorkerFault, message))
            });
            let is_output = !matches!(item, Ok(Output::Heartbeat));
            if is_output && !std::mem::replace(&mut self.spoke, true) {
                measurements::first_output(entry.began.elapsed());
            }
            let is_last = match &item {
                Ok(Output::End { usage, .. }) => {
                    entry.tell(Ok(*usage));
                    true
                }
                Err(error) => {
                    entry.tell(Err(error));
                    true
                }
                Ok(_) => false,
            };
            put(&mut self.buffer, item);
            if is_last {
                self.end();
                return Poll::Ready(());
            }
            if self.buffer.len() >= MOST_TOGETHER {
                return Poll::Ready(());
            }
        }
    }
}

impl Stream for Frames {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.entry.is_none() {
            return Poll::Ready(None);
        }
        // Only to be woken: a cancelled run has no stream any more.
        let _ = self.cancelled.as_mut().poll(cx);
        let filled = self.fill(cx);
        if filled.is_pending() && self.buffer.is_empty() {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(self.buffer.split().freeze())))
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.end();
    }
}

fn put(out: &mut BytesMut, item: Result<Output>) {
    let (name, data) = match item {
        Ok(Output::Token { id, text, logprobs }) => {
            (frame::TOKEN, serde_json::to_vec(&Token { id, text: (&*text).into(), logprobs }))
        }
        Ok(Output::Vectors(vectors)) => (frame::VECTORS, serde_json::to_vec(&vectors)),
        Ok(Output::Heartbeat) => (frame::HEARTBEAT, Ok(b"{}".to_vec())),
        Ok(Output::Metrics(metrics)) => (frame::METRICS, serde_json::to_vec(&metrics)),
        Ok(Output::End { finish, usage }) => {
            (frame::END, serde_json::to_vec(&End { finish, usage }))
        }
        Err(error) => (frame::ERROR, serde_json::to_vec(&ErrorBody::for_queen(&error, None).error)),
    };
    match data {
        Ok(data) => sse::put(out, None, name, &data),
        // Vectors may contain values that JSON does not allow: then the reader gets an error.
        Err(_) => sse::put(
            out,
            None,
            frame::ERROR,
            br#"{"code":"WORKER_FAULT","message":"an output is not JSON"}"#,
        ),
    }
}
