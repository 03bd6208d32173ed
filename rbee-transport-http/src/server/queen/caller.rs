//! The caller: the operator, who may do everything, or a tenant, who may use models and manage its own jobs.

use axum::extract::FromRequestParts;
use http::{HeaderMap, Method, header, request::Parts};
use rbee_core::{
    Error, ErrorKind, JobId, Queen, Result, TenantId, registry::JobRecord, settings::Mode,
};

use crate::{
    token::SharedToken,
    wire::{self, ollama, queen as paths},
};

/// The prefix of the keys of tenants.
const KEY: &str = "rbee-";

/// The sender of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// The operator of the queen.
    Operator,
    /// A tenant, identified by its key.
    Tenant(TenantId),
}

/// The paths that a tenant may request.
const OPEN: [&str; 16] = [
    paths::CHAT,
    paths::COMPLETIONS,
    paths::EMBEDDINGS,
    wire::rerank::RERANK,
    wire::rerank::RERANK_V2,
    wire::rerank::RERANK_PLAIN,
    paths::OPENAPI,
    wire::HEALTH,
    "/",
    ollama::VERSION,
    ollama::TAGS,
    ollama::SHOW,
    ollama::CHAT,
    ollama::GENERATE,
    ollama::EMBED,
    ollama::EMBEDDINGS,
];

/// The paths that a tenant may request, with everything below them.
const OPEN_BELOW: [&str; 6] = [
    paths::MODELS,
    paths::JOBS,
    wire::batches::FILES,
    wire::batches::BATCHES,
    wire::messages::MESSAGES,
    wire::responses::RESPONSES,
];

impl Caller {
    /// The caller with these headers. If a queen at home has no token, every caller without a key is the operator: it
    /// then listens to this machine alone. On a platform no such caller is, because any tenant could become the
    /// operator by leaving out its key.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] if token or key is missing or wrong.
    pub(super) fn of(
        headers: &HeaderMap,
        token: Option<&SharedToken>,
        queen: &Queen,
    ) -> Result<Self> {
        let refuse =
            |message: &'static str| Err(Error::for_client(ErrorKind::Unauthorized, message));
        let given = secret(headers);
        if let Some(given) = given.filter(|given| given.starts_with(KEY)) {
            // The operator's token may look like a key.
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
            (Some(_), _) if !has_secret(headers) => {
                refuse("a token is missing; send it as `Authorization: Bearer TOKEN`")
            }
            (Some(_), _) => refuse("the token is wrong"),
        }
    }

    /// Checks that it may request this at all.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] with the path.
    pub(super) fn may(&self, method: &Method, path: &str) -> Result<()> {
        let Self::Tenant(tenant) = self else { return Ok(()) };
        let below = |root: &str| {
            path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if OPEN.contains(&path) || OPEN_BELOW.into_iter().any(below) {
            return Ok(());
        }
        let message = format!(
            "this needs the operator's token: the key of tenant {tenant} does not allow {method} {path}; it allows the \
             use of models, and jobs, files and batches of its own"
        );
        Err(Error::for_client(ErrorKind::PermissionDenied, message))
    }

    /// The tenant whose jobs alone it may see; `None` if it may see all.
    pub(super) fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Operator => None,
            Self::Tenant(tenant) => Some(tenant),
        }
    }

    /// Sets its tenant on a request. An operator's request stays unchanged.
    pub(super) fn mark(&self, request: rbee_core::Request) -> rbee_core::Request {
        match self {
            Self::Operator => request,
            Self::Tenant(tenant) => request.tenant(tenant.clone()),
        }
    }

    /// Checks that it may see this job. A job of another tenant looks like one that does not exist.
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

/// The header in which Anthropic's clients send a key. `Authorization` goes first.
const API_KEY: &str = "x-api-key";

/// The token or the key.
fn secret(headers: &HeaderMap) -> Option<&str> {
    let Some(authorization) = headers.get(header::AUTHORIZATION) else {
        return headers.get(API_KEY)?.to_str().ok().map(str::trim);
    };
    let (scheme, given) = authorization.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| given.trim())
}

/// True if the sender tries to identify itself.
pub(super) fn has_secret(headers: &HeaderMap) -> bool {
    headers.contains_key(header::AUTHORIZATION) || headers.contains_key(API_KEY)
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        // The middleware has set it, and passes on no request without it.
        Ok(parts.extensions.get().cloned().unwrap_or_else(nobody))
    }
}

/// A tenant without jobs and models: the caller of a request without a token or a key, and of a route that the
/// middleware does not guard.
pub(super) fn nobody() -> Caller {
    match TenantId::new("nobody") {
        Ok(tenant) => Caller::Tenant(tenant),
        Err(_) => Caller::Operator,
    }
}
