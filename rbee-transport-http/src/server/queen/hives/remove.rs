//! Removals of hives.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use rbee_core::{Error, ErrorKind, HiveId, Result};

use super::{STOP_GRACE, exists, hive_id};
use crate::{
    server::{
        queen::{
            Shared,
            middleware::{HandlerResult, Name, Params},
        },
        response,
    },
    wire::{
        ErrorBody,
        queen::{HIVE, RemoveHive, RemovedHive},
    },
};

/// Stop a hive with its workers, and remove it from the fleet. Its jobs continue elsewhere. What the queen has put on
/// the machine of a hive by SSH is removed there.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        delete,
        path = HIVE,
        tag = "hives",
        params(("id" = String, Path, description = "The name of the hive."), RemoveHive),
        responses(
            (
                status = 200,
                description = "The hive was removed from the fleet, and its machine was cleaned up.",
                body = RemovedHive
            ),
            (status = 204, description = "The hive was removed from the fleet."),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn remove(
    State(shared): State<Shared>,
    Name(name): Name,
    Params(order): Params<RemoveHive>,
) -> HandlerResult {
    let id = hive_id(&name)?;
    exists(&shared.queen, &id).await?;
    // In a task of its own: a client that disconnects must not leave half of it.
    let removal = tokio::spawn(async move { removal(shared, id, order).await });
    let removed = removal.await.unwrap_or_else(|cause| {
        let message = "the removal of the hive was interrupted";
        Err(Error::new(ErrorKind::Internal, message).with_source(cause))
    });
    Ok(removed?)
}

async fn removal(shared: Shared, id: HiveId, order: RemoveHive) -> Result<Response> {
    let stopped = shared.queen.fleet().remove(id.clone(), STOP_GRACE).await;
    let Some(connector) = &shared.connector else {
        return stopped.map_err(|error| not_stopped(&id, error, None)).map(|()| no_content());
    };
    let uninstalled = match &stopped {
        Ok(()) => connector.uninstall(&id, order).await,
        Err(_) => Ok(None),
    };
    let left = connector.left_behind(&id);
    connector.forget(&id).await?;
    stopped.map_err(|error| not_stopped(&id, error, left.as_deref()))?;
    match uninstalled {
        Ok(Some(removed)) => Ok(response::json(StatusCode::OK, &removed)),
        Ok(None) => Ok(no_content()),
        Err(error) => Err(error.context(format_args!(
            "hive {id} was stopped and belongs to the fleet no more, but its files are still on its machine{}",
            in_brackets(left.as_deref())
        ))),
    }
}

fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

fn not_stopped(id: &HiveId, error: Error, left: Option<&str>) -> Error {
    match error.kind() {
        ErrorKind::NotFound => error,
        _ => error.context(format_args!(
            "hive {id} belongs to the fleet no more, but was not stopped{}",
            in_brackets(left)
        )),
    }
}

fn in_brackets(text: Option<&str>) -> String {
    text.map(|text| format!(" ({text})")).unwrap_or_default()
}
