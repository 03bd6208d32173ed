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

/// The time in C's format, as Python writes it on Linux in the language of C. `%-d` writes no leading zero, `%_d` a space
/// instead of it, `%0e` a zero instead of a space. A letter that has no meaning stays unchanged.
pub(super) fn strftime(format: &str, time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    write(format, &Moment::at(seconds))
}

/// A time, in the parts that it is written in.
struct Moment {
    since_epoch: u64,
    year: u64,
    month: u64,
    day: u64,
    day_of_year: u64,
    /// Days since Sunday.
    weekday: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Moment {
    fn at(since_epoch: u64) -> Self {
        let (days, seconds) = (since_epoch / 86_400, since_epoch % 86_400);
        let (year, month, day, day_of_year) = civil(days);
        Self {
            since_epoch,
            year,
            month,
            day,
            day_of_year,
            weekday: (days + 4) % 7,
            hour: seconds / 3_600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }

    /// Year and number of the week that ISO 8601 counts: a week belongs to the year of its Thursday.
    fn iso_week(&self) -> (u64, u64) {
        let since_monday = (self.weekday + 6) % 7;
        let days = self.since_epoch / 86_400;
        // A Thursday before 1970 belongs to 1970's first week, which began in 1969.
        let (year, _, _, day_of_year) = civil((days + 3).saturating_sub(since_monday));
        (year, (day_of_year - 1) / 7 + 1)
    }
}

fn write(format: &str, at: &Moment) -> String {
    let mut out = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let rest = characters.as_str();
        let flag = characters.clone().next().filter(|flag| matches!(flag, '-' | '_' | '0'));
        if flag.is_some() {
            characters.next();
        }
        let Some(letter) = characters.next() else {
            out.push('%');
            out.push_str(rest);
            break;
        };
        let number = |number: u64, width: usize, padding: char| {
            let digits = number.to_string();
            let padding = match flag {
                Some('-') => return digits,
                Some('_') => ' ',
                Some(_) => '0',
                None => padding,
            };
            format!("{}{digits}", padding.to_string().repeat(width.saturating_sub(digits.len())))
        };
        let weekday = DAYS[((at.weekday + 6) % 7) as usize];
        let month = MONTHS[at.month as usize - 1];
        let hour12 = (at.hour + 11) % 12 + 1;
        out += &match letter {
            'a' => weekday[..3].to_owned(),
            'A' => weekday.to_owned(),
            'b' | 'h' => month[..3].to_owned(),
            'B' => month.to_owned(),
            'c' => write("%a %b %e %H:%M:%S %Y", at),
            'C' => number(at.year / 100, 2, '0'),
            'd' => number(at.day, 2, '0'),
            'D' | 'x' => write("%m/%d/%y", at),
            'e' => number(at.day, 2, ' '),
            'f' => "000000".to_owned(),
            'F' => write("%Y-%m-%d", at),
            'g' => number(at.iso_week().0 % 100, 2, '0'),
            'G' => number(at.iso_week().0, 4, '0'),
            'H' => number(at.hour, 2, '0'),
            'I' => number(hour12, 2, '0'),
            'j' => number(at.day_of_year, 3, '0'),
            'k' => number(at.hour, 2, ' '),
            'l' => number(hour12, 2, ' '),
            'm' => number(at.month, 2, '0'),
            'M' => number(at.minute, 2, '0'),
            'n' => "\n".to_owned(),
            'p' => if at.hour < 12 { "AM" } else { "PM" }.to_owned(),
            'P' => if at.hour < 12 { "am" } else { "pm" }.to_owned(),
            'r' => write("%I:%M:%S %p", at),
            'R' => write("%H:%M", at),
            's' => at.since_epoch.to_string(),
            'S' => number(at.second, 2, '0'),
            't' => "\t".to_owned(),
            'T' | 'X' => write("%H:%M:%S", at),
            'u' => number((at.weekday + 6) % 7 + 1, 1, '0'),
            'U' => number((at.day_of_year + 6 - at.weekday) / 7, 2, '0'),
            'V' => number(at.iso_week().1, 2, '0'),
            'w' => number(at.weekday, 1, '0'),
            'W' => number((at.day_of_year + 6 - (at.weekday + 6) % 7) / 7, 2, '0'),
            'y' => number(at.year % 100, 2, '0'),
            'Y' => number(at.year, 1, '0'),
            // The time has no zone.
            'z' | 'Z' => String::new(),
            '%' => "%".to_owned(),
            other => ['%'].into_iter().chain(flag).chain([other]).collect(),
        };
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
        // 29 February 2024 and the last second of 2100, which is no leap year.
        assert_eq!(strftime("%d %b %Y %j", at(1_709_164_800)), "29 Feb 2024 060");
        assert_eq!(
            strftime("%A %d %B %Y %I:%M:%S %p %j", at(4_133_980_799)),
            "Friday 31 December 2100 11:59:59 PM 365"
        );
    }

    #[test]
    fn times_are_written_as_python_writes_them() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/chat_templates/cases.json");
        let cases: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let times = cases["times"].as_array().unwrap();
        assert!(times.len() > 100);
        for time in times {
            let (seconds, format) = (time[0].as_u64().unwrap(), time[1].as_str().unwrap());
            let written = strftime(format, UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(written, time[2].as_str().unwrap(), "{format} at {seconds}");
        }
    }
}
