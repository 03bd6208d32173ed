//! The exposed hive: its owner, its follower, and how its workers are reached.

use std::{sync::Arc, time::Duration};

use futures_core::Stream;
use futures_util::StreamExt;
use rbee_core::{
    Error, ErrorKind, HiveBackend, Result, WorkerId,
    hive::{HiveEvent, HiveReport},
    id::Epoch,
};
use tokio::{
    sync::{RwLock, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{inbounds::Inbounds, owner::OwnerLease, reach::Reach};
use crate::{
    server::{Lease, measurements},
    wire::{self, hive::WorkerAddress},
};

/// How long a hive may take to report, for metrics or when a queen takes its lease.
const REPORT_TIMEOUT: Duration = Duration::from_secs(4);
/// The lease of a queen on a hive that has no lease of its own.
const LEASE: Duration = Duration::from_secs(90);

/// The state that the routes share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) hive: Arc<dyn HiveBackend>,
    pub(super) reach: Arc<dyn Reach>,
    pub(super) lease: Option<Lease>,
    owner: watch::Sender<OwnerLease>,
    pub(super) inbounds: Inbounds,
    /// True once it was shut down. Locked for reading while a queen's watch starts the hive, so that none starts it
    /// after the end.
    has_ended: RwLock<bool>,
    pub(super) stop: CancellationToken,
}

impl Inner {
    pub(super) fn new(
        hive: Arc<dyn HiveBackend>,
        reach: Arc<dyn Reach>,
        lease: Option<Lease>,
    ) -> Self {
        Self {
            hive,
            reach,
            lease,
            owner: watch::Sender::default(),
            inbounds: Inbounds::default(),
            has_ended: RwLock::default(),
            stop: CancellationToken::new(),
        }
    }

    /// Takes or renews the lease for the queen of this epoch.
    pub(super) fn claim(&self, owner: Epoch) -> Result<wire::hive::Lease> {
        let length = self.lease.as_ref().map_or(LEASE, Lease::length);
        let mut claimed = Ok(false);
        // Followers of the owner are woken by another owner, not by a renewal.
        self.owner.send_if_modified(|lease| {
            claimed = lease.claim(&self.hive.info().id, owner, Instant::now(), length);
            matches!(claimed, Ok(true))
        });
        if claimed? {
            tracing::info!(hive = %self.hive.info().id, epoch = %owner, "a queen has taken the lease on the hive");
        }
        if let Some(lease) = &self.lease {
            lease.renew();
        }
        Ok(wire::hive::Lease { lease_ms: u64::try_from(length.as_millis()).unwrap_or(u64::MAX) })
    }

    /// Makes the existing workers reachable.
    pub(super) async fn open_all(&self) {
        if !self.reach.must_open() {
            return;
        }
        if let Ok(Ok(report)) = tokio::time::timeout(REPORT_TIMEOUT, self.hive.report()).await {
            self.open(&report).await;
        }
    }

    /// Makes the workers of this report reachable. A failure for one does not affect the others.
    async fn open(&self, report: &HiveReport) {
        if !self.reach.must_open() {
            return;
        }
        for id in report.workers.iter().map(|worker| worker.info.id) {
            let opened = async { self.reach.open(&self.hive.worker(id).await?).await };
            if let Err(error) = opened.await {
                tracing::warn!(worker = %id, %error, "a worker cannot be reached");
            }
        }
    }

    /// The events of the hive, for as long as this queen owns it. Takes no lease.
    pub(super) async fn follow(
        self: &Arc<Self>,
        owner: Epoch,
    ) -> Result<impl Stream<Item = HiveEvent> + use<>> {
        let mut leases = self.owner.subscribe();
        let term = leases.borrow().term_of(&self.hive.info().id, owner)?;
        let events = {
            let has_ended = self.has_ended.read().await;
            if *has_ended {
                let message = format!("hive {} is shut down", self.hive.info().id);
                return Err(Error::new(ErrorKind::HiveUnreachable, message));
            }
            // The backend gets the term, not the epoch, which may be lower than the previous one.
            self.hive.watch(Epoch(term)).await?
        };
        let inner = self.clone();
        // A new worker is reachable when the queen gets the event.
        let events = events.then(move |event| {
            let inner = inner.clone();
            async move {
                if let HiveEvent::Report(report) = &event {
                    inner.open(report).await;
                }
                event
            }
        });
        Ok(events.take_until(async move {
            // An error means that the server is gone, and the stream with it.
            let _ = leases.wait_for(|lease| !lease.is_in(term)).await;
        }))
    }

    /// Sets the metrics that are read from the hive.
    pub(super) async fn measure(&self) {
        if let Ok(Ok(report)) = tokio::time::timeout(REPORT_TIMEOUT, self.hive.report()).await {
            measurements::hive(&self.hive.info().id, &report);
        }
    }

    pub(super) async fn address(&self, id: WorkerId) -> Result<WorkerAddress> {
        self.reach.address(&self.hive.worker(id).await?).await
    }

    /// Stops the workers and the hive; the daemon ends then.
    pub(super) async fn end(&self, grace: Duration) -> Result<()> {
        *self.has_ended.write().await = true;
        let down = self.hive.shutdown(grace).await;
        self.stop.cancel();
        down
    }
}
