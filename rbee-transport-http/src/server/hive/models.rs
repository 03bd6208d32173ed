//! The models on a hive's disk: downloaded, received from a sender, and served to others.

use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    body::Body,
    extract::{FromRequestParts, Path, Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use rbee_core::{
    Error, ErrorKind, Result,
    hive::{ModelOrigin, Progress},
    models::{Digest, HubAccess, Manifest, ModelFiles, ModelOnDisk},
};
use tokio::sync::mpsc;

use super::{
    Inner, Shared, answer,
    inbounds::{Inbound, Open, Sent},
    mark, query, streams,
};
use crate::{
    server::{measurements, response},
    wire::hive::{Content, Model, Origin, Part, Provision, Want, provisioning},
};

/// The largest order, in bytes: a manifest of many files.
const MOST_ORDER: usize = 8 << 20;
/// The largest part of a file, in bytes.
pub(crate) const MOST_PART: usize = 16 << 20;
/// How many parts of a file may have arrived and not be written yet.
const UNWRITTEN: usize = 2;
/// How many wanted files may not have been requested yet.
const UNASKED: usize = 64;
/// How long a part may wait for the previous one to be written, and how long its body may take.
const PART_TIMEOUT: Duration = Duration::from_secs(60);

impl Sent {
    /// Asks a sender for a file from this byte on; returns true if there is a sender.
    fn ask(&mut self, file: String, next: u64, to: mpsc::Sender<Bytes>) -> bool {
        self.senders.retain(|sender| !sender.is_closed());
        let want = Want { file: file.clone(), from: next };
        let asked = self.senders.iter().find(|sender| sender.try_send(want.clone()).is_ok());
        let Some(asked) = asked.cloned() else { return false };
        self.open.insert(file, Open { next, to, asked });
        true
    }

    /// Removes a sender: what it was asked for is requested from another one. If there is none, the reader learns
    /// that the file will not come.
    fn leave(&mut self, sender: &mpsc::Sender<Want>) {
        self.senders.retain(|other| !other.same_channel(sender));
        let files: Vec<_> = self.open.keys().cloned().collect();
        for file in files {
            let left = self.open.get(&file).is_some_and(|open| open.asked.same_channel(sender));
            let open = left.then(|| self.open.remove(&file)).flatten();
            // A file that is complete, or no longer read, is not requested again.
            if let Some(Open { next, to, .. }) = open.filter(|open| !open.to.is_closed()) {
                self.ask(file, next, to);
            }
        }
    }
}

impl Inbound {
    fn state(&self) -> MutexGuard<'_, Sent> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next part of a file.
    async fn take(&self, file: &str, from: u64, part: Bytes) -> Result<()> {
        let wrong = |kind, message: String| Err(Error::new(kind, message));
        let unwanted =
            || wrong(ErrorKind::Conflict, format!("the file {file:?} is not wanted now"));
        let Some(to) = self.state().open.get(file).map(|open| open.to.clone()) else {
            return unwanted();
        };
        // Room first: a client that disconnects while there is none has changed nothing.
        let room = match tokio::time::timeout(PART_TIMEOUT, to.reserve()).await {
            Ok(Ok(room)) => room,
            Ok(Err(_)) => return unwanted(),
            Err(_) => {
                self.state().open.remove(file);
                let message =
                    format!("the file {file:?} was not written further within {PART_TIMEOUT:?}");
                return wrong(ErrorKind::Storage, message);
            }
        };
        let mut state = self.state();
        let Some(open) = state.open.get_mut(file).filter(|open| open.to.same_channel(&to)) else {
            return unwanted();
        };
        if open.next != from {
            let next = open.next;
            let message = format!("the file {file:?} is wanted from byte {next} on, not {from}");
            return wrong(ErrorKind::Conflict, message);
        }
        open.next += part.len() as u64;
        room.send(part);
        Ok(())
    }
}

#[async_trait]
impl ModelFiles for Inbound {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    async fn read(&self, file: &str, from: u64) -> Result<BoxStream<'static, Result<Bytes>>> {
        let Some(bytes) = self.manifest.file(file).map(|known| known.bytes) else {
            return Err(Error::new(ErrorKind::NotFound, format!("the model has no file {file:?}")));
        };
        if from >= bytes {
            return Ok(stream::empty().boxed());
        }
        let (to, parts) = mpsc::channel(UNWRITTEN);
        let message = format!("the file {file:?} of the model has no sender any more");
        let broke = Error::new(ErrorKind::HiveUnreachable, message);
        if !self.state().ask(file.to_owned(), from, to) {
            return Err(broke);
        }
        let parts = stream::unfold(Some((parts, bytes - from)), move |left| {
            let broke = broke.clone();
            async move {
                let (mut parts, left) = left.filter(|(_, left)| *left > 0)?;
                match parts.recv().await {
                    Some(part) => {
                        let left = left.saturating_sub(part.len() as u64);
                        Some((Ok(part), Some((parts, left))))
                    }
                    None => Some((Err(broke), None)),
                }
            }
        });
        Ok(parts.boxed())
    }
}

/// Keeps a sender registered; dropping it removes the sender.
struct Attached(Arc<Inbound>, mpsc::Sender<Want>);

impl Drop for Attached {
    fn drop(&mut self) {
        self.0.state().leave(&self.1);
    }
}

/// Puts a model on the disk.
pub(super) async fn provision(State(inner): Shared, request: Request) -> Response {
    let mark = mark(&request);
    match response::read_json::<Provision>(request, MOST_ORDER).await {
        Ok(order) => begin(inner, order),
        Err(error) => response::refuse(&error, mark.as_ref()),
    }
}

