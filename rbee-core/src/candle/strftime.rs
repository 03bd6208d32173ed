//! The date for chat templates that use it, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The time in C's format. The letters used in chat templates are supported: `a A b B d e H I j m M p S y Y %`; others
/// stay unchanged.
pub(super) fn strftime(format: &str, time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, seconds) = (seconds / 86_400, seconds % 86_400);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let weekday = DAYS[((days + 3) % 7) as usize];
    let (year, month, day, day_of_year) = civil(days);
    let month_name = MONTHS[month as usize - 1];
    let hour12 = (hour + 11) % 12 + 1;
    let mut out = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        match characters.next() {
            Some('a') => out += &weekday[..3],
            Some('A') => out += weekday,
            Some('b') => out += &month_name[..3],
            Some('B') => out += month_name,
            Some('d') => out += &format!("{day:02}"),
            Some('e') => out += &format!("{day:2}"),
            Some('H') => out += &format!("{hour:02}"),
            Some('I') => out += &format!("{hour12:02}"),
            Some('j') => out += &format!("{day_of_year:03}"),
            Some('m') => out += &format!("{month:02}"),
            Some('M') => out += &format!("{minute:02}"),
            Some('p') => out += if hour < 12 { "AM" } else { "PM" },
            Some('S') => out += &format!("{second:02}"),
            Some('y') => out += &format!("{:02}", year % 100),
            Some('Y') => out += &year.to_string(),
            Some('%') => out.push('%'),
            Some(other) => out.extend(['%', other]),
            None => out.push('%'),
        }
    }
    out
}

/// Year, month, day and day of the year of a day counted from 1 January 1970.
fn civil(mut days: u64) -> (u64, u64, u64, u64) {
    // The calendar repeats every 400 years, of 146,097 days.
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let day_of_year = days + 1;
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1, day_of_year)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let all = "%a %A %d %e %b %B %m %y %Y %j %H %I %M %S %p %% %q";
        assert_eq!(
            strftime(all, at(0)),
            "Thu Thursday 01  1 Jan January 01 70 1970 001 00 12 00 00 AM % %q"
        );
        // 29 February 2024 and the last second of 2100, which is no leap year.
        assert_eq!(strftime("%d %b %Y %j", at(1_709_164_800)), "29 Feb 2024 060");
        assert_eq!(
            strftime("%A %d %B %Y %I:%M:%S %p %j", at(4_133_980_799)),
            "Friday 31 December 2100 11:59:59 PM 365"
        );
    }
}
