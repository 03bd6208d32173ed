//! [`HttpHive`]: a hive in another process.

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

use super::{Endpoint, EventStream, native};
use crate::wire::{
    self, ErrorInfo, ProgressBody, Shutdown,
    hive::{Health, Spawn, Stop, WorkerAddress, spawning},
    queen::{HiveLogQuery, Listing, LogLine},
    query,
    sse::Event,
};

/// The time limit for a response that needs no work.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time beyond the given grace in which a hive kills a worker and responds.
const SLACK: Duration = Duration::from_secs(20);
/// A stream that sends nothing for this long, not even a heartbeat, is broken.
const SILENCE: Duration = Duration::from_secs(60);

/// A hive that is reached over HTTP. Its workers are reached in the same way, each at a port of its own. A worker's
/// tokens go straight to the caller, never through the hive.
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
    /// True once this client has shut it down.
    down: AtomicBool,
    /// The highest revision reported so far.
    seen: Arc<AtomicU64>,
}

impl HttpHive {
    /// The hive of this name behind this endpoint; it does not need to be running yet.
    pub fn new(id: HiveId, endpoint: Endpoint) -> Self {
        let info = HiveInfo::http(id, endpoint.dial().host(), endpoint.port());
        Self { info, endpoint, down: AtomicBool::new(false), seen: Arc::default() }
    }

    /// Asks the hive behind this endpoint for its name.
    ///
    /// # Errors
    /// [`ErrorKind::HiveUnreachable`] if it does not respond, [`ErrorKind::Unauthorized`] if it requires another
    /// token.
    pub async fn connect(endpoint: Endpoint) -> Result<Self> {
        let health: Health = endpoint.health(TIMEOUT).await?;
        Ok(Self::new(health.hive, endpoint))
    }

    /// The endpoint of the hive.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The identity and state that the hive reports.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if another hive responds.
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

    /// The last lines of the hive's log, at most this many, the oldest first.
    ///
    /// # Errors
    /// [`ErrorKind::HiveUnreachable`] if it does not respond, [`ErrorKind::NotFound`] if it keeps no log or is older
    /// than this.
    pub async fn logs(&self, lines: usize) -> Result<Vec<LogLine>> {
        let query = HiveLogQuery { lines: Some(lines) };
        let path = query::with(wire::hive::LOGS, &query)?;
        let listing: Listing<LogLine> = self.endpoint.get(&path, TIMEOUT).await?;
        Ok(listing.data)
    }

    /// As [`watch`](HiveBackend::watch), for a hive whose name is known: without asking for it first.
    ///
    /// # Errors
    /// As [`watch`](HiveBackend::watch).
    pub async fn claim(&self, owner: Epoch) -> Result<BoxStream<'static, HiveEvent>> {
        self.down.store(false, Ordering::Release);
        watch::watch(self.info.id.clone(), self.endpoint.clone(), owner, self.seen.clone()).await
    }

    fn worker_at(&self, address: WorkerAddress) -> Arc<dyn Worker> {
        let dial = self.endpoint.dial().clone();
        let endpoint = Endpoint::new(dial, address.port, Some(address.token));
        native::worker(endpoint, Arc::new(address.info), &address.links)
    }

    /// Sends a request that is answered by progress events and a final event named `last`.
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
            // Both streams use the same names for these two.
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

    /// The error of a stream as an error of the hive, not of a worker.
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
    /// Does not start the hive: this only checks that it is there and is the expected one.
    ///
    /// # Errors
    /// Also those of [`health`](HttpHive::health).
    async fn watch(&self, owner: Epoch) -> Result<BoxStream<'static, HiveEvent>> {
        self.health().await?;
        self.claim(owner).await
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
            // It received the order before, and is gone.
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
