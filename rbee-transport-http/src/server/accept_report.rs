//! Warnings about connections that were not accepted, or were closed for others: one line for many of them.

use std::{fmt, io, net::IpAddr, time::Duration};

use tokio::time::Instant;

use super::connections::Spare;

/// The interval between two lines.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);

/// An event that is worth a warning.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event<'a> {
    /// A connection was closed to make room for one of this address.
    Closed(Spare, IpAddr),
    /// A connection of this address was refused: the address has reached its limit.
    Refused(IpAddr),
    /// All connections are in use, and one of this address waits.
    Waits(IpAddr),
    /// The operating system could not accept a connection.
    Failed(&'a io::Error),
}

/// Counts events, and logs them once per [`INTERVAL`].
#[derive(Debug, Default)]
pub(super) struct AcceptReport {
    counts: Counts,
    last_said: Option<Instant>,
}

#[derive(Debug, Default)]
struct Counts {
    silent: u64,
    idle: u64,
    stalled: u64,
    refused: u64,
    waited: u64,
    failed: u64,
    peer: Option<IpAddr>,
    error: Option<String>,
}

impl Counts {
    fn is_empty(&self) -> bool {
        self.peer.is_none() && self.error.is_none()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (count, what) in [
            (self.silent, "silent closed"),
            (self.idle, "idle closed"),
            (self.stalled, "stalled closed"),
            (self.refused, "refused"),
            (self.waited, "had to wait"),
            (self.failed, "not accepted"),
        ] {
            if count > 0 {
                write!(f, "{separator}{count} {what}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

impl AcceptReport {
    pub(super) fn note(&mut self, event: Event<'_>) {
        let counts = &mut self.counts;
        let (count, peer) = match event {
            Event::Closed(Spare::Silent, peer) => (&mut counts.silent, peer),
            Event::Closed(Spare::Idle, peer) => (&mut counts.idle, peer),
            Event::Closed(Spare::Stalled, peer) => (&mut counts.stalled, peer),
            Event::Refused(peer) => (&mut counts.refused, peer),
            Event::Waits(peer) => (&mut counts.waited, peer),
            Event::Failed(error) => {
                counts.failed += 1;
                counts.error = Some(error.to_string());
                return;
            }
        };
        *count += 1;
        counts.peer = Some(peer);
    }

    /// When the next line is due; `None` if there is nothing to log.
    pub(super) fn due(&self) -> Option<Instant> {
        let next = || self.last_said.map_or_else(Instant::now, |last| last + INTERVAL);
        (!self.counts.is_empty()).then(next)
    }

    /// Logs the line if it is due. `open` of at most `most` connections are open.
    pub(super) fn say(&mut self, now: Instant, open: usize, most: usize) {
        if self.counts.is_empty() || self.last_said.is_some_and(|last| now < last + INTERVAL) {
            return;
        }
        let counts = std::mem::take(&mut self.counts);
        self.last_said = Some(now);
        let error = counts.error.as_deref().map(tracing::field::display);
        let last_peer = counts.peer.map(tracing::field::display);
        tracing::warn!(open, most, error, last_peer, "too many connections: {counts}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_happens_often_is_said_once_in_an_interval() {
        let mut report = AcceptReport::default();
        assert_eq!(report.due(), None);
        let (mut lines, peer) = (0, IpAddr::from([10, 0, 0, 1]));
        for _ in 0..1_000 {
            report.note(Event::Closed(Spare::Silent, peer));
            report.note(Event::Failed(&io::ErrorKind::Other.into()));
            let (said, now) = (report.last_said, Instant::now());
            // The clock may have moved since it was read.
            tokio::time::advance(Duration::from_nanos(1)).await;
            report.say(now, 5, 5);
            lines += usize::from(report.last_said != said);
            tokio::time::advance(Duration::from_millis(50)).await;
        }
        assert_eq!(lines, 5, "50 seconds");
        // The last counts are not lost either.
        assert_eq!(report.counts.to_string(), "199 silent closed, 199 not accepted");
        tokio::time::sleep_until(report.due().unwrap()).await;
        report.say(Instant::now(), 5, 5);
        assert!(report.due().is_none() && report.counts.is_empty());
    }
}
