//! [`HttpHive`]: a machine whose agent is another process.

mod models;
mod watch;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use http::Method;
use rbee_core::{
    Error, ErrorKind, HiveBackend, HiveId, Result, Worker, WorkerId, WorkerSpec,
    hive::{HiveEvent, HiveInfo, HiveReport, Progress},
    id::Epoch,
};
use serde::de::DeserializeOwned;

use super::{Endpoint, EventStream, HttpWorker};
use crate::wire::{
    self, ErrorInfo, ProgressBody, Shutdown,
    hive::{Health, Spawn, Stop, WorkerAddress, spawning},
    query,
    sse::Event,
};

/// How long a hive may take to answer what needs no work.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Beyond the grace it was given: how long a hive may take to stop a worker by force, and to answer.
const SLACK: Duration = Duration::from_secs(20);
/// A stream that says nothing for this long, not even that it waits, is broken.
const SILENCE: Duration = Duration::from_secs(60);

/// A hive that is reached over HTTP. Its workers are reached by the same way, at ports of their own: their tokens go
/// straight to whoever asks, and never through the hive.
///
/// ```no_run
/// # async fn example() -> rbee_core::Result<()> {
/// use std::sync::Arc;
/// use rbee_core::Queen;
/// use rbee_transport_http::{client::{Endpoint, HttpHive}, dial::Tcp, wire};
///
/// let token = std::env::var("RBEE_HIVE_TOKEN").ok().map(|text| text.parse()).transpose()?;
/// let endpoint = Endpoint::new(Arc::new(Tcp::new("192.168.1.7")), wire::HIVE_PORT, token);
/// let queen = Queen::builder().hive(HttpHive::connect(endpoint).await?).build().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct HttpHive {
    info: HiveInfo,
    endpoint: Endpoint,
    /// It was shut down from here.
    down: AtomicBool,
    /// The highest revision that was reported.
    seen: Arc<AtomicU64>,
}

impl HttpHive {
    /// The hive of this name behind this endpoint; it need not be there yet.
    pub fn new(id: HiveId, endpoint: Endpoint) -> Self {
        let info = HiveInfo::http(id, endpoint.dial().host(), endpoint.port());
        Self { info, endpoint, down: AtomicBool::new(false), seen: Arc::default() }
    }

    /// Asks the hive behind this endpoint for its name.
    ///
    /// # Errors
    /// [`ErrorKind::HiveUnreachable`] where it does not answer, [`ErrorKind::Unauthorized`] where it wants another
    /// token.
    pub async fn connect(endpoint: Endpoint) -> Result<Self> {
        let health: Health = endpoint.health(TIMEOUT).await?;
        Ok(Self::new(health.hive, endpoint))
    }

    /// Where it is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Who it says that it is.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where another hive answers.
    pub async fn health(&self) -> Result<Health> {
        let health: Health = self.endpoint.health(TIMEOUT).await?;
        if health.hive == self.info.id {
            return Ok(health);
        }
        let message = format!(
            "hive {} answers at {}; expected was {}",
            health.hive,
            self.endpoint.authority(),
            self.info.id
        );
        Err(Error::new(ErrorKind::Config, message))
    }

    fn worker_at(&self, address: WorkerAddress) -> Arc<dyn Worker> {
        let dial = self.endpoint.dial().clone();
        let endpoint = Endpoint::new(dial, address.port, Some(address.token));
        Arc::new(HttpWorker::new(endpoint, Arc::new(address.info)))
    }

    /// Asks for something that answers with progress, and in the end with an event of the name `last`.
    async fn work<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
        last: &str,
        progress: Progress,
    ) -> Result<T> {
        let answer = self.endpoint.open(Method::POST, path, Some(body), TIMEOUT).await?;
        let events = answer.events().map_err(|error| self.broken(error))?;
        let mut events = events.with_silence_limit(SILENCE);
        loop {
            let event = self.next(&mut events).await?;
            // Both streams name these two alike.
            match &*event.name {
                spawning::PROGRESS => {
                    let ProgressBody { done, total } = self.read(&event)?;
                    progress.update(done, total);
                }
                spawning::ERROR => return Err(self.read::<ErrorInfo>(&event)?.into()),
                name if name == last => return self.read(&event),
                _ => {}
            }
        }
    }

    async fn next(&self, events: &mut EventStream) -> Result<Event> {
        match events.next().await {
            Some(event) => event.map_err(|error| self.broken(error)),
            None => {
                let message = format!("hive {} broke off before it was done", self.info.id);
                Err(Error::new(ErrorKind::HiveUnreachable, message))
            }
        }
    }

    fn read<T: DeserializeOwned>(&self, event: &Event) -> Result<T> {
        serde_json::from_slice(&event.data).map_err(|cause| {
            let message = format!(
                "an event {:?} of hive {} is not understood: {cause}",
                event.name, self.info.id
            );
            Error::new(ErrorKind::HiveUnreachable, message).with_source(cause)
        })
    }

    /// What is wrong with a stream is the hive's, and no worker's.
    fn broken(&self, error: Error) -> Error {
        let message = format!("hive {}: {}", self.info.id, error.message());
        Error::new(ErrorKind::HiveUnreachable, message).with_source(error)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn path_of(id: WorkerId) -> String {
    wire::hive::WORKER.replace("{id}", &id.to_string())
}

#[async_trait]
impl HiveBackend for HttpHive {
    /// To run the hive is somebody else's part: that it is there, and is the one it should be, is checked first.
    ///
    /// # Errors
    /// Also those of [`health`](HttpHive::health).
    async fn watch(&self, owner: Epoch) -> Result<BoxStream<'static, HiveEvent>> {
        self.health().await?;
        self.down.store(false, Ordering::Release);
        watch::watch(self.info.id.clone(), self.endpoint.clone(), owner, self.seen.clone()).await
    }

    async fn report(&self) -> Result<HiveReport> {
        let report: HiveReport = self.endpoint.get(wire::hive::CAPABILITIES, TIMEOUT).await?;
        self.seen.fetch_max(report.rev, Ordering::AcqRel);
        Ok(report)
    }

    async fn spawn(
        &self,
        id: WorkerId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> Result<Arc<dyn Worker>> {
        let order = Spawn { id, spec: spec.clone() };
        let address: WorkerAddress =
            self.work(wire::hive::WORKERS, &order, spawning::READY, progress).await?;
        Ok(self.worker_at(address))
    }

    async fn worker(&self, id: WorkerId) -> Result<Arc<dyn Worker>> {
        let address = self.endpoint.get(&path_of(id), TIMEOUT).await?;
        Ok(self.worker_at(address))
    }

    async fn stop(&self, id: WorkerId, grace: Duration) -> Result<()> {
        let path = query::with(&path_of(id), &Stop { grace_ms: millis(grace) })?;
        self.endpoint.open(Method::DELETE, &path, None::<&()>, grace + SLACK).await.map(drop)
    }

    async fn shutdown(&self, grace: Duration) -> Result<()> {
        let order = Shutdown { grace_ms: millis(grace) };
        let told =
            self.endpoint.open(Method::POST, wire::SHUTDOWN, Some(&order), grace + SLACK).await;
        match told {
            // It was told before, and is gone.
            Err(error)
                if error.kind() == ErrorKind::HiveUnreachable
                    && self.down.load(Ordering::Acquire) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
            Ok(_) => {
                self.down.store(true, Ordering::Release);
                Ok(())
            }
        }
    }
}
