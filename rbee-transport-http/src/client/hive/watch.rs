//! Follows the events of a hive, and renews the lease on it.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_core::stream::BoxStream;
use futures_util::{StreamExt, stream};
use http::Method;
use rbee_core::{Error, HiveId, Result, hive::HiveEvent, id::Epoch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{SILENCE, TIMEOUT};
use crate::{
    client::{Endpoint, EventStream},
    wire::{
        self,
        hive::{Exited, Lease, Owner, happening},
        query,
        sse::Event,
    },
};

/// The shortest time between two heartbeats.
const LEAST_BEAT: Duration = Duration::from_millis(100);

/// Takes the lease on the hive and follows its events. The stream ends if the connection ends or the lease is lost.
pub(super) async fn watch(
    hive: HiveId,
    endpoint: Endpoint,
    owner: Epoch,
    seen: Arc<AtomicU64>,
) -> Result<BoxStream<'static, HiveEvent>> {
    let claim = Claim { hive, endpoint, owner: Owner { owner } };
    let lease = claim.renew().await?;
    let path = query::with(wire::hive::EVENTS, &claim.owner)?;
    let events = claim.endpoint.open(Method::GET, &path, None::<&()>, TIMEOUT).await?.events()?;
    let events = events.with_silence_limit(SILENCE);
    let every = (Duration::from_millis(lease.lease_ms) / 3).max(LEAST_BEAT);
    let mut beat = interval_at(Instant::now() + every, every);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (events, beats) = (Box::pin(events), Box::pin(claim.beats(beat)));
    let watch = Watch { events, beats, seen, reported: false };
    Ok(Box::pin(stream::unfold(watch, |mut watch| async {
        let event = watch.next().await?;
        Some((event, watch))
    })))
}

/// A queen's lease on a hive.
struct Claim {
    hive: HiveId,
    endpoint: Endpoint,
    owner: Owner,
}

impl Claim {
    async fn renew(&self) -> Result<Lease> {
        self.endpoint.call(Method::POST, wire::LEASE, Some(&self.owner), TIMEOUT).await
    }

    /// Sends heartbeats until one is refused; returns that error.
    async fn beats(self, mut beat: Interval) -> Error {
        loop {
            beat.tick().await;
            if let Err(error) = self.renew().await {
                tracing::warn!(hive = %self.hive, %error, "the lease on the hive was not renewed");
                return error;
            }
        }
    }
}

struct Watch {
    events: Pin<Box<EventStream>>,
    beats: Pin<Box<dyn Future<Output = Error> + Send>>,
    /// The highest revision reported so far, also in a response to a request.
    seen: Arc<AtomicU64>,
    /// True once the first report was passed on.
    reported: bool,
}

impl Watch {
    async fn next(&mut self) -> Option<HiveEvent> {
        loop {
            let event = tokio::select! {
                _ = &mut self.beats => return None,
                event = self.events.next() => event?,
            };
            match event.and_then(|event| read(&event)) {
                Ok(Some(event)) if self.is_stale(&event) => {}
                Ok(Some(event)) => return Some(event),
                // An event name of a newer hive.
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "the events of a hive broke off");
                    return None;
                }
            }
        }
    }
}

impl Watch {
    /// True if something newer was reported in the meantime. The first report of a subscription is always passed on
    /// and resets the count: the hive may be another one, with another count.
    fn is_stale(&mut self, event: &HiveEvent) -> bool {
        let HiveEvent::Report(report) = event else { return false };
        if !self.reported {
            self.reported = true;
            self.seen.store(report.rev, Ordering::Release);
            return false;
        }
        report.rev < self.seen.fetch_max(report.rev, Ordering::AcqRel)
    }
}

fn read(event: &Event) -> Result<Option<HiveEvent>> {
    let wrong = |cause: serde_json::Error| {
        let message = format!("an event {:?} of the hive is not understood: {cause}", event.name);
        Error::new(rbee_core::ErrorKind::HiveUnreachable, message).with_source(cause)
    };
    Ok(match &*event.name {
        happening::REPORT => {
            Some(HiveEvent::Report(serde_json::from_slice(&event.data).map_err(wrong)?))
        }
        happening::EXITED => {
            let Exited { worker, why } = serde_json::from_slice(&event.data).map_err(wrong)?;
            Some(HiveEvent::Exited { worker, why: why.into() })
        }
        _ => None,
    })
}
