//! Numbers that are given out in order, and random ones.

use crate::{id::Epoch, rng::Rng};

/// The stream of random numbers for the seeds of requests.
const SEEDS: u64 = 1;

/// The first order number of a run's jobs: after those of every previous run, ended jobs included, so that a listing is
/// in the order of submission. Leaves 4 billion numbers for each run, and JSON carries them exactly.
const fn first_order(epoch: Epoch) -> u64 {
    epoch.0 << 32
}

/// The numbers that the engine gives out in order.
#[derive(Debug)]
pub(super) struct Sequence {
    /// The last number of a question, a record or a download.
    pub(super) number: u64,
    /// The last place of a job in the order of submission.
    pub(super) order: u64,
}

impl Sequence {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self { number: 0, order: first_order(epoch) }
    }
}

/// The random numbers of the engine, from one seed.
#[derive(Debug)]
pub(super) struct Randomness {
    /// For ties, jitter and names.
    pub(super) rng: Rng,
    /// For the seeds of requests without one. A separate stream, so that a request's seed does not depend on how
    /// earlier jobs were placed.
    pub(super) seeds: Rng,
}

impl Randomness {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), seeds: Rng::stream(seed, SEEDS) }
    }
}
