//! What was used on which day.

/// Tokens used on the current day and on the day before it on the clock. Both are kept, so that a clock that is set
/// back over midnight, or forward by mistake, finds its old value, as in the store, which counts every day separately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Days (UTC, counted from 1970-01-01) with the tokens used on them, the current day first.
    days: [(u64, u64); 2],
}

impl Usage {
    /// Changes to this day of the clock.
    pub(super) fn turn(&mut self, day: u64) {
        if self.days[0].0 == day {
            return;
        }
        self.days.swap(0, 1);
        if self.days[0].0 != day {
            self.days[0] = (day, 0);
        }
    }

    pub(super) fn today(&self) -> u64 {
        self.days[0].1
    }

    pub(super) fn add(&mut self, tokens: u64) {
        self.days[0].1 = self.days[0].1.saturating_add(tokens);
    }

    /// Takes over the store's number of tokens for today; tokens counted here beyond that may not be written yet.
    pub(super) fn at_least(&mut self, tokens: u64) {
        self.days[0].1 = self.days[0].1.max(tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_goes_back_over_midnight_and_forth_finds_what_was_used_on_each_day() {
        let mut usage = Usage::default();
        for (day, used, before) in [(7, 100, 0), (8, 5, 0), (7, 10, 100), (8, 1, 5), (9, 3, 0)] {
            usage.turn(day);
            assert_eq!(usage.today(), before, "day {day}");
            usage.add(used);
        }
        usage.turn(30_000);
        assert_eq!(usage.today(), 0);
        usage.turn(9);
        usage.at_least(2);
        assert_eq!(usage.today(), 3, "a day far ahead was a mistake of the clock");
    }
}
