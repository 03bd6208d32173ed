//! Replaces the metrics of requests in a build without them.

use axum::Router;

pub(super) fn count<S>(routes: Router<S>) -> Router<S> {
    routes
}

#[derive(Debug)]
pub(super) struct OpenConnection;

impl OpenConnection {
    pub(super) fn new() -> Self {
        Self
    }
}
