//! Reads bodies and writes responses, in the shape that all daemons share.

use std::time::Duration;

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Body as HttpBody;
use rbee_core::{CorrelationId, Error, ErrorKind, Result};
use serde::{Serialize, de::DeserializeOwned};

use super::{body_budget::BodyBudget, content_encoding, guard};
use crate::wire::ErrorBody;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A JSON response.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(cause) => {
            // The client may be a tenant: the cause goes to the log only.
            tracing::error!(%cause, "an answer could not be written");
            let message = "the answer cannot be written";
            refuse(&Error::for_client(ErrorKind::Internal, message), None)
        }
    }
}

/// An error, as a hive or worker sends it to its queen.
pub(super) fn refuse(error: &Error, correlation_id: Option<&CorrelationId>) -> Response {
    let mut response = json(status(error), &ErrorBody::for_queen(error, correlation_id));
    add_headers(error, response.headers_mut());
    response
}

/// The response for an unknown path.
pub(super) async fn not_found(request: Request) -> Response {
    let message = format!("there is no path {}", request.uri().path());
    refuse(&Error::new(ErrorKind::NotFound, message), request.extensions().get())
}

/// The response for a known path with another method.
pub(super) async fn method_not_allowed(request: Request) -> Response {
    let message = format!("{} is not allowed on {}", request.method(), request.uri().path());
    refuse(&Error::new(ErrorKind::MethodNotAllowed, message), request.extensions().get())
}

/// The status of an error.
pub(super) fn status(error: &Error) -> StatusCode {
    // A test checks that the table has only valid statuses.
    StatusCode::from_u16(error.kind().http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Adds the headers of an error.
pub(super) fn add_headers(error: &Error, headers: &mut HeaderMap) {
    if let Some(after) = error.retry_after() {
        put_retry_after(headers, after);
    }
    if error.kind() == ErrorKind::UnsupportedMediaType
        && error.param() == Some(header::CONTENT_ENCODING.as_str())
    {
        let accepted = HeaderValue::from_static(content_encoding::ACCEPTED);
        headers.insert(header::ACCEPT_ENCODING, accepted);
    }
    if error.kind() == ErrorKind::Unauthorized {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
}

/// Sets `Retry-After`: in whole seconds, rounded up, so that a client does not come back too early.
pub(super) fn put_retry_after(headers: &mut HeaderMap, after: Duration) {
    let seconds = after.as_millis().div_ceil(1_000).max(1);
    headers.insert(header::RETRY_AFTER, u64::try_from(seconds).unwrap_or(u64::MAX).into());
}

/// Reads the whole body of a request of content type JSON, with all of its memory taken from the budget. A compressed
/// body is decoded; the limit applies to it, and to what it is decoded to.
///
/// # Errors
/// [`ErrorKind::UnsupportedMediaType`], [`ErrorKind::PayloadTooLarge`], [`ErrorKind::InvalidRequest`] if it does not
/// arrive, or the error of the budget.
pub(super) async fn read_body(
    request: Request<Body>,
    most: usize,
    budget: &mut impl BodyBudget,
) -> Result<Vec<u8>> {
    // The guard has checked that the content type is present and is JSON, except for the parts of models.
    let kind = request.headers().get(header::CONTENT_TYPE);
    if !kind.and_then(|kind| kind.to_str().ok()).is_some_and(guard::is_json) {
        return Err(Error::for_client(
            ErrorKind::UnsupportedMediaType,
            match kind {
                Some(kind) => format!(
                    "the content type is \"{}\"; allowed is application/json",
                    String::from_utf8_lossy(kind.as_bytes())
                ),
                None => "the content type is missing; allowed is application/json".into(),
            },
        ));
    }
    let coding = content_encoding::of(request.headers())?;
    let collected = collect(request.into_body(), most, budget);
    let body = tokio::time::timeout(BODY_TIMEOUT, collected).await.unwrap_or_else(|_| {
        let message = format!("the body did not arrive within {BODY_TIMEOUT:?}");
        Err(Error::for_client(ErrorKind::InvalidRequest, message))
    })?;
    match coding {
        Some(coding) => content_encoding::decode(body, coding, most, budget).await,
        None => Ok(body.0),
    }
}

/// Copies the body into one buffer; also returns what was taken from the budget. Its parts are not kept: a part of one byte would keep the connection's whole read
/// buffer alive.
async fn collect(
    mut body: Body,
    most: usize,
    budget: &mut impl BodyBudget,
) -> Result<(Vec<u8>, usize)> {
    let too_large = || {
        let message = format!("the body is larger than {most} bytes");
        Error::for_client(ErrorKind::PayloadTooLarge, message)
    };
    let hint = HttpBody::size_hint(&body);
    let announced = usize::try_from(hint.lower()).unwrap_or(usize::MAX);
    if announced > most {
        return Err(too_large());
    }
    budget.check(announced)?;
    let ceiling = hint.upper().and_then(|upper| usize::try_from(upper).ok()).unwrap_or(most);
    let (mut whole, mut held) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|cause| {
            let message = format!("the body did not arrive: {cause}");
            Error::for_client(ErrorKind::InvalidRequest, message)
        })?;
        let Some(part) = frame.data_ref() else { continue };
        let length = whole.len() + part.len();
        if length > most {
            return Err(too_large());
        }
        if length > held {
            // While the buffer is moved to a larger one, both exist.
            let capacity = (held * 2).min(ceiling).max(length);
            budget.take(capacity)?;
            whole.reserve_exact(capacity - whole.len());
            budget.give_back(held);
            held = capacity;
        }
        whole.extend_from_slice(part);
    }
    Ok((whole, held))
}

/// Reads the body of a request as JSON.
///
/// # Errors
/// As [`read_body`], and [`ErrorKind::InvalidRequest`] with the place at which it is not as expected.
pub(super) async fn read_json<T: DeserializeOwned>(
    request: Request<Body>,
    most: usize,
) -> Result<T> {
    parse(&read_body(request, most, &mut ()).await?)
}

/// Parses JSON.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the place at which it is not as expected.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|cause| {
        Error::for_client(ErrorKind::InvalidRequest, format!("the body is not understood: {cause}"))
            .with_source(cause)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_a_status() {
        for kind in ErrorKind::ALL {
            let error = Error::new(*kind, "x");
            assert_eq!(status(&error).as_u16(), kind.http_status(), "{kind}");
        }
    }
}
