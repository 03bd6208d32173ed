//! The token check of a daemon.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, Method, StatusCode, header};
use rbee_core::{Error, ErrorKind, Result};

use super::{guard::Guard, response};
use crate::{
    token::SharedToken,
    wire::{self, Up},
};

/// Passes a request on if it comes from an allowed origin and carries the token. A caller without a token can only
/// ask whether the daemon is up.
pub(super) async fn check(
    State(token): State<SharedToken>,
    request: Request,
    next: Next,
) -> Response {
    let allowed = Guard::with_token().check(request.method(), request.uri(), request.headers());
    if let Err(error) = allowed {
        return response::refuse(&error, request.extensions().get());
    }
    match authorize(&token, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(_) if asks_whether_up(&request) => response::json(StatusCode::OK, &Up::default()),
        Err(error) => response::refuse(&error, request.extensions().get()),
    }
}

/// A wrong token is refused here too: its owner expects more than this response.
fn asks_whether_up(request: &Request) -> bool {
    *request.method() == Method::GET
        && request.uri().path() == wire::HEALTH
        && !request.headers().contains_key(header::AUTHORIZATION)
}

/// Checks that the request carries this token.
pub(super) fn authorize(token: &SharedToken, headers: &HeaderMap) -> Result<()> {
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
        _ => refuse("the token is wrong"),
    }
}
