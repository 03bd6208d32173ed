//! The middleware of every request: correlation id, rules on its origin, token, limits of a tenant, and the shape of
//! errors.

use std::borrow::Cow;

use axum::{
    extract::{FromRequestParts, Path, Query, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Method, Uri, request::Parts};
use rbee_core::{CorrelationId, Error, ErrorKind, Result};
use serde::de::DeserializeOwned;

use super::{
    Inner, Shared,
    caller::{self, Caller},
    local_user::{LocalUsers, Locality},
    retry,
};
use crate::{
    server::{correlation, response},
    wire::{
        self, AnthropicErrorBody, CORRELATION_ID, ErrorBody, IDEMPOTENCY_KEY, OllamaErrorBody,
        OpenAiErrorBody,
    },
};

/// OpenAI's own name for the request id; its clients show it in their errors.
const REQUEST_ID: &str = "x-request-id";
/// Anthropic's own name for it.
const ANTHROPIC_REQUEST_ID: &str = "request-id";

/// Anthropic's clients send it with every request.
const ANTHROPIC_VERSION: &str = "anthropic-version";

/// An error on its way to the middleware, which knows the shape that the client expects.
#[derive(Clone, Debug)]
pub(super) struct Refused(Error);

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = retry::status(&self.0).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The result of a handler.
pub(super) type HandlerResult = Result<Response, Refused>;

/// The kind of client, which decides the shape of its errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorFormat {
    OpenAi,
    Anthropic,
    Ollama,
    Own,
}

/// The paths below `/v1` that are not OpenAI's.
const OWN: [&str; 10] = [
    "jobs", "hives", "workers", "catalog", "policy", "tenants", "estimate", "logs", "doctor",
    "admin",
];

impl ErrorFormat {
    /// Unknown paths below `/v1` also count as OpenAI's: its clients request many more.
    /// Models are requested by the clients of two services.
    fn of(path: &str, headers: &HeaderMap) -> Self {
        if path.starts_with("/api/") {
            return Self::Ollama;
        }
        if [wire::rerank::RERANK_V2, wire::rerank::RERANK_PLAIN].contains(&path) {
            return Self::OpenAi;
        }
        let Some(rest) = path.strip_prefix("/v1/") else { return Self::Own };
        let group = rest.split('/').next().unwrap_or_default();
        match group {
            "messages" => Self::Anthropic,
            "models" if headers.contains_key(ANTHROPIC_VERSION) => Self::Anthropic,
            group if OWN.contains(&group) => Self::Own,
            _ => Self::OpenAi,
        }
    }

    /// The response for an error that its reader may read.
    fn refuse(self, error: Cow<'_, Error>, id: &CorrelationId) -> Response {
        let error = &*retry::with_time(error);
        let status = retry::status(error);
        let mut response = match self {
            Self::Own => response::json(status, &ErrorBody::new(error, Some(id))),
            Self::OpenAi => response::json(status, &OpenAiErrorBody::from(error)),
            Self::Anthropic => {
                let body = AnthropicErrorBody::new(error, status.as_u16(), Some(id));
                response::json(status, &body)
            }
            Self::Ollama => response::json(status, &OllamaErrorBody::from(error)),
        };
        response::add_headers(error, response.headers_mut());
        response
    }
}

pub(super) async fn apply(
    State(shared): State<Shared>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = correlation::read(request.headers()).unwrap_or_else(CorrelationId::random);
    let format = ErrorFormat::of(request.uri().path(), request.headers());
    let admitted = shared.admit(request.method(), request.uri(), request.headers());
    let caller = admitted.as_ref().map_or_else(|_| caller::nobody(), Clone::clone);
    let cap = request.extensions().get().copied();
    let slot = admitted.and_then(|_| shared.bounds.begin(&caller, request.uri().path(), cap));
    let mut response = match slot {
        Ok(slot) => {
            let settings = LocalUsers {
                mode: shared.queen.settings().mode,
                allowed: shared.local_users,
                has_host_names: !shared.guard.hosts.is_empty(),
            };
            let locality = Locality::of(
                &caller,
                settings,
                (request.version(), request.uri()),
                request.headers(),
                request.extensions(),
            );
            request.extensions_mut().insert(id.clone());
            request.extensions_mut().insert(caller.clone());
            request.extensions_mut().insert(locality);
            let response = next.run(request).await;
            match slot {
                Some(slot) => slot.hold_with_body(response),
                None => response,
            }
        }
        Err(error) => format.refuse(caller.refusal(&error), &id),
    };
    if let Some(Refused(error)) = response.extensions_mut().remove() {
        let told = caller.error(&error);
        if retry::status(&told).is_server_error() {
            tracing::warn!(correlation_id = %id, error = error.for_log(), "a request failed");
        } else if told.message() != error.message() {
            // Details that are hidden from a tenant must be found by the correlation id.
            tracing::info!(correlation_id = %id, error = error.for_log(), "a request was refused");
        }
        response = format.refuse(told, &id);
    }
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        if format == ErrorFormat::Anthropic {
            response.headers_mut().insert(ANTHROPIC_REQUEST_ID, value.clone());
        }
        response.headers_mut().insert(REQUEST_ID, value.clone());
        response.headers_mut().insert(CORRELATION_ID, value);
    }
    response
}

