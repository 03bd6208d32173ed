//! OpenAI's Batch API: files with many requests, and their processing in the background.
//!
//! Times are in seconds of the Unix epoch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `GET` ([`FileQuery`]) lists files ([`FileList`]); `POST` ([`UploadForm`]) uploads one ([`FileObject`]).
pub const FILES: &str = "/v1/files";
/// `GET`: one file ([`FileObject`]); `DELETE`: remove it ([`DeletedFile`]).
pub const FILE: &str = "/v1/files/{id}";
/// `GET`: the content of a file.
pub const FILE_CONTENT: &str = "/v1/files/{id}/content";
/// `GET` ([`BatchQuery`]) lists batches ([`BatchList`]); `POST` ([`CreateBatch`]) creates one ([`Batch`]).
pub const BATCHES: &str = "/v1/batches";
/// `GET`: one batch ([`Batch`]).
pub const BATCH: &str = "/v1/batches/{id}";
/// `POST`, without a body: cancel a batch ([`Batch`]).
pub const BATCH_CANCEL: &str = "/v1/batches/{id}/cancel";

/// The route that all requests of a batch are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum BatchEndpoint {
    /// `/v1/chat/completions`.
    #[serde(rename = "/v1/chat/completions")]
    ChatCompletions,
    /// `/v1/completions`.
    #[serde(rename = "/v1/completions")]
    Completions,
    /// `/v1/embeddings`.
    #[serde(rename = "/v1/embeddings")]
    Embeddings,
    /// `/v1/responses`.
    #[serde(rename = "/v1/responses")]
    Responses,
}

impl BatchEndpoint {
    /// All endpoints.
    pub const ALL: [Self; 4] =
        [Self::ChatCompletions, Self::Completions, Self::Embeddings, Self::Responses];

    /// Its path.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChatCompletions => super::queen::CHAT,
            Self::Completions => super::queen::COMPLETIONS,
            Self::Embeddings => super::queen::EMBEDDINGS,
            Self::Responses => super::responses::RESPONSES,
        }
    }
}

/// The purpose of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum FilePurpose {
    /// The requests of a batch.
    Batch,
    /// The results of a batch, or its errors.
    BatchOutput,
}

/// The fields of an upload, as `multipart/form-data`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UploadForm {
    /// `batch`.
    pub purpose: String,
    /// The file: one request in each line, as JSON ([`BatchLine`]).
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = Binary))]
    pub file: String,
    /// `created_at`, if the file has a time to live.
    #[serde(rename = "expires_after[anchor]", default, skip_serializing_if = "Option::is_none")]
    pub expires_after_anchor: Option<String>,
    /// The time to live, in seconds: 3,600 to 2,592,000.
    #[serde(rename = "expires_after[seconds]", default, skip_serializing_if = "Option::is_none")]
    pub expires_after_seconds: Option<u64>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileObject {
    /// Its id.
    pub id: String,
    /// `file`.
    pub object: String,
    /// Its size.
    pub bytes: u64,
    /// When it was uploaded or made.
    pub created_at: u64,
    /// When it is removed.
    pub expires_at: u64,
    /// The name that it was uploaded with.
    pub filename: String,
    /// Its purpose.
    pub purpose: FilePurpose,
    /// `processed`.
    pub status: String,
}

/// A page of files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileList {
    /// `list`.
    pub object: String,
    /// The files.
    pub data: Vec<FileObject>,
    /// The id of the first one.
    pub first_id: Option<String>,
    /// The id of the last one: the `after` of the next page.
    pub last_id: Option<String>,
    /// True if there are more.
    pub has_more: bool,
}

/// A file that was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeletedFile {
    /// Its id.
    pub id: String,
    /// `file`.
    pub object: String,
    /// `true`.
    pub deleted: bool,
}

/// Which files to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(default, deny_unknown_fields)]
pub struct FileQuery {
    /// The most files of the page: 1 to 10,000, which is the default.
    #[cfg_attr(feature = "openapi", param(minimum = 1, maximum = 10_000))]
    pub limit: Option<usize>,
    /// Only files that come after the file of this id.
    pub after: Option<String>,
    /// `desc`, the default, lists the newest first, and `asc` the oldest.
    pub order: Option<String>,
    /// Only files of this purpose.
    pub purpose: Option<String>,
}

/// Which batches to list, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(default, deny_unknown_fields)]
pub struct BatchQuery {
    /// The most batches of the page: 1 to 100; 20 by default.
    #[cfg_attr(feature = "openapi", param(minimum = 1, maximum = 100))]
    pub limit: Option<usize>,
    /// Only batches that come after the batch of this id.
    pub after: Option<String>,
}

/// A batch to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateBatch {
    /// The id of the file with the requests.
    pub input_file_id: String,
    /// The route that all of its requests are for.
    pub endpoint: BatchEndpoint,
    /// `24h`.
    pub completion_window: String,
    /// Notes of the client: at most 16 texts of up to 512 characters, under names of up to 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
    /// When its output files are removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_expires_after: Option<ExpiresAfter>,
}

