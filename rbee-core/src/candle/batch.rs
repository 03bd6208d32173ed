//! Many sequences in one model: the engine's steps, the blocks of the KV cache, and the cache of prefixes.
//!
//! A step computes one token of every sequence that generates, and some tokens of the prompts that are not in the cache
//! yet. Sequences join and leave between steps. The logits of a sequence do not depend on the others or on how its
//! prompt was divided ([`Model`](rbee_decoder::model::Model)), so all decisions here are about time and memory only:
//! none of them changes an answer.
//!
//! **Order.** Sequences are in order of arrival, and keep their place until they end.
//! - Every sequence that generates gets one token per step.
//! - Prompts share the other rows of a step ([`rows`]) in equal parts, and what one does not need goes to the others in
//!   order of arrival. The oldest always gets some.
//! - A sequence begins when the blocks for all of its tokens are available. If they are not, it waits, and so do all
//!   later ones that have not begun: a small one never overtakes a large one.
//! - A sequence that needs a block takes a free one; else the one of the cached prefix that was not used for the longest
//!   time; else the blocks of another sequence: the newest whose reader does not read, or if all read, the newest that
//!   arrived later. That sequence goes back to waiting, in its place, and is computed again. So the oldest always goes
//!   on, because the blocks of one whole context exist.
//! - A sequence whose reader does not take its outputs is left out of steps until it does.
//!
//! **Tenants.** Cached prefixes are shared within a tenant only. The time to the first token would tell another tenant
//! whether a prompt was computed before.

mod blocks;
#[cfg(test)]
mod cached_tokens_tests;
pub(super) mod outlet;
mod prefix;
pub(super) mod rows;
#[cfg(test)]
pub(super) mod scripted;
mod sequence;
pub(super) mod slots;
pub(super) mod steps;
mod warm;

use std::{fmt, sync::Arc, time::Duration};

/// The time since some moment. Tests give their own.
#[derive(Clone)]
pub(super) struct Clock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock {
    pub(super) fn new(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The clock of the system.
    pub(super) fn system() -> Self {
        let zero = std::time::Instant::now();
        Self::new(move || zero.elapsed())
    }

    pub(super) fn now(&self) -> Duration {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
