//! The routes of batches.

use std::{collections::BTreeMap, sync::Arc};

use axum::extract::{Request, State};
use http::StatusCode;
use rbee_core::{Error, ErrorKind, Result};

use super::{
    super::{
        Shared,
        caller::Caller,
        fields::{Fields, missing, not_allowed},
        local_user::Locality,
        middleware::{HandlerResult, Name, Params},
    },
    Batches,
    disk::to_the_end,
    file_store::Reading,
    page::page,
    records::{BatchRecord, later, new_batch_id, new_file_id, now_ms},
    upload::lifetime,
    views::{self, WINDOW},
};
use crate::{
    server::response,
    wire::{
        OpenAiErrorBody,
        batches::{
            BATCH, BATCH_CANCEL, BATCHES, Batch, BatchEndpoint, BatchList, BatchQuery, BatchStatus,
            CreateBatch, FilePurpose, RequestCounts,
        },
    },
};

/// The batches of a page by default, and the most.
const PAGE: usize = 20;
const MOST_OF_A_PAGE: usize = 100;
/// The most notes of a client on a batch, and the longest name and text of one, in characters.
const MOST_NOTES: usize = 16;
const LONGEST_NAME: usize = 64;
const LONGEST_NOTE: usize = 512;

/// Create a batch: run the requests of a file in the background.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = BATCHES,
        tag = "batches",
        request_body = CreateBatch,
        responses(
            (status = 200, description = "The batch, whose file is going to be checked.", body = Batch),
            (status = "default", description = "The error.", body = OpenAiErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn create(
    State(shared): State<Shared>,
    caller: Caller,
    locality: Locality,
    request: Request,
) -> HandlerResult {
    let batches = shared.batches()?.clone();
    let body = shared.read_body(request).await?;
    let asked = Asked::read(body.bytes(), batches.limits.retention)?;
    drop(body);
    let record = to_the_end(add(shared, batches, caller, locality, asked)).await?;
    Ok(response::json(StatusCode::OK, &views::batch(&record)))
}

/// Adds a batch and starts it.
async fn add(
    shared: Shared,
    batches: Arc<Batches>,
    caller: Caller,
    locality: Locality,
    asked: Asked,
) -> Result<BatchRecord> {
    let (reading, purpose) = Reading::begin(&batches.files, &caller, &asked.input)
        .map_err(|error| error.with_param("input_file_id"))?;
    if purpose != FilePurpose::Batch {
        let message = "the purpose of the file is \"batch_output\"; allowed is \"batch\"";
        let error = Error::for_client(ErrorKind::InvalidRequest, message);
        return Err(error.with_param("input_file_id"));
    }
    let now = now_ms();
    let record = BatchRecord {
        id: new_batch_id(),
        tenant: caller.tenant().cloned(),
        local_user: locality == Locality::LocalUser,
        endpoint: asked.endpoint,
        input: asked.input,
        output: new_file_id(),
        error_output: new_file_id(),
        has_output: false,
        has_errors: false,
        output_kept: asked.output_kept,
        metadata: asked.metadata,
        status: BatchStatus::Validating,
        faults: Vec::new(),
        counts: RequestCounts::default(),
        created_at_ms: now,
        expires_at_ms: later(now, batches.limits.window),
        in_progress_at_ms: None,
        finalizing_at_ms: None,
        completed_at_ms: None,
        failed_at_ms: None,
        expired_at_ms: None,
        cancelling_at_ms: None,
        cancelled_at_ms: None,
    };
    batches.batches.add(record.clone()).await?;
    // The end of the batch ends it.
    reading.keep();
    super::start(&shared);
    Ok(record)
}

/// A request for a batch, parsed and checked.
struct Asked {
    input: String,
    endpoint: BatchEndpoint,
    metadata: Option<BTreeMap<String, String>>,
    output_kept: std::time::Duration,
}

impl Asked {
    fn read(body: &[u8], longest: std::time::Duration) -> Result<Self> {
        const FILE: &str = "the id of a file";
        let mut fields = Fields::of_body(body)?;
        let input = fields.require("input_file_id", FILE)?;
        let all = BatchEndpoint::ALL.map(|one| format!("{:?}", one.as_str()));
        let endpoint = fields.require("endpoint", &all.join(", "))?;
        let window = fields.take_raw("completion_window");
        let allowed = format!("{WINDOW:?}");
        let window = window.ok_or_else(|| missing("completion_window", &allowed))?;
        if window.get() != allowed {
            return Err(not_allowed(window, "completion_window", &allowed));
        }
        let output_kept = match fields.take_raw("output_expires_after") {
            None => longest,
            Some(given) => {
                let mut after = Fields::of(given, "output_expires_after")?;
                let anchor: String = after.require("anchor", "\"created_at\"")?;
                let seconds: u64 = after.require("seconds", "a whole number of seconds")?;
                after.finish(|_, _| None)?;
                lifetime(
                    "output_expires_after",
                    &anchor,
                    Some(seconds),
                    &seconds.to_string(),
                    longest,
                )?
            }
        };
        let metadata = metadata(&mut fields)?;
        fields.finish(|_, _| None)?;
        Ok(Self { input, endpoint, metadata, output_kept })
    }
}

fn metadata(fields: &mut Fields<'_>) -> Result<Option<BTreeMap<String, String>>> {
    const NOTES: &str =
        "an object of at most 16 texts of up to 512 characters, with names of up to 64";
    let Some(given) = fields.take_raw("metadata") else { return Ok(None) };
    let notes = serde_json::from_str::<BTreeMap<String, String>>(given.get()).ok();
    let fits = |(name, note): (&String, &String)| {
        name.chars().count() <= LONGEST_NAME && note.chars().count() <= LONGEST_NOTE
    };
    let notes = notes.filter(|notes| notes.len() <= MOST_NOTES && notes.iter().all(fits));
    notes.map(Some).ok_or_else(|| not_allowed(given, "metadata", NOTES))
}

/// List batches, the newest first.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = BATCHES,
        tag = "batches",
        params(BatchQuery),
        responses(
            (status = 200, description = "A page of batches.", body = BatchList),
            (status = "default", description = "The error.", body = OpenAiErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    Params(query): Params<BatchQuery>,
) -> HandlerResult {
    let all = shared.batches()?.batches.list(&caller);
    let limit = query.limit.unwrap_or(PAGE);
    let page = page(all, |batch| &batch.id, query.after.as_deref(), limit, MOST_OF_A_PAGE)?;
    let data: Vec<Batch> = page.items.iter().map(views::batch).collect();
    let list = BatchList {
        object: "list".into(),
        first_id: data.first().map(|batch| batch.id.clone()),
        last_id: data.last().map(|batch| batch.id.clone()),
        has_more: page.has_more,
        data,
    };
    Ok(response::json(StatusCode::OK, &list))
}

/// Get a batch.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = BATCH,
        tag = "batches",
        params(("id" = String, Path, description = "The id of the batch.")),
        responses(
            (status = 200, description = "The batch.", body = Batch),
            (status = "default", description = "The error.", body = OpenAiErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn show(
    State(shared): State<Shared>,
    caller: Caller,
    Name(id): Name,
) -> HandlerResult {
    let batch = shared.batches()?.batches.get(&caller, &id)?;
    Ok(response::json(StatusCode::OK, &views::batch(&batch)))
}

/// Cancel a batch. Its jobs are cancelled, and the results that it has are kept. Returns at once; the batch is
/// `cancelled` when all of its jobs have ended.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = BATCH_CANCEL,
        tag = "batches",
        params(("id" = String, Path, description = "The id of the batch.")),
        responses(
            (status = 200, description = "The batch, which is being cancelled.", body = Batch),
            (status = "default", description = "The error.", body = OpenAiErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn cancel(
    State(shared): State<Shared>,
    caller: Caller,
    Name(id): Name,
) -> HandlerResult {
    let batches = shared.batches()?.clone();
    // A batch of another tenant looks like one that does not exist.
    batches.batches.get(&caller, &id)?;
    let begin = |record: &mut BatchRecord| match record.status {
        BatchStatus::Validating | BatchStatus::InProgress => {
            record.enter(BatchStatus::Cancelling);
            Ok(())
        }
        BatchStatus::Cancelling => Ok(()),
        status => {
            let message = format!(
                "batch {} is {}; a batch can be cancelled while it is validating or in_progress",
                record.id,
                status.as_str()
            );
            Err(Error::for_client(ErrorKind::Conflict, message))
        }
    };
    let cancelled = to_the_end(async move {
        let record = batches.batches.update(&id, begin).await?;
        batches.batches.cancel(&id);
        super::start(&shared);
        Ok(record)
    });
    let record = cancelled.await?;
    Ok(response::json(StatusCode::OK, &views::batch(&record)))
}
