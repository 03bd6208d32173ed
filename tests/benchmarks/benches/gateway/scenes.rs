//! The kinds of load.

use std::time::Duration;

use crate::upstream;

/// A kind of load.
#[derive(Clone, Copy)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    /// The model that answers: see [`upstream`].
    pub(crate) model: &'static str,
    pub(crate) stream: bool,
    pub(crate) tokens: u32,
    pub(crate) connections: usize,
    /// The number of answers in one round.
    pub(crate) answers: usize,
    /// The first requests of the connections are spread over this time.
    pub(crate) spread: Duration,
}

pub(crate) const SCENES: &[Scene] = &[
    whole("whole answers of 16 tokens, C=1", 1, 4_000),
    whole("whole answers of 16 tokens, C=64", 64, 12_000),
    whole("whole answers of 16 tokens, C=256", 256, 12_000),
    fast("streams of 64 tokens at once, C=32", 32, 3_000),
    paced("streams of 64 tokens, one in 10 ms, C=64", 64, 320, Duration::ZERO),
    paced("streams of 64 tokens, one in 10 ms, C=256", 256, 1_024, Duration::ZERO),
    paced("streams of 64 tokens, one in 10 ms, starts spread, C=64", 64, 320, STREAM),
];

/// The duration of a paced stream.
const STREAM: Duration = Duration::from_millis(640);

pub(crate) const fn whole(name: &'static str, connections: usize, answers: usize) -> Scene {
    let (model, spread) = (upstream::FAST, Duration::ZERO);
    Scene { name, model, stream: false, tokens: 16, connections, answers, spread }
}

const fn fast(name: &'static str, connections: usize, answers: usize) -> Scene {
    let (model, spread) = (upstream::FAST, Duration::ZERO);
    Scene { name, model, stream: true, tokens: 64, connections, answers, spread }
}

const fn paced(name: &'static str, connections: usize, answers: usize, spread: Duration) -> Scene {
    let model = upstream::PACED;
    Scene { name, model, stream: true, tokens: 64, connections, answers, spread }
}
