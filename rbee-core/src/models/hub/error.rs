//! Failures of a hub.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    error::{Error, ErrorKind},
    model_ref::ModelRef,
};

#[derive(Debug, thiserror::Error)]
pub(in crate::models) enum HubError {
    #[error("{0} is not a model of a hub; allowed is hf:org/repo[@revision][::file=path]")]
    NoHubModel(ModelRef),
    #[error(
        "the hub's endpoint {0:?} is not an address; allowed is http:// or https://, a host, and if needed a port and a path"
    )]
    Endpoint(String),
    #[error(
        "the hub's token is empty, longer than 4096 bytes, or has characters other than printable ASCII in it"
    )]
    Token,
    #[error(
        "the order has a token of the hub, and not the endpoint that it is for; send both, or neither"
    )]
    LooseToken,
    #[error("the hub's interface cannot be set up: {0}")]
    Interface(String),
    #[error("the hub has no {what}")]
    Missing { what: String },
    #[error(
        "the hub has no {what}, or it is private; for a private one give a token of the hub (HF_TOKEN)"
    )]
    MissingOrPrivate { what: String },
    #[error(
        "{what} is gated: accept its terms on {page} and give a token of the hub of that account (HF_TOKEN)"
    )]
    NeedsToken { what: String, page: String },
    #[error(
        "the hub's token does not allow {what}; if it is gated, accept its terms on {page} with the token's account"
    )]
    NotAllowed { what: String, page: String },
    #[error("the hub does not know the token that was given for {what}")]
    BadToken { what: String },
    #[error("the hub answered {status} to the request for {what}")]
    Status { what: String, status: u16 },
    #[error("the hub allows the next request for {what} in {} s", after.as_secs())]
    RateLimited { what: String, after: Duration },
    #[error("the hub cannot be reached for {what}: {cause}")]
    Unreachable { what: String, cause: String },
    #[error("there is no TLS with the hub for {what}: {why}")]
    Tls { what: String, why: &'static str },
    #[error("the connection for {what} delivered nothing for {} s", after.as_secs())]
    Stalled { what: String, after: Duration },
    #[error("the hub ended {what} after {there} of {bytes} bytes")]
    Truncated { what: String, there: u64, bytes: u64 },
    #[error("the hub's answer to the request for {what} is malformed: {why}")]
    Malformed { what: String, why: String },
    #[error("the hub redirected the request for {what} to {why}")]
    Redirect { what: String, why: String },
    #[error(
        "{what} is damaged: its checksum is {found}; the hub says it is {expected}; {}",
        fate(kept.as_deref())
    )]
    Damaged { what: String, found: String, expected: String, kept: Option<PathBuf> },
    #[error("model {model} is not in the hub's cache, and the hub is not asked in offline mode")]
    Offline { model: ModelRef },
    #[error(
        "whether model {model} is public is not known, because the hub is not asked in offline mode; give the model an \
         alias, or put it in the tenant's limits"
    )]
    NotAsked { model: ModelRef },
    #[error("the download of {what} waited {} s for another process that makes no progress", after.as_secs())]
    Locked { what: String, after: Duration },
    #[error("the download was stopped")]
    Abandoned,
}

/// The text about a damaged file's new location.
fn fate(kept: Option<&Path>) -> String {
    match kept {
        Some(kept) => format!("it is kept apart as {}", kept.display()),
        None => "it was removed".into(),
    }
}

impl From<HubError> for Error {
    fn from(error: HubError) -> Self {
        let kind = match &error {
            HubError::NoHubModel(_) | HubError::LooseToken => ErrorKind::InvalidRequest,
            HubError::Endpoint(_) | HubError::Token | HubError::Interface(_) => ErrorKind::Config,
            HubError::Missing { .. }
            | HubError::MissingOrPrivate { .. }
            | HubError::Offline { .. }
            | HubError::NotAsked { .. } => ErrorKind::ModelNotFound,
            // Not `Unauthorized`: the token that the hub refuses is not the one of the caller.
            HubError::NeedsToken { .. }
            | HubError::BadToken { .. }
            | HubError::NotAllowed { .. } => ErrorKind::PermissionDenied,
            HubError::Damaged { .. } => ErrorKind::ModelIncompatible,
            HubError::Abandoned => ErrorKind::Cancelled,
            HubError::Status { .. }
            | HubError::RateLimited { .. }
            | HubError::Unreachable { .. }
            | HubError::Tls { .. }
            | HubError::Stalled { .. }
            | HubError::Truncated { .. }
            | HubError::Malformed { .. }
            | HubError::Redirect { .. }
            | HubError::Locked { .. } => ErrorKind::HubUnreachable,
        };
        let after = match &error {
            HubError::RateLimited { after, .. } => Some(*after),
            _ => None,
        };
        let mut error = Error::new(kind, error.to_string()).with_source(error);
        // The summary of this kind is about the client's own key.
        if kind == ErrorKind::PermissionDenied {
            error = error.with_client_message("the hub does not give this model to the service");
        }
        match after {
            Some(after) => error.with_retry_after(after),
            None => error,
        }
    }
}
