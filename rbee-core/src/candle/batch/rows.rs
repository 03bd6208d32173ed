//! How many tokens of prompts a step computes.

use std::time::Duration;

/// The longest time that tokens of prompts may add to a step of sequences that generate.
const GAP: Duration = Duration::from_millis(100);
/// The same for a step without such sequences. It bounds the time until a new run joins and a dropped one leaves.
const ALONE: Duration = Duration::from_millis(500);
/// The fewest tokens of prompts in a step, also if they take longer: a prompt must not take forever.
const FEWEST: usize = 16;
/// The most tokens of prompts in a step. More are not computed faster.
pub(in crate::candle) const MOST: usize = 512;
/// The number for the first step.
const UNKNOWN: usize = 32;

/// The tokens of prompts in the next step, beside this many sequences that generate. `row` is the time that one takes.
pub(super) fn prompt_rows(generating: usize, row: Option<Duration>) -> usize {
    let Some(row) = row else {
        return UNKNOWN;
    };
    let time = if generating > 0 { GAP } else { ALONE };
    let rows = time.as_nanos() / row.as_nanos().max(1);
    usize::try_from(rows).unwrap_or(usize::MAX).clamp(FEWEST, MOST)
}

/// The measured time of a row.
///
/// It includes a part of the fixed time of a step, so it is rather too long. It rises at once, and falls slowly.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RowTime(Option<Duration>);

impl RowTime {
    pub(super) fn get(self) -> Option<Duration> {
        self.0
    }

    /// Records a step. Steps of few rows say nothing about those of many.
    pub(super) fn note(&mut self, rows: usize, taken: Duration) {
        let Some(rows) = u32::try_from(rows).ok().filter(|rows| *rows as usize >= FEWEST) else {
            return;
        };
        let row = taken / rows;
        self.0 = Some(match self.0 {
            Some(known) if known > row => known - (known - row) / 4,
            _ => row,
        });
    }
}

/// Divides rows among prompts that need this many each, in order of arrival: equal parts, and what one does not need
/// goes to the others, the oldest first.
pub(super) fn shares(rows: usize, needs: &[usize]) -> Vec<usize> {
    let mut left = rows;
    let mut shares = vec![0; needs.len()];
    let equal = rows.div_ceil(needs.len().max(1));
    for most in [equal, usize::MAX] {
        for (share, need) in shares.iter_mut().zip(needs) {
            let more = (need - *share).min(most).min(left);
            *share += more;
            left -= more;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_step_with_prompts_adds_at_most_100_ms_to_the_others_but_never_fewer_than_16_rows() {
        let micros = Duration::from_micros;
        for (generating, row, rows) in [
            (7, None, 32),
            (7, Some(micros(1_000)), 100),
            (7, Some(micros(100)), 512),
            (7, Some(micros(50_000)), 16),
            (0, Some(micros(1_000)), 500),
            (0, Some(micros(100)), 512),
            (0, Some(micros(10_000)), 50),
            (1, Some(Duration::ZERO), 512),
        ] {
            assert_eq!(prompt_rows(generating, row), rows, "{generating} {row:?}");
        }
    }

    #[test]
    fn the_time_of_a_row_rises_at_once_and_falls_slowly() {
        let mut time = RowTime::default();
        time.note(8, Duration::from_secs(8));
        assert_eq!(time.get(), None, "few rows");
        let millis = Duration::from_millis;
        for (taken, known) in [(100, 1_000), (400, 4_000), (0, 3_000), (0, 2_250), (300, 3_000)] {
            time.note(100, millis(taken));
            assert_eq!(time.get(), Some(Duration::from_micros(known)));
        }
    }

    #[test]
    fn a_short_prompt_beside_a_long_one_needs_few_steps() {
        assert_eq!(shares(100, &[8_000, 40]), [60, 40]);
        assert_eq!(shares(100, &[8_000, 70, 900]), [34, 34, 32]);
        assert_eq!(shares(2, &[5, 5, 5]), [1, 1, 0]);
        assert!(shares(5, &[]).is_empty());
    }

    proptest! {
        #[test]
        fn all_rows_are_used_and_the_oldest_gets_some(
            rows in 1..600_usize,
            needs in proptest::collection::vec(1..1_000_usize, 1..20),
        ) {
            let shares = shares(rows, &needs);
            prop_assert_eq!(shares.iter().sum::<usize>(), rows.min(needs.iter().sum()));
            prop_assert!(shares.iter().zip(&needs).all(|(share, need)| share <= need));
            prop_assert!(shares[0] > 0);
        }
    }
}
