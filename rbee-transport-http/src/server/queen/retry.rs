//! When a client may try again.
//!
//! 429 and 503 promise that a later try can succeed, and clients that know `Retry-After` act on it. So a response with one
//! of these statuses always has this header, and a refusal of which nobody can say when it ends gets another status.

use std::{borrow::Cow, time::Duration};

use http::StatusCode;
use rbee_core::{Error, ErrorKind};

use crate::server::response;

/// How long a restart takes. The queen itself says the same to readers whose events it interrupts.
pub(super) const RESTART: Duration = Duration::from_secs(1);

/// The error, with the time of the next try if that follows from its kind.
pub(super) fn with_time(error: Cow<'_, Error>) -> Cow<'_, Error> {
    match error.kind() {
        ErrorKind::ShuttingDown | ErrorKind::Interrupted if error.retry_after().is_none() => {
            Cow::Owned(error.into_owned().with_retry_after(RESTART))
        }
        _ => error,
    }
}

/// The status of an error.
pub(super) fn status(error: &Error) -> StatusCode {
    let status = response::status(error);
    match status {
        _ if with_time(Cow::Borrowed(error)).retry_after().is_some() => status,
        // A limit that the request can never meet.
        StatusCode::TOO_MANY_REQUESTS => StatusCode::FORBIDDEN,
        // Somebody must repair it first.
        StatusCode::SERVICE_UNAVAILABLE => StatusCode::INTERNAL_SERVER_ERROR,
        status => status,
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;

    #[test]
    fn no_error_of_any_kind_has_a_status_that_promises_a_time_without_one() {
        let mut promises = 0;
        for kind in ErrorKind::ALL {
            for after in [None, Some(Duration::from_millis(2_500))] {
                let mut error = Error::new(*kind, "x");
                if let Some(after) = after {
                    error = error.with_retry_after(after);
                }
                let status = status(&error);
                let mut response = status.into_response();
                response::add_headers(&with_time(Cow::Borrowed(&error)), response.headers_mut());
                let header = response.headers().get("retry-after");
                if matches!(status.as_u16(), 429 | 503) {
                    promises += 1;
                    let expected = if after.is_some() { "3" } else { "1" };
                    assert_eq!(header.unwrap(), expected, "{kind}");
                } else if after.is_none() {
                    assert_eq!(header, None, "{kind}");
                    assert!(status.is_client_error() || status.is_server_error(), "{kind}");
                }
            }
        }
        assert_eq!(promises, 7 + 2, "seven kinds with a time, and two whose time is always known");
    }
}
