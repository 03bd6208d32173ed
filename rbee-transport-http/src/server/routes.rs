//! The routes that workers and hives have in common.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router, middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use http::header;

use super::{auth, correlation, request_metrics, response};
use crate::{token::SharedToken, wire};

/// Writes all metrics of the process, in Prometheus' text format.
pub(super) type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// Adds `/metrics` if there are metrics. `measure` sets those that are read rather than counted.
pub(super) fn measurements<S, M, F>(
    routes: Router<S>,
    render: Option<Render>,
    measure: M,
) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    M: Fn() -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let Some(render) = render else { return routes };
    let answer = move || {
        let (render, measured) = (render.clone(), measure());
        async move {
            measured.await;
            Ok::<_, Infallible>(exposition(render()))
        }
    };
    routes.route(wire::METRICS, get(answer))
}

/// The response with the metrics, as Prometheus reads them.
pub(super) fn exposition(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// The routes of a daemon, for callers with this token: unknown ones are refused in JSON, and every request has a
/// correlation id. Without the token `GET /health` says that the daemon is up, and everything else is refused.
pub(super) fn close<S>(routes: Router<S>, state: S, token: SharedToken) -> Router
where
    S: Clone + Send + Sync + 'static,
{
    let routes = routes
        .fallback(response::not_found)
        .method_not_allowed_fallback(response::method_not_allowed)
        .layer(middleware::from_fn_with_state(token, auth::check))
        .layer(middleware::from_fn(correlation::mark));
    request_metrics::count(routes).with_state(state)
}
