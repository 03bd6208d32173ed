//! The end of the queen, by order of its operator.

use axum::extract::{Request, State};
use http::StatusCode;
use rbee_core::{Error, ErrorKind};

use super::{Shared, health, middleware::HandlerResult};
use crate::{
    server::response,
    wire::{
        ErrorBody, SHUTDOWN,
        queen::{Health, ShutdownOrder},
    },
};

/// Shut the queen down gracefully, as a signal to its process does: it accepts no more jobs, and gives existing ones
/// their time to end. Returns at once. The queen has ended when it accepts no more connections.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = SHUTDOWN,
        tag = "queen",
        request_body = ShutdownOrder,
        responses(
            (status = 202, description = "The queen shuts down.", body = Health),
            (status = "default", description = "It does not.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn shutdown(State(shared): State<Shared>, request: Request) -> HandlerResult {
    let order: ShutdownOrder = shared.read_json(request).await?;
    let Some(on_shutdown) = &shared.on_shutdown else {
        let message = "this queen is part of an application that cannot be shut down over HTTP";
        return Err(Error::new(ErrorKind::Unsupported, message).into());
    };
    // Before the order: a queen that has ended cannot describe itself. One that ends already needs no details.
    let details = health::details_of(&shared).await.ok();
    tracing::info!(
        keep_hives = order.keep_hives,
        now = order.now,
        "an operator shuts the queen down"
    );
    on_shutdown(order);
    let health = Health { status: health::DRAINING.into(), details };
    Ok(response::json(StatusCode::ACCEPTED, &health))
}
