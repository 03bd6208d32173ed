//! Notices that the other side of a link is gone, although its connection is not closed.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Interval, MissedTickBehavior};

/// The client sends a `PING` in every such interval.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// After this many intervals without a byte the other side is gone.
const MAX_SILENT_TICKS: u32 = 4;

/// The result of one tick of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// The other side may be there.
    Usual,
    /// Nothing has arrived for too long.
    Lost,
}

/// Watches the bytes that arrive on a link. The time is counted in ticks that this process has run itself: if the process
/// was stopped or had no CPU time, the other side is not blamed for it.
#[derive(Debug)]
pub(crate) struct SilenceWatch {
    clock: Interval,
    silent: u32,
}

impl SilenceWatch {
    /// The silence after which the other side is gone.
    pub(crate) const LIMIT: Duration = PING_INTERVAL.saturating_mul(MAX_SILENT_TICKS);

    /// Begins now.
    pub(crate) fn new() -> Self {
        let mut clock = tokio::time::interval(PING_INTERVAL);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        clock.reset();
        Self { clock, silent: 0 }
    }

    /// Something has arrived.
    pub(crate) fn heard(&mut self) {
        self.silent = 0;
    }

    /// Ready at every tick.
    pub(crate) fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Silence> {
        std::task::ready!(self.clock.poll_tick(cx));
        self.silent += 1;
        // The interval in which the last byte arrived does not count as a whole.
        Poll::Ready(if self.silent > MAX_SILENT_TICKS { Silence::Lost } else { Silence::Usual })
    }
}
