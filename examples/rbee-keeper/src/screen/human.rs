//! Sizes and times for people.

use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes, in decimal units.
///
/// ```
/// use rbee_keeper::human::bytes;
///
/// assert_eq!(bytes(999), "999 B");
/// assert_eq!(bytes(1_250), "1.2 kB");
/// assert_eq!(bytes(34_900_000), "35 MB");
/// ```
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = count as f64;
    let mut unit = 0;
    // A value that would round to four digits uses the next unit.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1e3;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 9.95);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A large number in short form: 349M, 1.2B.
///
/// ```
/// use rbee_keeper::human::large;
///
/// assert_eq!(large(852_000), "852k");
/// assert_eq!(large(1_235_814_400), "1.2B");
/// ```
pub fn large(number: u64) -> String {
    bytes(number).trim_end_matches('B').replace(' ', "").replace('G', "B")
}

/// A duration in its largest unit.
///
/// ```
/// use rbee_keeper::human::span;
///
/// assert_eq!(span(340), "340ms");
/// assert_eq!(span(61_000), "1m");
/// ```
pub fn span(ms: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    for (length, unit) in UNITS {
        if ms >= length {
            return format!("{}{unit}", ms / length);
        }
    }
    format!("{ms}ms")
}

/// How long ago a time was, by this machine's clock. A time in the future, by another machine's clock, is now.
pub fn ago(at_ms: u64) -> String {
    let past = now_ms().saturating_sub(at_ms);
    if past < 1_000 { "now".into() } else { span(past) }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// A time in UTC: `2026-11-23 18:59:49`.
pub fn moment(at_ms: u64) -> String {
    let seconds = at_ms / 1_000;
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a number of days since the Unix epoch, by Howard Hinnant's `civil_from_days`.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// A count with its noun: `1 worker`, `2 workers`.
pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_never_have_more_than_three_digits() {
        for (count, said) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (9_949, "9.9 kB"),
            (9_950, "10 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (24_600_000_000, "25 GB"),
            (u64::MAX, "18447 PB"),
        ] {
            assert_eq!(bytes(count), said);
        }
    }

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (at, said) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399_000, "2000-02-28 23:59:59"),
            (951_782_400_000, "2000-02-29 00:00:00"),
            (1_795_460_389_123, "2026-11-23 18:59:49"),
            (4_107_542_400_000, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(moment(at), said);
        }
        assert!(!moment(u64::MAX).is_empty());
    }
}
