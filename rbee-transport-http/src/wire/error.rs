//! Errors on the wire, in rbee's own shape, and in those of OpenAI's, Anthropic's and Ollama's APIs.

use std::time::Duration;

use rbee_core::{CorrelationId, Error, ErrorKind};
use serde::{Deserialize, Serialize};

/// The error body of every daemon: `{"error": {"code", "message", "details", "correlation_id"}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorInfo,
}

/// A description of an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorInfo {
    /// A stable upper-case name; programs branch on it.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// Further facts.
    #[serde(default)]
    pub details: ErrorDetails,
    /// The id by which the request is found in the logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
}

/// Further facts about an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorDetails {
    /// The parameter of the request that is at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// When a retry can succeed, in milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// How many more bytes would have to be free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_bytes: Option<u64>,
    /// The message for a tenant in place of `message`. Hives and workers send it to their queen; a queen sends it to
    /// no client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_message: Option<String>,
}

impl ErrorBody {
    /// The error as a hive or worker sends it to its queen, which may have to report it to a client.
    pub fn for_queen(error: &Error, correlation_id: Option<&CorrelationId>) -> Self {
        let mut body = Self::new(error, correlation_id);
        body.error.details.client_message = error.client_message().map(ToOwned::to_owned);
        body
    }

    /// The error as it is sent to the client of this request.
    pub fn new(error: &Error, correlation_id: Option<&CorrelationId>) -> Self {
        let details = ErrorDetails {
            param: error.param().map(ToOwned::to_owned),
            retry_after_ms: error
                .retry_after()
                .map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
            short_bytes: error.short_bytes(),
            client_message: None,
        };
        Self {
            error: ErrorInfo {
                code: error.kind().code().to_owned(),
                message: error.message().to_owned(),
                details,
                correlation_id: correlation_id.map(ToString::to_string),
            },
        }
    }
}

impl From<ErrorInfo> for Error {
    /// An error with an unknown code becomes [`ErrorKind::Internal`].
    fn from(info: ErrorInfo) -> Self {
        let kind = ErrorKind::from_code(&info.code);
        let message = match kind {
            Some(_) => info.message,
            None => format!("{} ({})", info.message, info.code),
        };
        let mut error = Error::new(kind.unwrap_or(ErrorKind::Internal), message);
        if let Some(param) = info.details.param {
            error = error.with_param(param);
        }
        if let Some(after) = info.details.retry_after_ms {
            error = error.with_retry_after(Duration::from_millis(after));
        }
        if let Some(bytes) = info.details.short_bytes {
            error = error.with_short_bytes(bytes);
        }
        if let Some(message) = info.details.client_message {
            error = error.with_client_message(message);
        }
        error
    }
}

/// An error in the shape of OpenAI's API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OpenAiErrorBody {
    /// The error.
    pub error: OpenAiError,
}

/// A description of an error, in the shape of OpenAI's API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OpenAiError {
    /// A sentence for people.
    pub message: String,
    /// The class of the error.
    #[serde(rename = "type")]
    pub kind: String,
    /// The parameter of the request that is at fault.
    pub param: Option<String>,
    /// The code of the error: OpenAI's own if clients act on it, else rbee's in lower case.
    pub code: Option<String>,
}

impl From<&Error> for OpenAiErrorBody {
    fn from(error: &Error) -> Self {
        Self {
            error: OpenAiError {
                message: error.message().to_owned(),
                kind: error.kind().openai_type().to_owned(),
                param: error.param().map(ToOwned::to_owned),
                code: Some(openai_code(error.kind())),
            },
        }
    }
}

fn openai_code(kind: ErrorKind) -> String {
    match kind {
        // Clients shorten the conversation and try again if they read this code.
        ErrorKind::ContextExceeded => "context_length_exceeded".into(),
        kind => kind.code().to_ascii_lowercase(),
    }
}

/// The parameter with which a client asks Anthropic's API to keep a conversation.
const THREAD: &str = "thread";

/// An error in the shape of Anthropic's API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AnthropicErrorBody {
    /// `error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The error.
    pub error: AnthropicError,
    /// The id by which the request is found in the logs.
    #[serde(default)]
    pub request_id: Option<String>,
}

/// A description of an error, in the shape of Anthropic's API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AnthropicError {
    /// The class of the error.
    #[serde(rename = "type")]
    pub kind: String,
    /// A sentence for people. It names the parameter that is at fault.
    pub message: String,
    /// What a client can act on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<AnthropicErrorDetails>,
}