fn begin(inner: Arc<Inner>, Provision { model, from }: Provision) -> Response {
    let (ask, wanted) = mpsc::channel(UNASKED);
    let (from, attached) = match from {
        Origin::Here => (ModelOrigin::Here, None),
        Origin::Hub { endpoint, token, anonymous, tenant_budget, offline } => {
            let token = token.map(Into::into);
            let access = HubAccess { endpoint, token, anonymous, tenant_budget, offline };
            (ModelOrigin::Hub(access), None)
        }
        Origin::Sender(manifest) => {
            let inbound = inner.inbounds.of(manifest);
            inbound.state().senders.push(ask.clone());
            (ModelOrigin::Files(inbound.clone()), Some(Attached(inbound, ask)))
        }
    };
    streams::providing(wanted, |progress: Progress| async move {
        let provisioned = inner.hive.provision(&model, from, progress).await;
        drop(attached);
        measurements::provisioned(provisioned.as_ref().err());
        match &provisioned {
            Ok(ModelOnDisk { bytes, .. }) => {
                tracing::info!(%model, bytes, "the model is on the disk")
            }
            Err(error) => tracing::warn!(%model, %error, "the model could not be fetched"),
        }
        provisioned
    })
}

/// Reads a model's files again.
pub(super) async fn verify(State(inner): Shared, request: Request) -> Response {
    let mark = mark(&request);
    match response::read_json::<Model>(request, MOST_ORDER).await {
        Ok(Model { model }) => streams::working(provisioning::DONE, |progress| async move {
            inner.hive.verify(&model, progress).await
        }),
        Err(error) => response::refuse(&error, mark.as_ref()),
    }
}

/// Accepts a part of a requested file.
pub(super) async fn take(State(inner): Shared, request: Request) -> Response {
    let mark = mark(&request);
    let taken = async {
        let Part { file } = query(&request)?;
        let (mut parts, body) = request.into_parts();
        let digest = Path::<String>::from_request_parts(&mut parts, &()).await;
        let digest: Digest = match digest {
            Ok(Path(digest)) => digest.parse()?,
            Err(cause) => return Err(Error::new(ErrorKind::InvalidRequest, cause.body_text())),
        };
        let from = content_range(&parts.headers)?;
        let body = Limited::new(body, MOST_PART).collect();
        let body = match tokio::time::timeout(PART_TIMEOUT, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(cause)) => {
                let message = format!(
                    "the part did not arrive, or is larger than {MOST_PART} bytes: {cause}"
                );
                return Err(Error::new(ErrorKind::InvalidRequest, message));
            }
            Err(_) => {
                let message = format!("the part did not arrive within {PART_TIMEOUT:?}");
                return Err(Error::new(ErrorKind::InvalidRequest, message));
            }
        };
        inner.inbounds.get(&digest)?.take(&file, from, body).await
    };
    match taken.await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => response::refuse(&error, mark.as_ref()),
    }
}

/// The first byte of a part, from `bytes FIRST-LAST/ALL`.
fn content_range(headers: &HeaderMap) -> Result<u64> {
    let text = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let first = text.and_then(|text| text.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok());
    first.ok_or_else(|| {
        let message = format!("Content-Range is {text:?}; allowed is \"bytes FIRST-LAST/ALL\"");
        Error::new(ErrorKind::InvalidRequest, message)
    })
}

/// The first requested byte, from `bytes=FIRST-`; other ranges are not supported.
fn range(headers: &HeaderMap) -> Result<Option<u64>> {
    let Some(value) = headers.get(header::RANGE) else { return Ok(None) };
    let text = value.to_str().ok();
    let first = text.and_then(|text| text.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    first.map(Some).ok_or_else(|| {
        let message = format!("Range is {value:?}; allowed is \"bytes=FIRST-\"");
        Error::new(ErrorKind::InvalidRequest, message)
    })
}

/// The files of a model.
pub(super) async fn manifest(State(inner): Shared, request: Request) -> Response {
    let order = query(&request);
    let listed = async {
        let Model { model } = order?;
        Ok(inner.hive.files(&model).await?.manifest().clone())
    };
    answer(listed.await, &request)
}

/// The bytes of one file.
pub(super) async fn content(State(inner): Shared, request: Request) -> Response {
    let (order, from, mark) = (query(&request), range(request.headers()), mark(&request));
    let read = async {
        let Content { model, file } = order?;
        let from = from?;
        let files = inner.hive.files(&model).await?;
        let bytes = files.manifest().file(&file).map_or(0, |file| file.bytes);
        let first = from.unwrap_or(0);
        Ok::<_, Error>((files.read(&file, first).await?, from, bytes))
    };
    match read.await {
        Ok((parts, from, bytes)) => {
            let first = from.unwrap_or(0);
            let mut response = Body::from_stream(parts).into_response();
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_LENGTH, (bytes - first).into());
            headers.insert(
                header::CONTENT_TYPE,
                header::HeaderValue::from_static("application/octet-stream"),
            );
            if from.is_some() {
                let range = format!("bytes {first}-{}/{bytes}", bytes.saturating_sub(1));
                if let Ok(range) = range.parse() {
                    headers.insert(header::CONTENT_RANGE, range);
                }
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            }
            response
        }
        Err(error) => response::refuse(&error, mark.as_ref()),
    }
}
