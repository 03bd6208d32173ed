//! The framed link: one connection that carries all runs of a client.

mod connection;
mod ready;
mod run;

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use hyper::{body::Body as _, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use rbee_core::{CorrelationId, Error, ErrorKind, Result};
use tokio_util::sync::CancellationToken;

use super::Inner;
use crate::{
    server::{
        response,
        takeover::{TakenOver, Takeover},
    },
    wire::worker::LINK_PROTOCOL,
};
use connection::Connection;

/// Answers with 101, and serves the link on the connection from then on.
pub(super) async fn open(State(inner): State<Arc<Inner>>, mut request: Request) -> Response {
    let correlation_id = request.extensions().get::<CorrelationId>().cloned();
    match accept(inner, &mut request) {
        Ok(()) => {
            let headers = [(header::CONNECTION, "Upgrade"), (header::UPGRADE, LINK_PROTOCOL)];
            (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
        }
        Err(error) => response::refuse(&error, correlation_id.as_ref()),
    }
}

fn accept(inner: Arc<Inner>, request: &mut Request) -> Result<()> {
    check(request)?;
    let serve = move |connection: TakenOver| Connection::new(inner, connection).serve();
    if let Some(takeover) = request.extensions().get::<Takeover>() {
        takeover.with(serve);
        return Ok(());
    }
    // The application serves the router with a server of its own.
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        let message = "the server of this worker does not support `Upgrade`";
        return Err(Error::new(ErrorKind::Unsupported, message));
    };
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                let (io, stop) = (Box::new(TokioIo::new(upgraded)), CancellationToken::new());
                serve(TakenOver { io, read: Bytes::new(), stop }).await;
            }
            Err(error) => tracing::debug!(%error, "a connection ended before its link began"),
        }
    });
    Ok(())
}

fn check(request: &Request<Body>) -> Result<()> {
    let refuse = |message: String| Err(Error::for_client(ErrorKind::InvalidRequest, message));
    let headers = request.headers();
    if !names(headers, &header::CONNECTION, "upgrade") {
        return refuse("the link needs the header `Connection: Upgrade`".into());
    }
    if !names(headers, &header::UPGRADE, LINK_PROTOCOL) {
        return refuse(format!("the link needs the header `Upgrade: {LINK_PROTOCOL}`"));
    }
    if !request.body().is_end_stream() {
        return refuse("a request for a link has no body".into());
    }
    Ok(())
}

/// True if the list in this header has this element.
fn names(headers: &HeaderMap, name: &header::HeaderName, element: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(element))
}
