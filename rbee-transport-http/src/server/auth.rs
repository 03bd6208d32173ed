//! Who may ask.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, header};
use rbee_core::{Error, ErrorKind, Result};

use super::reply;
use crate::SharedToken;

/// Lets a request through that carries the token; without a token to ask for, every request.
pub(super) async fn check(
    State(token): State<Option<SharedToken>>,
    request: Request,
    next: Next,
) -> Response {
    match token.map_or(Ok(()), |token| authorise(&token, request.headers())) {
        Ok(()) => next.run(request).await,
        Err(error) => reply::refuse(&error, request.extensions().get()),
    }
}

/// Does the request carry this token?
pub(super) fn authorise(token: &SharedToken, headers: &HeaderMap) -> Result<()> {
    let refuse = |message: &'static str| Err(Error::new(ErrorKind::Unauthorized, message));
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return refuse("a token is missing; send it as `Authorization: Bearer TOKEN`");
    };
    let given = value.to_str().ok().and_then(|text| {
        let (scheme, given) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(given.trim())
    });
    match given {
        Some(given) if token.matches(given) => Ok(()),
        _ => refuse("the token is not the right one"),
    }
}