impl Inner {
    fn admit(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Caller> {
        self.guard.check(method, uri, headers)?;
        let path = uri.path();
        let open = matches!(*method, Method::GET | Method::HEAD)
            && (path == wire::HEALTH || (path == wire::METRICS && !self.metrics_need_token));
        let caller = Caller::of(headers, self.token.as_ref(), &self.queen);
        if open {
            // Without token and key it is answered too, without protected details. A wrong token or key is refused,
            // as everywhere: its sender expects more.
            return match caller {
                Err(_) if !caller::has_secret(headers) && path == wire::HEALTH => {
                    Ok(caller::nobody())
                }
                Err(_) if path == wire::METRICS => {
                    self.guard.check_open(uri, headers).map(|()| caller::nobody())
                }
                caller => caller,
            };
        }
        let caller = caller?;
        caller.may(method, path).map(|()| caller)
    }
}

/// The response for an unknown path. The root is one too, so that an application can have pages of its own there; else
/// clients of Ollama's API find out there that the server has it.
pub(super) async fn not_found(request: Request) -> HandlerResult {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if is_read && request.uri().path() == "/" {
        return Ok(wire::ollama::RUNNING.into_response());
    }
    let message = format!("there is no path {}", request.uri().path());
    Err(Error::for_client(ErrorKind::NotFound, message).into())
}

/// The response for a known path with another method.
pub(super) async fn method_not_allowed(request: Request) -> Refused {
    let message = format!("{} is not allowed on {}", request.method(), request.uri().path());
    Error::for_client(ErrorKind::MethodNotAllowed, message).into()
}

/// The one parameter of the path.
#[derive(Debug)]
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(rejection) => {
                let message = format!("the path is not understood: {}", rejection.body_text());
                Err(Error::for_client(ErrorKind::InvalidRequest, message).into())
            }
        }
    }
}

/// The query of the request.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => {
                let message = format!("the query is not understood: {}", rejection.body_text());
                Err(Error::for_client(ErrorKind::InvalidRequest, message).into())
            }
        }
    }
}

/// The correlation id of the request.
#[derive(Debug)]
pub(super) struct RequestId(pub(super) CorrelationId);

impl<S: Send + Sync> FromRequestParts<S> for RequestId {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        // The middleware has set it.
        Ok(Self(parts.extensions.get().cloned().unwrap_or_else(CorrelationId::random)))
    }
}

/// The key with which the client may repeat the request.
#[derive(Clone, Debug)]
pub(super) struct IdempotencyKey(Option<String>);

impl IdempotencyKey {
    /// The key of a request that the server makes itself.
    pub(super) fn new(key: String) -> Self {
        Self(Some(key))
    }

    /// Sets it on the job of this number among the `count` jobs of one request.
    pub(super) fn mark(
        &self,
        request: rbee_core::Request,
        index: usize,
        count: usize,
    ) -> rbee_core::Request {
        let Some(key) = &self.0 else { return request };
        // One request has far fewer answers than a u32 can count.
        let number = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
        request.idempotency_key(key).idempotency_part(number(index), number(count))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let Some(value) = parts.headers.get(IDEMPOTENCY_KEY) else { return Ok(Self(None)) };
        match value.to_str() {
            Ok(key) => Ok(Self(Some(key.to_owned()))),
            Err(_) => {
                let message = format!(
                    "{IDEMPOTENCY_KEY} is {value:?}; allowed are 1 to 255 visible ASCII characters"
                );
                let error = Error::for_client(ErrorKind::InvalidRequest, message);
                Err(error.with_param(IDEMPOTENCY_KEY).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_shape_of_the_api_whose_clients_look_there() {
        for path in ["/v1/chat/completions", "/v1/models/x/y", "/v1/responses", "/v1/jobsite"] {
            assert_eq!(ErrorFormat::of(path, &HeaderMap::new()), ErrorFormat::OpenAi, "{path}");
        }
        for path in ["/v1/messages", "/v1/messages/count_tokens"] {
            assert_eq!(ErrorFormat::of(path, &HeaderMap::new()), ErrorFormat::Anthropic, "{path}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(ANTHROPIC_VERSION, HeaderValue::from_static("2023-06-01"));
        assert_eq!(ErrorFormat::of("/v1/models/x", &headers), ErrorFormat::Anthropic);
        assert_eq!(ErrorFormat::of("/v1/jobs", &headers), ErrorFormat::Own);
        for path in ["/api/chat", "/api/nothing"] {
            assert_eq!(ErrorFormat::of(path, &HeaderMap::new()), ErrorFormat::Ollama, "{path}");
        }
        for path in ["/v1/jobs", "/v1/jobs/1/events", "/health", "/", "/v2/x", "/api"] {
            assert_eq!(ErrorFormat::of(path, &HeaderMap::new()), ErrorFormat::Own, "{path}");
        }
    }
}
