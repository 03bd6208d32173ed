//! The warning about the time in which the server's certificate is valid.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::certificate::{Validity, day, validity};

/// A certificate that expires within this time gets a warning.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// A warning if the certificate has expired, expires soon, or is not valid yet at this time. `None` too if its dates
/// cannot be read.
pub(super) fn warning(certificate: &[u8], now: SystemTime) -> Option<String> {
    let Validity { not_before, not_after } = validity(certificate)?;
    let now = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
    if not_after < now {
        let day = day(not_after);
        Some(format!("the certificate expired on {day}; clients refuse it, so replace it"))
    } else if now < not_before {
        let day = day(not_before);
        Some(format!("the certificate is not valid before {day}; clients refuse it until then"))
    } else if not_after - now < SOON.as_secs() {
        Some(format!("the certificate expires on {}; replace it before that", day(not_after)))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_of_before_it_begins_near_its_end_and_after_it() {
        let mut params = rcgen::CertificateParams::new(["bee.test".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2024, 2, 29);
        params.not_after = rcgen::date_time_ymd(2025, 2, 28);
        let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let said = |seconds| warning(made.der(), UNIX_EPOCH + Duration::from_secs(seconds));
        // The first second of 2024-02-29, and that of 2025-02-28.
        let (from, until) = (1_709_164_800, 1_740_700_800);
        assert!(said(from - 1).unwrap().contains("not valid before 2024-02-29"));
        assert_eq!(said(from), None);
        assert_eq!(said(until - SOON.as_secs()), None);
        assert!(said(until - SOON.as_secs() + 1).unwrap().contains("expires on 2025-02-28"));
        assert!(said(until).unwrap().contains("expires on 2025-02-28"));
        assert!(said(until + 1).unwrap().contains("expired on 2025-02-28"));
    }

    #[test]
    fn bytes_that_are_no_certificate_have_no_warning() {
        assert_eq!(warning(b"no certificate", UNIX_EPOCH), None);
    }
}