/// What a client can do about an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AnthropicErrorDetails {
    /// `thread_unsupported_request`: the server keeps no conversation; clients then send the whole conversation with
    /// every request.
    pub error_code: String,
    /// The fields of the request that are not supported.
    pub unsupported: Vec<String>,
}

impl AnthropicErrorBody {
    /// The error with the status of its response, as it is sent to the client of this request.
    pub fn new(error: &Error, status: u16, id: Option<&CorrelationId>) -> Self {
        // Clients shorten the conversation and try again if the message begins like this.
        let message = match error.kind() {
            ErrorKind::ContextExceeded => format!("prompt is too long: {}", error.message()),
            _ => error.message().to_owned(),
        };
        let details = (error.param() == Some(THREAD)).then(|| AnthropicErrorDetails {
            error_code: "thread_unsupported_request".into(),
            unsupported: vec![THREAD.into()],
        });
        Self {
            kind: "error".into(),
            error: AnthropicError { kind: anthropic_type(status).into(), message, details },
            request_id: id.map(ToString::to_string),
        }
    }
}

/// The class that Anthropic's API has for a status.
fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        504 => "timeout_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// An error in the shape of Ollama's API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OllamaErrorBody {
    /// A sentence for people.
    pub error: String,
}

impl From<&Error> for OllamaErrorBody {
    fn from(error: &Error) -> Self {
        Self { error: error.message().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_comes_back_as_it_went() {
        for kind in ErrorKind::ALL {
            let error = Error::new(*kind, "what happened")
                .with_param("temperature")
                .with_retry_after(Duration::from_millis(1500))
                .with_short_bytes(5);
            let text = serde_json::to_string(&ErrorBody::new(&error, None)).unwrap();
            assert!(!text.contains("client_message"), "{text}");
            let error = error.with_client_message("the message for a client");
            let text = serde_json::to_string(&ErrorBody::for_queen(&error, None)).unwrap();
            let back: Error = serde_json::from_str::<ErrorBody>(&text).unwrap().error.into();
            assert_eq!(back, error);
            assert_eq!(back.client_message(), error.client_message());
            assert_eq!(back.retry_after(), error.retry_after());
            assert_eq!(back.short_bytes(), error.short_bytes());
            assert_eq!(back.param(), error.param());
        }
    }

    #[test]
    fn an_unknown_code_is_an_internal_error_that_names_the_code() {
        let text = r#"{"error":{"code":"FROM_THE_FUTURE","message":"boom","more":1}}"#;
        let error: Error = serde_json::from_str::<ErrorBody>(text).unwrap().error.into();
        assert_eq!(
            (error.kind(), error.message()),
            (ErrorKind::Internal, "boom (FROM_THE_FUTURE)")
        );
    }

    #[test]
    fn anthropic_clients_see_their_own_shape() {
        let error = Error::new(ErrorKind::ContextExceeded, "it has 9 tokens");
        let body = AnthropicErrorBody::new(&error, 400, Some(&"abc".parse().unwrap()));
        let expected = serde_json::json!({
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "prompt is too long: it has 9 tokens"},
            "request_id": "abc",
        });
        assert_eq!(serde_json::to_value(body).unwrap(), expected);
        let kinds = [401, 403, 404, 409, 413, 415, 429, 500, 502, 503, 504].map(anthropic_type);
        let expected = [
            "authentication_error",
            "permission_error",
            "not_found_error",
            "invalid_request_error",
            "request_too_large",
            "invalid_request_error",
            "rate_limit_error",
            "api_error",
            "api_error",
            "overloaded_error",
            "timeout_error",
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn openai_clients_see_their_own_shape() {
        let error = Error::new(ErrorKind::RateLimited, "too fast").with_param("model");
        let body = serde_json::to_value(OpenAiErrorBody::from(&error)).unwrap();
        let expected = serde_json::json!({"error": {
            "message": "too fast", "type": "rate_limit_error", "param": "model", "code": "rate_limited",
        }});
        assert_eq!(body, expected);
        let error = Error::new(ErrorKind::ContextExceeded, "too long").with_param("messages");
        let body = serde_json::to_value(OpenAiErrorBody::from(&error)).unwrap();
        let expected = serde_json::json!({"error": {
            "message": "too long", "type": "invalid_request_error", "param": "messages",
            "code": "context_length_exceeded",
        }});
        assert_eq!(body, expected);
    }
}
