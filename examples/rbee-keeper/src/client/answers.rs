//! Answers of the queen, including errors in both of its formats.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use rbee_transport_http::{
    client::{Body, HttpError},
    wire::{CORRELATION_ID, queen::Health, sse},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{About, Events};
use crate::failure::Failure;

/// The maximum size of an answer that is not a stream, in bytes.
const MOST_BYTES: usize = 64 << 20;
/// How many characters of an unreadable answer are shown.
const SHOWN: usize = 200;

/// The head of an answer that is not an error.
#[derive(Debug)]
pub struct Reply {
    response: Response<Body>,
    about: About,
    timeout: Duration,
}

impl Reply {
    pub(super) fn new(response: Response<Body>, mut about: About, timeout: Duration) -> Self {
        // The queen may have replaced our correlation id.
        if let Some(id) = text_of(&response, CORRELATION_ID) {
            about.correlation_id = id;
        }
        Self { response, about, timeout }
    }

    /// Returns the answer itself, or the failure that it describes.
    pub(super) async fn accepted(mut self) -> Result<Self, Failure> {
        if self.response.status().is_success() {
            return Ok(self);
        }
        let bytes = self.bytes().await?;
        Err(self.refusal(&bytes))
    }

    /// The queen's health. While the queen goes down, the answer has the status of an error.
    pub(super) async fn health(mut self) -> Result<Health, Failure> {
        let status = self.response.status();
        let bytes = self.bytes().await?;
        match serde_json::from_slice(&bytes) {
            Ok(health) if status.is_success() || status == StatusCode::SERVICE_UNAVAILABLE => {
                Ok(health)
            }
            Err(cause) if status.is_success() => Err(self.about.stranger(&cause.to_string())),
            _ => Err(self.refusal(&bytes)),
        }
    }

    /// A header, or `None` if it is missing or unreadable.
    pub fn header(&self, name: &str) -> Option<String> {
        text_of(&self.response, name)
    }

    /// True if the answer has no content.
    pub fn is_empty(&self) -> bool {
        self.response.status() == StatusCode::NO_CONTENT
    }

    /// The whole body.
    ///
    /// # Errors
    /// If the body is incomplete, takes too long, or is not what was expected.
    pub async fn json<T: DeserializeOwned>(mut self) -> Result<T, Failure> {
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|cause| self.about.stranger(&cause.to_string()))
    }

    /// The body as a stream of events.
    ///
    /// # Errors
    /// If the body is not a stream of events.
    pub fn events(self) -> Result<Events, Failure> {
        let kind = self.header(header::CONTENT_TYPE.as_str()).unwrap_or_default();
        if !kind.starts_with(sse::CONTENT_TYPE) {
            let why = format!("its content type is \"{kind}\", not {}", sse::CONTENT_TYPE);
            return Err(self.about.stranger(&why));
        }
        Ok(Events::new(self.response, self.about))
    }

    async fn bytes(&mut self) -> Result<Bytes, Failure> {
        let (body, about) = (self.response.body_mut(), &self.about);
        match tokio::time::timeout(self.timeout, body.read(MOST_BYTES)).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(HttpError::TooLarge(most))) => {
                Err(about.stranger(&format!("the answer is larger than {most} bytes")))
            }
            Ok(Err(cause)) => Err(about.lost(&cause)),
            Err(_) => Err(about.silent(self.timeout)),
        }
    }

    fn refusal(&self, bytes: &[u8]) -> Failure {
        let status = self.response.status();
        let after = self.header(header::RETRY_AFTER.as_str());
        let after =
            after.and_then(|text| text.parse::<u64>().ok()).map(|s| s.saturating_mul(1_000));
        let body: Option<Value> = serde_json::from_slice(bytes).ok();
        match body.as_ref().and_then(|body| failure_in(body, Some(status))) {
            Some(failure) => failure,
            None => {
                let text = String::from_utf8_lossy(bytes);
                let shown: String = text.chars().take(SHOWN).collect();
                let said = format!("it says {status} {}", shown.trim());
                self.about.stranger(said.trim_end())
            }
        }
        .with_retry_after(after)
        .with_correlation_id(Some(self.about.correlation_id.clone()))
    }
}

fn text_of(response: &Response<Body>, name: &str) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

/// The failure in an error body: `{"error": {...}}` in rbee's format or in OpenAI's.
pub(crate) fn failure_in(body: &Value, status: Option<StatusCode>) -> Option<Failure> {
    let error = body.get("error")?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(ToOwned::to_owned);
    let message = text(error.get("message"))?;
    let details = error.get("details");
    let code = text(error.get("code")).or_else(|| text(error.get("type")))?;
    let param =
        text(error.get("param")).or_else(|| text(details.and_then(|details| details.get("param"))));
    let after = details.and_then(|details| details.get("retry_after_ms")).and_then(Value::as_u64);
    Some(
        Failure::answered(&code, status.map(|status| status.as_u16()), message)
            .with_param(param)
            .with_retry_after(after)
            .with_correlation_id(text(error.get("correlation_id"))),
    )
}

#[cfg(test)]
mod tests {
    use rbee_core::{Error, ErrorKind};
    use rbee_transport_http::wire::{ErrorBody, OpenAiErrorBody};

    use super::*;
    use crate::Exit;

    #[test]
    fn both_shapes_of_an_error_say_the_same() {
        let error = Error::new(ErrorKind::ModelNotFound, "who?").with_param("model");
        let ours = serde_json::to_value(ErrorBody::new(&error, None)).unwrap();
        let theirs = serde_json::to_value(OpenAiErrorBody::from(&error)).unwrap();
        for body in [ours, theirs] {
            let failure = failure_in(&body, None).unwrap();
            assert_eq!((failure.code(), failure.message()), ("MODEL_NOT_FOUND", "who?"));
            assert_eq!(failure.exit(), Exit::NotFound);
            assert!(failure.to_string().contains("parameter model"));
        }
    }

    #[test]
    fn what_is_no_error_body_is_none() {
        for text in ["{}", "[]", r#"{"error":"boom"}"#, r#"{"error":{"message":1,"code":"x"}}"#] {
            assert!(failure_in(&serde_json::from_str(text).unwrap(), None).is_none(), "{text}");
        }
    }
}
