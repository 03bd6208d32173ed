//! Pulls of models to disks, and their removal.

use axum::{
    extract::{Request, State},
    response::IntoResponse,
};
use bytes::{BufMut, Bytes, BytesMut};
use http::StatusCode;
use rbee_core::{HiveId, hive::Progress, models::Digest};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{models::named, rules};
use crate::{
    server::{
        queen::{
            Shared,
            caller::Caller,
            catalog::{self, UNSENT, Wanted, fetch, throttled},
            field_rules::finish,
            fields::Fields,
            local_user::Locality,
            middleware::HandlerResult,
            work_stream::WorkStream,
        },
        response,
    },
    wire::{
        OllamaErrorBody,
        ollama::{DELETE, DeleteRequest, PULL, PullRequest, PullStatus},
        queen::{ModelQuery, Pull},
    },
};

/// Put a model on the disks of all hives that can read it. Disconnecting ends the pull; pulling the model again continues
/// with what has arrived.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = PULL,
        tag = "ollama",
        request_body = PullRequest,
        responses(
            (status = 200, description = "The progress: one object in each line, or the last one alone without `stream`.", content((
                PullStatus = "application/json"),
                (PullStatus = "application/x-ndjson"),
            )),
            (status = "default", description = "The pull did not begin.", body = OllamaErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn pull(
    State(shared): State<Shared>,
    locality: Locality,
    request: Request,
) -> HandlerResult {
    let body = shared.read_body(request).await?;
    let mut fields = Fields::of_body(body.bytes())?;
    let model = named(&mut fields)?;
    let is_streamed = fields.take("stream", "true or false")?.unwrap_or(true);
    finish(fields, &[rules::PULL])?;
    drop(body);
    let order = Pull { model, hive: None, verify: false };
    let wanted = Wanted::of(&shared, &locality, order).await?;
    let queen = shared.queen.clone();
    if !is_streamed {
        fetch(&queen, &wanted, |_| Progress::ignore()).await?;
        return Ok(response::json(StatusCode::OK, &status("success")));
    }
    let (tell, told) = mpsc::channel(UNSENT);
    // The channel is empty.
    let _ = tell.try_send(line(&status("pulling manifest")));
    let work = async move {
        let model = wanted.model().to_string();
        match fetch(&queen, &wanted, |hive| progress(&model, hive, tell.clone())).await {
            Ok(_) => line(&status("success")),
            Err(error) => line(&OllamaErrorBody::from(&*Caller::Operator.error(&error))),
        }
    };
    Ok(WorkStream::lines(told, work).into_response())
}

/// Remove a model from the disks.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        delete,
        path = DELETE,
        tag = "ollama",
        request_body = DeleteRequest,
        responses(
            (status = 200, description = "It is on no disk any more."),
            (status = "default", description = "The error.", body = OllamaErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn delete(
    State(shared): State<Shared>,
    request: Request,
) -> HandlerResult {
    let body = shared.read_body(request).await?;
    let mut fields = Fields::of_body(body.bytes())?;
    let model = named(&mut fields)?;
    finish(fields, &[rules::MODEL])?;
    catalog::remove_from_disks(&shared, &ModelQuery { model, hive: None }).await?;
    Ok(StatusCode::OK.into_response())
}

fn status(status: &str) -> PullStatus {
    PullStatus { status: status.into(), ..PullStatus::default() }
}

fn line(body: &impl Serialize) -> Bytes {
    let mut out = BytesMut::new();
    match serde_json::to_vec(body) {
        Ok(json) => {
            out.extend_from_slice(&json);
            out.put_u8(b'\n');
        }
        Err(cause) => tracing::warn!(%cause, "the progress of a pull could not be written"),
    }
    out.freeze()
}

/// Reports progress. Clients show one bar for each digest, so each hive has its own.
fn progress(model: &str, hive: &HiveId, tell: mpsc::Sender<Bytes>) -> Progress {
    let status = format!("pulling {model} to hive {hive}");
    let digest = Digest::of(&status).to_string();
    throttled(move |update| {
        let progress = PullStatus {
            status: status.clone(),
            digest: Some(digest.clone()),
            total: update.total,
            completed: Some(update.done),
        };
        // If there is no room for it, a later one follows.
        let _ = tell.try_send(line(&progress));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hive_has_a_bar_of_its_own() {
        let (tell, mut told) = mpsc::channel(UNSENT);
        let mut digests = Vec::new();
        for hive in ["a", "b"] {
            progress("hf:org/bee", &hive.parse().unwrap(), tell.clone()).update(5, Some(10));
            let line = told.try_recv().unwrap();
            let status: PullStatus = serde_json::from_slice(&line).unwrap();
            assert_eq!(status.status, format!("pulling hf:org/bee to hive {hive}"));
            assert_eq!((status.completed, status.total), (Some(5), Some(10)));
            digests.push(status.digest.unwrap());
        }
        assert!(digests[0] != digests[1] && digests[0].starts_with("sha256:"), "{digests:?}");
    }
}
