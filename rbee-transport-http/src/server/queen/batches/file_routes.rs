//! The routes of files.

use axum::{
    body::Body,
    extract::{Request, State},
    response::IntoResponse,
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use rbee_core::{Error, ErrorKind, Result, private_files::open_own};
use tokio::io::AsyncReadExt;

use super::{
    super::{
        Shared,
        caller::Caller,
        middleware::{HandlerResult, Name, Params},
    },
    disk::{self, blocking, to_the_end},
    file_store::missing,
    page::page,
    upload, views,
};
use crate::{
    server::response,
    wire::{
        OpenAiErrorBody,
        batches::{
            DeletedFile, FILE, FILE_CONTENT, FILES, FileList, FileObject, FilePurpose, FileQuery,
            UploadForm,
        },
    },
};

/// The most files of a page, which is the default.
const MOST_OF_A_PAGE: usize = 10_000;
/// How much of a file is read at once.
const READ_BYTES: usize = 64 << 10;

/// Upload a file with the requests of a batch.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = FILES,
        tag = "batches",
        request_body(content = UploadForm, content_type = "multipart/form-data"),
        responses(
            (status = 200, description = "The file.", body = FileObject),
            (status = "default", description = "The error.", body = OpenAiErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn upload_file(
    State(shared): State<Shared>,
    caller: Caller,
    request: Request,
) -> HandlerResult {
    let batches = shared.batches()?;
    let record = upload::receive(batches, caller.tenant().cloned(), request).await?;
    Ok(response::json(StatusCode::OK, &views::file(&record)))
}

/// List files.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = FILES,
        tag = "batches",
        params(FileQuery),
        responses(
            (status = 200, description = "A page of files.", body = FileList),
            (status = "default", description = "The error.", body = OpenAiErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn list_files(
    State(shared): State<Shared>,
    caller: Caller,
    Params(query): Params<FileQuery>,
) -> HandlerResult {
    let mut files = shared.batches()?.files.list(&caller);
    if let Some(purpose) = purpose(query.purpose.as_deref())? {
        files.retain(|file| file.purpose == purpose);
    }
    match query.order.as_deref() {
        None | Some("desc") => {}
        Some("asc") => files.reverse(),
        Some(other) => {
            return Err(refuse("order", other, "\"asc\" or \"desc\"").into());
        }
    }
    let limit = query.limit.unwrap_or(MOST_OF_A_PAGE);
    let page = page(files, |file| &file.id, query.after.as_deref(), limit, MOST_OF_A_PAGE)?;
    let data: Vec<FileObject> = page.items.iter().map(views::file).collect();
    let list = FileList {
        object: "list".into(),
        first_id: data.first().map(|file| file.id.clone()),
        last_id: data.last().map(|file| file.id.clone()),
        has_more: page.has_more,
        data,
    };
    Ok(response::json(StatusCode::OK, &list))
}

fn purpose(name: Option<&str>) -> Result<Option<FilePurpose>> {
    match name {
        None => Ok(None),
        Some("batch") => Ok(Some(FilePurpose::Batch)),
        Some("batch_output") => Ok(Some(FilePurpose::BatchOutput)),
        Some(other) => Err(refuse("purpose", other, "\"batch\" or \"batch_output\"")),
    }
}

fn refuse(name: &'static str, value: &str, allowed: &str) -> Error {
    let shown: String = value.chars().take(60).collect();
    let message = format!("{name} is {shown:?}; allowed is {allowed}");
    Error::for_client(ErrorKind::InvalidRequest, message).with_param(name)
}

/// Get a file.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = FILE,
        tag = "batches",
        params(("id" = String, Path, description = "The id of the file.")),
        responses(
            (status = 200, description = "The file.", body = FileObject),
            (status = "default", description = "The error.", body = OpenAiErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn show_file(
    State(shared): State<Shared>,
    caller: Caller,
    Name(id): Name,
) -> HandlerResult {
    let record = shared.batches()?.files.get(&caller, &id)?;
    Ok(response::json(StatusCode::OK, &views::file(&record)))
}

/// Get the content of a file.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = FILE_CONTENT,
        tag = "batches",
        params(("id" = String, Path, description = "The id of the file.")),
        responses(
            (status = 200, description = "The content: lines of JSON.", content_type = "application/octet-stream", body = Vec<u8>),
            (status = "default", description = "The error.", body = OpenAiErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn content(
    State(shared): State<Shared>,
    caller: Caller,
    Name(id): Name,
) -> HandlerResult {
    let files = &shared.batches()?.files;
    let record = files.get(&caller, &id)?;
    let path = files.content(&record.id);
    let file = blocking(move || {
        let opened = open_own(&path, std::fs::File::options().read(true));
        opened.map_err(|cause| match cause.kind() {
            // It was removed meanwhile.
            std::io::ErrorKind::NotFound => missing(&id),
            _ => disk::failed(&path, cause),
        })
    });
    let file = tokio::fs::File::from_std(file.await?).take(record.bytes);
    let parts = futures_util::stream::try_unfold(file, async |mut file| {
        let mut part = Vec::with_capacity(READ_BYTES);
        (&mut file).take(READ_BYTES as u64).read_to_end(&mut part).await?;
        let part = Some(Bytes::from(part)).filter(|part| !part.is_empty());
        Ok::<_, std::io::Error>(part.map(|part| (part, file)))
    });
    let mut response = Body::from_stream(parts).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, record.bytes.into());
    // The content is a client's: a browser must not take it for a page.
    let kind = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Delete a file. The input file of a batch cannot be deleted before the batch has ended.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        delete,
        path = FILE,
        tag = "batches",
        params(("id" = String, Path, description = "The id of the file.")),
        responses(
            (status = 200, description = "The file was deleted.", body = DeletedFile),
            (status = "default", description = "The error.", body = OpenAiErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn delete_file(
    State(shared): State<Shared>,
    caller: Caller,
    Name(id): Name,
) -> HandlerResult {
    let (batches, of) = (shared.batches()?.clone(), id.clone());
    to_the_end(async move { batches.files.remove(&caller, &of).await }).await?;
    let deleted = DeletedFile { id, object: "file".into(), deleted: true };
    Ok(response::json(StatusCode::OK, &deleted))
}
