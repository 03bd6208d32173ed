//! The correlation id, by which one request is found in the logs of every machine that handled it.

use axum::{extract::Request, middleware::Next, response::Response};
use http::{HeaderMap, HeaderValue};
use rbee_core::CorrelationId;

use crate::wire::CORRELATION_ID;

/// Uses the client's correlation id if it is well-formed, and otherwise makes one; passes it on as an extension of
/// the request, and returns it with the response.
pub(super) async fn mark(mut request: Request, next: Next) -> Response {
    let id = read(request.headers()).unwrap_or_else(CorrelationId::random);
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(CORRELATION_ID, value);
    }
    response
}

pub(super) fn read(headers: &HeaderMap) -> Option<CorrelationId> {
    let text = headers.get(CORRELATION_ID)?.to_str().ok()?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if !text.bytes().all(allowed) {
        return None;
    }
    CorrelationId::new(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_mark_is_taken() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CORRELATION_ID, HeaderValue::from_str(text).unwrap());
            read(&headers).map(|id| id.to_string())
        };
        assert_eq!(read("abc-123").as_deref(), Some("abc-123"));
        for bad in ["", "a b", "a.b", "a_b", &"x".repeat(65)] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
