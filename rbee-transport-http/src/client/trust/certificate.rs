//! The parts of a certificate that a check of exactly this certificate needs: its dates and its common name.

use rustls::pki_types::CertificateDer;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// The tag of the optional version.
const VERSION: u8 = 0xa0;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `UTF8String`, `PrintableString` and `IA5String`: the text types of which every byte is the same in UTF-8.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];
/// The object id of the common name, 2.5.4.3.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// The subject and the dates of a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fields {
    /// The first second of its validity, since 1970.
    pub(super) not_before: i64,
    /// The last second of its validity, since 1970.
    pub(super) not_after: i64,
    /// The common name of its subject; `None` if there is none, or more than one.
    pub(super) common_name: Option<String>,
}

/// Reads the fields; `None` if this is not a certificate in DER.
pub(super) fn read(certificate: &CertificateDer<'_>) -> Option<Fields> {
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
    let mut validity = Reader(body.value(SEQUENCE)?);
    let not_before = time(validity.next()?)?;
    let not_after = time(validity.next()?)?;
    let common_name = common_name(body.value(SEQUENCE)?);
    Some(Fields { not_before, not_after, common_name })
}

/// The only common name of a subject.
fn common_name(subject: &[u8]) -> Option<String> {
    let mut subject = Reader(subject);
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
    fn what_is_cut_or_no_certificate_has_no_fields() {
        let made = rcgen::generate_simple_self_signed(["bee.test".to_owned()]).unwrap();
        let whole = made.cert.der();
        let fields = read(whole).unwrap();
        assert_eq!(fields.common_name.as_deref(), Some("rcgen self signed cert"));
        assert!(fields.not_before < fields.not_after);
        for end in 0..whole.len() {
            assert_eq!(read(&CertificateDer::from(&whole[..end])), None);
        }
        for byte in 0..=255 {
            assert_eq!(read(&CertificateDer::from(vec![byte; 64])), None);
        }
    }
}
