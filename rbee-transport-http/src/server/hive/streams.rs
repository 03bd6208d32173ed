//! The streams of a hive: the progress of its tasks, and its events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures_core::{Stream, future::BoxFuture};
use futures_util::{StreamExt, stream};
use http::header;
use rbee_core::{
    Error, ErrorKind, Result,
    hive::{HiveEvent, Progress},
    models::ModelOnDisk,
};
use serde::Serialize;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{super::measurements, Inner};
use crate::wire::{
    ErrorBody, ProgressBody,
    hive::{Exited, Spawn, Want, happening, provisioning, spawning},
    sse,
};

/// The interval of heartbeats on a stream without events.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Starts a worker. The start continues in the hive if the client disconnects.
pub(super) fn spawn(inner: Arc<Inner>, order: Spawn) -> Response {
    working(spawning::READY, |progress| async move {
        let Spawn { id, spec } = order;
        let began = Instant::now();
        let spawned = inner.hive.spawn(id, &spec, progress).await;
        measurements::spawned(spawned.as_ref().err(), began.elapsed());
        let model = &spec.model;
        match &spawned {
            Ok(_) => tracing::info!(worker = %id, %model, "the worker is ready"),
            Err(error) => tracing::warn!(worker = %id, %model, %error, "no worker was started"),
        }
        let worker = spawned?;
        inner.reach.open(&worker).await?;
        inner.reach.address(&worker).await
    })
}

/// Puts a model on the disk, and asks the client for the files that are needed for that.
pub(super) fn providing<W>(
    wanted: mpsc::Receiver<Want>,
    work: impl FnOnce(Progress) -> W,
) -> Response
where
    W: Future<Output = Result<ModelOnDisk>> + Send + 'static,
{
    doing(provisioning::DONE, Some(wanted), work)
}

/// Streams the progress of a task, then its result or its error. The task ends when its reader disconnects.
pub(super) fn working<T, W>(last: &'static str, work: impl FnOnce(Progress) -> W) -> Response
where
    T: Serialize + 'static,
    W: Future<Output = Result<T>> + Send + 'static,
{
    doing(last, None, work)
}

fn doing<T, W>(
    last: &'static str,
    wanted: Option<mpsc::Receiver<Want>>,
    work: impl FnOnce(Progress) -> W,
) -> Response
where
    T: Serialize + 'static,
    W: Future<Output = Result<T>> + Send + 'static,
{
    let (tell, progress) = watch::channel(None);
    let work = work(Progress::new(move |update| {
        tell.send_replace(Some(ProgressBody::from(update)));
    }));
    let working = Working {
        work: Some(Box::pin(work)),
        progress,
        moves: true,
        wanted,
        told: None,
        end: None,
        last,
    };
    respond(stream::unfold(working, |mut working| async {
        let frame = working.next().await?;
        Some((frame, working))
    }))
}

struct Working<T> {
    /// `None` once it is done.
    work: Option<BoxFuture<'static, Result<T>>>,
    progress: watch::Receiver<Option<ProgressBody>>,
    /// True if there may be more progress.
    moves: bool,
    /// The files that the reader must send.
    wanted: Option<mpsc::Receiver<Want>>,
    told: Option<ProgressBody>,
    /// The final event, if another event is sent before it.
    end: Option<Frame>,
    last: &'static str,
}

impl<T: Serialize> Working<T> {
    async fn next(&mut self) -> Option<Frame> {
        loop {
            let Some(work) = &mut self.work else { return self.end.take() };
            tokio::select! {
                biased;
                result = work => {
                    self.work = None;
                    self.end = Some(match result {
                        Ok(result) => frame(self.last, &result),
                        Err(error) => failure(&error),
                    });
                }
                Some(want) = next_want(&mut self.wanted) => {
                    return Some(frame(provisioning::WANT, &want));
                }
                changed = self.progress.changed(), if self.moves => self.moves = changed.is_ok(),
            }
            // Includes the progress that was set together with the end.
            let update = *self.progress.borrow_and_update();
            if update != self.told {
                self.told = update;
                return update.map(|update| frame(spawning::PROGRESS, &update));
            }
        }
    }
}

async fn next_want(wanted: &mut Option<mpsc::Receiver<Want>>) -> Option<Want> {
    match wanted {
        Some(wanted) => wanted.recv().await,
        None => None,
    }
}

/// Streams the events of a hive, as long as the reader is connected.
pub(super) fn events(events: impl Stream<Item = HiveEvent> + Send + 'static) -> Response {
    respond(events.map(|event| match event {
        HiveEvent::Report(report) => frame(happening::REPORT, &*report),
        HiveEvent::Exited { worker, why } => frame(
            happening::EXITED,
            &Exited { worker, why: ErrorBody::for_queen(&why, None).error },
        ),
    }))
}

/// One event: its name and its data.
type Frame = (&'static str, Vec<u8>);

fn frame(name: &'static str, body: &impl Serialize) -> Frame {
    match serde_json::to_vec(body) {
        Ok(data) => (name, data),
        Err(cause) => failure(&Error::new(
            ErrorKind::Internal,
            format!("an event {name:?} cannot be written: {cause}"),
        )),
    }
}

fn failure(error: &Error) -> Frame {
    // It holds texts and numbers, which can always be written as JSON.
    let data = serde_json::to_vec(&ErrorBody::for_queen(error, None).error).unwrap_or_default();
    (spawning::ERROR, data)
}

fn respond(frames: impl Stream<Item = Frame> + Send + 'static) -> Response {
    let body = stream::unfold(Box::pin(frames), |mut frames| async {
        let mut out = BytesMut::new();
        match tokio::time::timeout(KEEP_ALIVE, frames.next()).await {
            Ok(Some((name, data))) => sse::put(&mut out, None, name, &data),
            Ok(None) => return None,
            Err(_) => sse::put_comment(&mut out, "still here"),
        }
        Some((Ok::<Bytes, Infallible>(out.freeze()), frames))
    });
    let headers = [(header::CONTENT_TYPE, sse::CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(body)).into_response()
}
