//! The metrics of a server's requests and connections.
//!
//! The labels are bounded: the route is its pattern (`/v1/jobs/{id}`), never the path of the request.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use axum::{
    Router,
    extract::{MatchedPath, Request},
    middleware::{self, Next},
    response::Response,
};
use http::Method;
use metrics::{counter, gauge, histogram};

const REQUESTS: &str = "rbee_http_requests_total";
const DURATION: &str = "rbee_http_request_duration_seconds";
const CONNECTIONS: &str = "rbee_http_connections";

/// The label of a route that does not exist, and of a method that HTTP does not define.
const OTHER: &str = "other";
/// The status of a request whose client disconnected before the response began, as in the logs of nginx.
const DISCONNECTED: &str = "499";

/// The open connections of all servers in this process.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Describes every metric to the installed recorder.
pub(super) fn describe() {
    use metrics::{
        Unit, describe_counter as counter, describe_gauge as gauge, describe_histogram as histogram,
    };
    counter!(
        REQUESTS,
        Unit::Count,
        "HTTP requests, by pattern of the route, method and status; 499: the client disconnected before the response began."
    );
    histogram!(
        DURATION,
        Unit::Seconds,
        "From the head of a request to the head of its response, by pattern of the route and method. A stream begins before its first token."
    );
    gauge!(CONNECTIONS, Unit::Count, "Open connections of clients.");
}

/// Counts every request to these routes.
pub(super) fn count<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    routes.layer(middleware::from_fn(observe))
}

/// Sets the gauges.
pub(super) fn measure() {
    gauge!(CONNECTIONS).set(OPEN.load(Ordering::Relaxed) as f64);
}

async fn observe(request: Request, next: Next) -> Response {
    let mut counted = Counted {
        route: request.extensions().get().cloned(),
        method: method(request.method()),
        began: Instant::now(),
        response: None,
    };
    let response = next.run(request).await;
    counted.response = Some(response.status());
    response
}

/// A request, which is counted when this is dropped: also if the client disconnects and the handler ends there.
struct Counted {
    route: Option<MatchedPath>,
    method: &'static str,
    began: Instant,
    response: Option<http::StatusCode>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let route = self.route.as_ref().map_or(OTHER, MatchedPath::as_str).to_owned();
        let status = self.response.as_ref().map_or(DISCONNECTED, http::StatusCode::as_str);
        let labels = [
            ("route", route.clone()),
            ("method", self.method.to_owned()),
            ("status", status.to_owned()),
        ];
        counter!(REQUESTS, &labels).increment(1);
        histogram!(DURATION, "route" => route, "method" => self.method)
            .record(self.began.elapsed());
    }
}

fn method(method: &Method) -> &'static str {
    const KNOWN: [(Method, &str); 7] = [
        (Method::GET, "GET"),
        (Method::POST, "POST"),
        (Method::PUT, "PUT"),
        (Method::DELETE, "DELETE"),
        (Method::HEAD, "HEAD"),
        (Method::OPTIONS, "OPTIONS"),
        (Method::PATCH, "PATCH"),
    ];
    KNOWN.iter().find(|(known, _)| known == method).map_or(OTHER, |(_, name)| name)
}

/// A connection, for as long as it is open.
#[derive(Debug)]
pub(super) struct OpenConnection(());

impl OpenConnection {
    pub(super) fn new() -> Self {
        OPEN.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}
