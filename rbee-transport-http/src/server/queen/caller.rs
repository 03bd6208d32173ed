//! Who asks: the operator, who may do everything, or a tenant, who may use models and look after jobs of its own.

use axum::extract::FromRequestParts;
use http::{HeaderMap, Method, header, request::Parts};
use rbee_core::{
    Error, ErrorKind, JobId, Queen, Result, TenantId, registry::JobRecord, settings::Mode,
};

use crate::{
    token::SharedToken,
    wire::{self, queen as paths},
};

/// How the keys of tenants begin.
const KEY: &str = "rbee-";

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Whoever looks after the queen.
    Operator,
    /// Somebody with a key.
    Tenant(TenantId),
}

impl Caller {
    /// Whoever sent these headers. Where a queen at home has no token, everybody without a key is the operator: she
    /// listens to this machine alone then. On a platform nobody is, because that would be any tenant that leaves its key
    /// out.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] where token or key is missing or wrong.
    pub(super) fn of(
        headers: &HeaderMap,
        token: Option<&SharedToken>,
        queen: &Queen,
    ) -> Result<Self> {
        let refuse =
            |message: &'static str| Err(Error::for_client(ErrorKind::Unauthorized, message));
        let given = bearer(headers);
        if let Some(given) = given.filter(|given| given.starts_with(KEY)) {
            // An operator may have chosen a token that looks like a key.
            if token.is_some_and(|token| token.matches(given)) {
                return Ok(Self::Operator);
            }
            return match queen.tenants().of_key(given) {
                Some(tenant) => Ok(Self::Tenant(tenant)),
                None => refuse("the key is not known, or was revoked"),
            };
        }
        match (token, given) {
            (None, _) if queen.settings().mode == Mode::Home => Ok(Self::Operator),
            (None, _) => refuse(
                "a tenant's key is missing; send it as `Authorization: Bearer KEY`. This platform has no token for an \
                 operator",
            ),
            (Some(token), Some(given)) if token.matches(given) => Ok(Self::Operator),
            (Some(_), _) if !headers.contains_key(header::AUTHORIZATION) => {
                refuse("a token is missing; send it as `Authorization: Bearer TOKEN`")
            }
            (Some(_), _) => refuse("the token is not the right one"),
        }
    }

    /// May it ask for this at all?
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] that names the path.
    pub(super) fn may(&self, method: &Method, path: &str) -> Result<()> {
        let Self::Tenant(tenant) = self else { return Ok(()) };
        let below = |root: &str| {
            path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let is_open =
            [paths::CHAT, paths::COMPLETIONS, paths::EMBEDDINGS, paths::OPENAPI, wire::HEALTH];
        if is_open.contains(&path) || below(paths::MODELS) || below(paths::JOBS) {
            return Ok(());
        }
        let message = format!(
            "the key of tenant {tenant} does not allow {method} {path}; it allows the use of models, and jobs of its own"
        );
        Err(Error::for_client(ErrorKind::PermissionDenied, message))
    }

    /// The tenant whose jobs alone it sees; none where it sees all.
    pub(super) fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Operator => None,
            Self::Tenant(tenant) => Some(tenant),
        }
    }

    /// Puts its tenant on a request. What an operator wrote stays.
    pub(super) fn mark(&self, request: rbee_core::Request) -> rbee_core::Request {
        match self {
            Self::Operator => request,
            Self::Tenant(tenant) => request.tenant(tenant.clone()),
        }
    }

    /// Another's job is as good as none.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], as for a job that does not exist.
    pub(super) fn may_see(&self, job: &JobRecord) -> Result<()> {
        match self {
            Self::Tenant(tenant) if job.tenant.as_ref() != Some(tenant) => Err(missing(job.id)),
            _ => Ok(()),
        }
    }
}

pub(super) fn missing(job: JobId) -> Error {
    Error::for_client(ErrorKind::NotFound, format!("job {job} does not exist"))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, given) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| given.trim())
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        // The gate has put it there; nobody is let through without.
        Ok(parts.extensions.get().cloned().unwrap_or_else(nobody))
    }
}

/// A tenant that has no jobs and no model: whoever has not shown a token or a key, and what a route gets that the gate
/// does not guard.
pub(super) fn nobody() -> Caller {
    match TenantId::new("nobody") {
        Ok(tenant) => Caller::Tenant(tenant),
        Err(_) => Caller::Operator,
    }
}