/// The time to live of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExpiresAfter {
    /// `created_at`.
    pub anchor: String,
    /// Seconds from then: 3,600 to 2,592,000.
    pub seconds: u64,
}

/// One line of the file with the requests of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchLine {
    /// A name of the client for this request, unique in the file: 1 to 512 bytes.
    pub custom_id: String,
    /// `POST`.
    pub method: String,
    /// The endpoint of the batch.
    pub url: BatchEndpoint,
    /// The body of the request.
    pub body: serde_json::Map<String, serde_json::Value>,
}

/// One line of an output file or an error file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchResult {
    /// Its id.
    pub id: String,
    /// The `custom_id` of the request.
    pub custom_id: String,
    /// The response of the endpoint; `null` if the request was not executed.
    pub response: Option<BatchResponse>,
    /// Why it was not executed.
    pub error: Option<BatchResultError>,
}

/// The response to one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchResponse {
    /// The HTTP status: 200 in an output file.
    pub status_code: u16,
    /// The correlation id by which the request is found in the logs.
    pub request_id: String,
    /// The body, as the endpoint sends it.
    pub body: serde_json::Map<String, serde_json::Value>,
}

/// Why a request was not executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchResultError {
    /// `batch_expired`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

/// The state of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum BatchStatus {
    /// Its file waits to be checked, or is being checked.
    Validating,
    /// Its file was not valid.
    Failed,
    /// Its requests run.
    InProgress,
    /// Its requests have ended, and the output files are being prepared.
    Finalizing,
    /// It has ended.
    Completed,
    /// It was not done in time. The results so far are in the output file.
    Expired,
    /// It is being cancelled.
    Cancelling,
    /// It was cancelled. The results until then are in the output file.
    Cancelled,
}

impl BatchStatus {
    /// True if nothing happens with the batch any more.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Failed | Self::Completed | Self::Expired | Self::Cancelled)
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Validating => "validating",
            Self::Failed => "failed",
            Self::InProgress => "in_progress",
            Self::Finalizing => "finalizing",
            Self::Completed => "completed",
            Self::Expired => "expired",
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Batch {
    /// Its id.
    pub id: String,
    /// `batch`.
    pub object: String,
    /// The route that its requests are for.
    pub endpoint: BatchEndpoint,
    /// Why its file is not valid.
    pub errors: Option<BatchErrors>,
    /// The file with the requests.
    pub input_file_id: String,
    /// `24h`.
    pub completion_window: String,
    /// Its state.
    pub status: BatchStatus,
    /// The file with the results, once the batch has ended and if there are any.
    pub output_file_id: Option<String>,
    /// The file with the requests that failed, once the batch has ended and if there are any.
    pub error_file_id: Option<String>,
    /// When it was created.
    pub created_at: u64,
    /// When its requests began to run.
    pub in_progress_at: Option<u64>,
    /// When it expires.
    pub expires_at: u64,
    /// When all of its requests had ended.
    pub finalizing_at: Option<u64>,
    /// When it was completed.
    pub completed_at: Option<u64>,
    /// When its file was found to be not valid.
    pub failed_at: Option<u64>,
    /// When it expired.
    pub expired_at: Option<u64>,
    /// When somebody cancelled it.
    pub cancelling_at: Option<u64>,
    /// When it was cancelled.
    pub cancelled_at: Option<u64>,
    /// How many requests it has.
    pub request_counts: RequestCounts,
    /// The notes of the client.
    pub metadata: Option<BTreeMap<String, String>>,
}

/// The numbers of requests of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RequestCounts {
    /// All; 0 until the file has been checked.
    pub total: u64,
    /// Those with a result.
    pub completed: u64,
    /// Those that failed, or that were not executed in time.
    pub failed: u64,
}

/// Why the file of a batch is not valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchErrors {
    /// `list`.
    pub object: String,
    /// The first of the errors, at most 100.
    pub data: Vec<BatchError>,
}

/// An error in the file of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchError {
    /// A stable name of the error.
    pub code: String,
    /// The number of the line, from 1, if the error is about a line.
    pub line: Option<u64>,
    /// A sentence for people.
    pub message: String,
    /// The field that is at fault.
    pub param: Option<String>,
}

/// A page of batches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchList {
    /// `list`.
    pub object: String,
    /// The batches.
    pub data: Vec<Batch>,
    /// The id of the first one.
    pub first_id: Option<String>,
    /// The id of the last one: the `after` of the next page.
    pub last_id: Option<String>,
    /// True if there are more.
    pub has_more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_the_wire_are_those_that_are_shown() {
        for endpoint in BatchEndpoint::ALL {
            assert_eq!(serde_json::to_value(endpoint).unwrap(), endpoint.as_str());
        }
        use BatchStatus::*;
        for status in
            [Validating, Failed, InProgress, Finalizing, Completed, Expired, Cancelling, Cancelled]
        {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
    }
}
