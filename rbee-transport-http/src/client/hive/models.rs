//! Sending models to a hive, and reading them from one.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream::FuturesUnordered};
use http::Method;
use rbee_core::{
    Error, ErrorKind, ModelRef, Result,
    hive::{HiveInfo, ModelHost, ModelOrigin, Progress},
    models::{Damage, HubAccess, Manifest, ModelFiles, ModelOnDisk},
};

use super::{HttpHive, SILENCE, SLACK, TIMEOUT};
use crate::{
    client::Endpoint,
    wire::{
        self, ErrorInfo, ProgressBody,
        hive::{Content, Model, Origin, Part, Provision, Want, provisioning},
        query,
    },
};

/// The size of one part of a file, in bytes.
const PART: usize = 4 << 20;
/// The time limit for one part; the hive writes it to disk before it responds.
const PART_TIMEOUT: Duration = Duration::from_secs(120);
/// The time limit for the manifest of a model.
const HASH_TIMEOUT: Duration = Duration::from_secs(600);

#[async_trait]
impl ModelHost for HttpHive {
    fn info(&self) -> &HiveInfo {
        &self.info
    }

    async fn provision(
        &self,
        model: &ModelRef,
        from: ModelOrigin,
        progress: Progress,
    ) -> Result<ModelOnDisk> {
        let (from, files) = match from {
            ModelOrigin::Here => (Origin::Here, None),
            ModelOrigin::Hub(access) => {
                let HubAccess { endpoint, token, anonymous, tenant_budget, offline } = access;
                let token = token.map(|token| token.to_string());
                (Origin::Hub { endpoint, token, anonymous, tenant_budget, offline }, None)
            }
            ModelOrigin::Files(files) => (Origin::Sender(files.manifest().clone()), Some(files)),
        };
        let order = Provision { model: model.clone(), from };
        let answer =
            self.endpoint.open(Method::POST, wire::hive::PROVISION, Some(&order), TIMEOUT).await?;
        let events = answer.events().map_err(|error| self.broken(error))?;
        let mut events = events.with_silence_limit(SILENCE);
        let mut sending = FuturesUnordered::new();
        loop {
            let event = tokio::select! {
                biased;
                event = self.next(&mut events) => event?,
                Some(sent) = sending.next() => {
                    let sent: Result<()> = sent;
                    match sent {
                        // The hive wants no more of it; its own last event says why.
                        Err(error) if error.kind() == ErrorKind::Conflict => {}
                        // An error of the source is reported by the source; the hive only sees that nothing arrives.
                        sent => sent?,
                    }
                    continue;
                }
            };
            match &*event.name {
                provisioning::PROGRESS => {
                    let ProgressBody { done, total } = self.read(&event)?;
                    progress.update(done, total);
                }
                provisioning::WANT => {
                    let want: Want = self.read(&event)?;
                    if let Some(files) = &files {
                        sending.push(send(&self.endpoint, &**files, want));
                    }
                }
                provisioning::DONE => return self.read(&event),
                provisioning::ERROR => return Err(self.read::<ErrorInfo>(&event)?.into()),
                _ => {}
            }
        }
    }

    async fn files(&self, model: &ModelRef) -> Result<Arc<dyn ModelFiles>> {
        let path = query::with(wire::hive::MANIFEST, &Model { model: model.clone() })?;
        // This hashes a file that was never hashed.
        let manifest = self.endpoint.get(&path, HASH_TIMEOUT).await?;
        Ok(Arc::new(HttpFiles { endpoint: self.endpoint.clone(), model: model.clone(), manifest }))
    }

    async fn verify(&self, model: &ModelRef, progress: Progress) -> Result<Vec<Damage>> {
        let order = Model { model: model.clone() };
        self.work(wire::hive::VERIFY, &order, provisioning::DONE, progress).await
    }

    async fn remove_model(&self, model: &ModelRef) -> Result<()> {
        let path = query::with(wire::hive::MODELS, &Model { model: model.clone() })?;
        self.endpoint.open(Method::DELETE, &path, None::<&()>, SLACK).await.map(drop)
    }
}

/// Sends a file from the requested byte on.
async fn send(
    endpoint: &Endpoint,
    files: &dyn ModelFiles,
    Want { file, from }: Want,
) -> Result<()> {
    let path = wire::hive::MODEL_PART.replace("{digest}", &files.manifest().digest().to_string());
    let path = query::with(&path, &Part { file: file.clone() })?;
    let all = files.manifest().file(&file).map_or(0, |file| file.bytes);
    let mut chunks = files.read(&file, from).await?;
    let (mut at, mut part) = (from, BytesMut::new());
    loop {
        let chunk = chunks.try_next().await?;
        let is_over = chunk.is_none();
        part.extend_from_slice(&chunk.unwrap_or_default());
        while part.len() >= PART || (is_over && !part.is_empty()) {
            let now = part.split_to(part.len().min(PART)).freeze();
            let length = now.len() as u64;
            endpoint.put_part(&path, now, (at, all), PART_TIMEOUT).await?;
            at += length;
        }
        if is_over {
            return Ok(());
        }
    }
}

/// The files of a model on a hive.
#[derive(Debug)]
struct HttpFiles {
    endpoint: Endpoint,
    model: ModelRef,
    manifest: Manifest,
}

#[async_trait]
impl ModelFiles for HttpFiles {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    async fn read(
        &self,
        file: &str,
        from: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, Error>>> {
        let content = Content { model: self.model.clone(), file: file.to_owned() };
        let path = query::with(wire::hive::CONTENT, &content)?;
        let answer = self.endpoint.get_from(&path, from, TIMEOUT).await?;
        Ok(answer.bytes(SILENCE).boxed())
    }
}
