//! [`DecodeRate`]: how fast the tokens of one answer arrive.

use std::time::{Duration, Instant};

/// The shortest time in which a rate is measured. Over less, the network and this program are measured, not the model:
/// an answer that arrives at once, from a record for instance, would have any speed.
const SHORTEST: Duration = Duration::from_millis(10);

/// Measures the tokens per second of an answer from its first token to its last. The time before the first token, in
/// which the job waits and the prompt is computed, is no part of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DecodeRate {
    first: Option<Instant>,
    last: Option<Instant>,
    chunks: u32,
}

impl DecodeRate {
    /// Part of the answer, or its end, has arrived at this time.
    pub(crate) fn arrived(&mut self, at: Instant) {
        self.first.get_or_insert(at);
        self.last = Some(at);
        self.chunks += 1;
    }

    /// The arrival of the first part.
    pub(crate) fn first(&self) -> Option<Instant> {
        self.first
    }

    /// `(tokens - 1) / (last - first)`, if each part is one token. If there are fewer parts, then the first has several
    /// tokens as well, and that many are not counted. `None` for one token, and if the time is too short to be
    /// measured.
    pub(crate) fn per_second(&self, tokens: u32) -> Option<f64> {
        let chunks = self.chunks.min(tokens);
        let span = self.last?.saturating_duration_since(self.first?);
        if chunks < 2 || span < SHORTEST {
            return None;
        }
        let counted = f64::from(tokens) * f64::from(chunks - 1) / f64::from(chunks);
        Some(counted / span.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rate of parts that arrive at these milliseconds.
    fn rate(arrivals: impl IntoIterator<Item = u64>, tokens: u32) -> Option<f64> {
        let begin = Instant::now();
        let mut rate = DecodeRate::default();
        for at in arrivals {
            rate.arrived(begin + Duration::from_millis(at));
        }
        rate.per_second(tokens).map(|rate| (rate * 1e6).round() / 1e6)
    }

    #[test]
    fn the_rate_is_that_of_the_tokens_after_the_first() {
        // The prompt takes 5 s; then a token comes each 100 ms.
        assert_eq!(rate((0..11).map(|n| 5_000 + 100 * n), 11), Some(10.0));
        assert_eq!(rate([0, 500], 2), Some(2.0));
        // Four parts of three tokens each: nine of them come after the first part.
        assert_eq!(rate([0, 300, 600, 900], 12), Some(10.0));
        // A part without a token of its own is not counted.
        assert_eq!(rate([0, 500, 1_000], 2), Some(1.0));
    }

    #[test]
    fn nothing_is_said_of_an_answer_that_cannot_be_measured() {
        assert_eq!(rate([], 0), None);
        assert_eq!(rate([0], 1), None);
        // One part with the whole answer, and the end of it much later.
        assert_eq!(rate([700], 40), None);
        assert_eq!(rate([0, 500], 1), None);
        // The whole answer was recorded before, and comes at once.
        assert_eq!(rate(vec![3; 40], 40), None);
        assert_eq!(rate((0..40).map(|n| n / 8), 40), None);
    }
}
