//! The time in which a certificate is valid, read from its DER form.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A certificate that expires within this time gets a warning.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The tag of the optional version, the first field of a certificate.
const VERSION: u8 = 0xa0;

/// A warning if the certificate has expired, expires soon, or is not valid yet at this time. `None` too if its dates
/// cannot be read.
pub(super) fn warning(certificate: &[u8], now: SystemTime) -> Option<String> {
    let (from, until) = dates(certificate)?;
    let now = i64::try_from(now.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
    let soon = i64::try_from(SOON.as_secs()).ok()?;
    if until.seconds < now {
        Some(format!("the certificate expired on {}; clients refuse it, so replace it", until.day))
    } else if now < from.seconds {
        Some(format!(
            "the certificate is not valid before {}; clients refuse it until then",
            from.day
        ))
    } else if until.seconds - now < soon {
        Some(format!("the certificate expires on {}; replace it before that", until.day))
    } else {
        None
    }
}

/// A point in time.
struct Date {
    /// Since 1970, in UTC.
    seconds: i64,
    /// The day, for messages: 2026-01-31.
    day: String,
}

/// The first and the last time at which the certificate is valid.
fn dates(certificate: &[u8]) -> Option<(Date, Date)> {
    let (whole, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(whole, SEQUENCE)?;
    if let Some((_, rest)) = element(fields, VERSION) {
        fields = rest;
    }
    // The serial number, the signature's algorithm and the issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, fields) = element(fields, tag)?;
    }
    let (validity, _) = element(fields, SEQUENCE)?;
    let (from, rest) = date(validity)?;
    let (until, _) = date(rest)?;
    Some((from, until))
}

/// The content of the first element, if it has this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |sum, digit| (sum << 8) | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    (first == tag).then(|| rest.split_at_checked(length)).flatten()
}

fn date(bytes: &[u8]) -> Option<(Date, &[u8])> {
    let (text, rest) = match (element(bytes, UTC_TIME), element(bytes, GENERALIZED_TIME)) {
        (Some((text, rest)), _) => {
            let text = std::str::from_utf8(text).ok()?;
            // Two digits: the years 1950 to 2049.
            let century = if text.get(..2)?.parse::<u32>().ok()? >= 50 { "19" } else { "20" };
            (format!("{century}{text}"), rest)
        }
        (None, Some((text, rest))) => (std::str::from_utf8(text).ok()?.to_owned(), rest),
        (None, None) => return None,
    };
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(8, 10)?, number(10, 12)?, number(12, 14)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || !text.ends_with('Z') {
        return None;
    }
    // Days since 1970, with years that begin in March, so that a leap day is the last day of its year.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    Some((Date { seconds, day: format!("{year:04}-{month:02}-{day:02}") }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate with these dates, with nothing else in it.
    fn certificate(from: &str, until: &str) -> Vec<u8> {
        let element = |tag: u8, content: &[u8]| {
            let mut bytes = vec![tag, 0x82];
            bytes.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
            bytes.extend(content);
            bytes
        };
        let date = |text: &str| {
            element(if text.len() == 13 { UTC_TIME } else { GENERALIZED_TIME }, text.as_bytes())
        };
        let validity = element(SEQUENCE, &[date(from), date(until)].concat());
        let version = element(VERSION, &element(INTEGER, &[2]));
        let fields = [
            version,
            element(INTEGER, &[1]),
            element(SEQUENCE, &[]),
            element(SEQUENCE, &[]),
            validity,
        ];
        element(SEQUENCE, &element(SEQUENCE, &fields.concat()))
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_certificate_is_warned_of_before_it_begins_near_its_end_and_after_it() {
        // 2024-02-29 12:00:00 is 1709208000.
        let bytes = certificate("240229120000Z", "20250228120000Z");
        let said = |seconds| warning(&bytes, at(seconds));
        assert!(said(1_709_207_999).unwrap().contains("not valid before 2024-02-29"));
        assert_eq!(said(1_709_208_000), None);
        // 2025-02-28 12:00:00 is 1740744000.
        assert_eq!(said(1_740_744_000 - SOON.as_secs()), None);
        assert!(said(1_740_744_000).unwrap().contains("expires on 2025-02-28"));
        assert!(said(1_740_744_001).unwrap().contains("expired on 2025-02-28"));
    }

    #[test]
    fn bytes_that_are_no_certificate_have_no_warning_and_do_no_harm() {
        let whole = certificate("240229120000Z", "250228120000Z");
        for length in 0..whole.len() {
            assert_eq!(warning(&whole[..length], at(0)), None, "{length}");
        }
        assert_eq!(warning(&certificate("24022912000\u{fc}", "x"), at(0)), None);
        assert_eq!(warning(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff], at(0)), None);
    }
}
