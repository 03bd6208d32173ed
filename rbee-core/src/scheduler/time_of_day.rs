//! Times of the day, as policies write them.

/// `22:30` as minutes since midnight; `None` if the text is no time of day.
pub(super) fn time_of_day(text: &str) -> Option<u64> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str, below: u64| -> Option<u64> {
        let digits = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|number| digits && *number < below)
    };
    Some(number(hour, 24)? * 60 + number(minute, 60)?)
}

#[cfg(test)]
mod tests {
    use super::time_of_day;

    #[test]
    fn a_time_of_day_is_read_strictly() {
        assert_eq!(time_of_day("22:30"), Some(1350));
        assert_eq!(time_of_day("6:05"), Some(365));
        for wrong in ["24:00", "12:60", "12", "+1:00", "1:2:3", ":", "012:00"] {
            assert_eq!(time_of_day(wrong), None, "{wrong}");
        }
    }
}
