//! The dates and the common name of a certificate, read from its DER form.

use rbee_core::time::WallTime;

const SEQUENCE: u8 = 0x30;
/// The tag of the optional version.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The time in which a certificate is valid, in seconds since 1970; a time before is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    /// Its first second.
    pub(crate) not_before: u64,
    /// Its last second.
    pub(crate) not_after: u64,
}

/// The time in which the certificate is valid; `None` if this is not a certificate in DER.
pub(crate) fn validity(certificate: &[u8]) -> Option<Validity> {
    let mut validity = Reader(validity_and_rest(certificate)?.value(SEQUENCE)?);
    let mut next = || Some(time(validity.next()?)?.max(0).unsigned_abs());
    Some(Validity { not_before: next()?, not_after: next()? })
}

/// The common name of the certificate's subject; `None` if there is none, or more than one.
#[cfg(feature = "https")]
pub(crate) fn common_name(certificate: &[u8]) -> Option<String> {
    const SET: u8 = 0x31;
    const OBJECT_ID: u8 = 0x06;
    /// `UTF8String`, `PrintableString` and `IA5String`: the text types of which every byte is the same in UTF-8.
    const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];
    /// The object id of the common name, 2.5.4.3.
    const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

    let mut rest = validity_and_rest(certificate)?;
    rest.value(SEQUENCE)?;
    let mut subject = Reader(rest.value(SEQUENCE)?);
    let mut found = None;
    while !subject.0.is_empty() {
        let mut set = Reader(subject.value(SET)?);
        while !set.0.is_empty() {
            let mut attribute = Reader(set.value(SEQUENCE)?);
            if attribute.value(OBJECT_ID)? != COMMON_NAME {
                continue;
            }
            let (tag, text) = attribute.next()?;
            if !TEXTS.contains(&tag) || found.is_some() {
                return None;
            }
            found = Some(String::from_utf8(text.to_vec()).ok()?);
        }
    }
    found
}

/// The day of a number of seconds since 1970, for messages: `2026-11-29`.
pub(crate) fn day(seconds: u64) -> String {
    let mut date = WallTime::from_millis(seconds.saturating_mul(1_000)).to_string();
    date.truncate(date.find('T').unwrap_or(date.len()));
    date
}

/// The fields of a certificate from its validity on.
fn validity_and_rest(certificate: &[u8]) -> Option<Reader<'_>> {
    let mut outer = Reader(certificate);
    let mut whole = Reader(outer.value(SEQUENCE)?);
    let mut body = Reader(whole.value(SEQUENCE)?);
    if body.0.first() == Some(&VERSION) {
        body.value(VERSION)?;
    }
    // The serial number, the algorithm of the signature, and the issuer.
    for _ in 0..3 {
        body.next()?;
    }
    Some(body)
}

/// The seconds since 1970 of `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`, the forms that certificates have.
fn time((tag, text): (u8, &[u8])) -> Option<i64> {
    let digits = text.strip_suffix(b"Z")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number =
        |bytes: &[u8]| bytes.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year = number(&digits[..2]);
            (year + if year < 50 { 2000 } else { 1900 }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&digits[..4]), &digits[4..]),
        _ => return None,
    };
    let [month, day, hour, minute, second] =
        std::array::from_fn(|n| number(&rest[2 * n..2 * n + 2]));
    let is_date = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// The days from 1970-01-01 to this date of the Gregorian calendar. The year begins in March, so that a leap day is its
/// last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Reads values in DER one after another.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The tag and the content of the next value.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, length], mut rest) = self.0.split_first_chunk::<2>()?;
        let mut length = usize::from(length);
        if length >= 0x80 {
            // No certificate is larger than a few MiB.
            let (bytes, after) =
                rest.split_at_checked(length - 0x80).filter(|(bytes, _)| bytes.len() <= 4)?;
            length = bytes.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
            rest = after;
        }
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next value, which must have this tag.
    fn value(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        for (tag, text, expected) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "500101000000Z", Some(-631_152_000)),
            (GENERALIZED_TIME, "20240229120000Z", Some(1_709_208_000)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (GENERALIZED_TIME, "20241301000000Z", None),
            (UTC_TIME, "20240229120000Z", None),
            (UTC_TIME, "7001010000+1Z", None),
            (UTC_TIME, "700101000000", None),
        ] {
            assert_eq!(time((tag, text.as_bytes())), expected, "{text}");
        }
    }

    #[test]
    fn a_number_of_seconds_has_a_day() {
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(1_709_208_000), "2024-02-29");
        assert_eq!(day(253_402_300_799), "9999-12-31");
        assert!(!day(u64::MAX).contains('T'));
    }

    #[test]
    fn what_is_cut_or_no_certificate_has_no_fields() {
        let mut params = rcgen::CertificateParams::new(["bee.test".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(1960, 1, 1);
        params.not_after = rcgen::date_time_ymd(2100, 3, 1);
        let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let whole = made.der();
        let valid = Validity { not_before: 0, not_after: 4_107_542_400 };
        assert_eq!(validity(whole), Some(valid));
        #[cfg(feature = "https")]
        assert_eq!(common_name(whole).as_deref(), Some("rcgen self signed cert"));
        let cut = (0..whole.len()).map(|end| whole[..end].to_vec());
        for bytes in cut.chain((0..=255).map(|byte| vec![byte; 64])) {
            assert_eq!(validity(&bytes), None);
            #[cfg(feature = "https")]
            assert_eq!(common_name(&bytes), None);
        }
        assert_eq!(validity(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
