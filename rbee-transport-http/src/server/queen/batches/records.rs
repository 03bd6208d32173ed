//! What is stored of files and batches, as JSON.

use std::{collections::BTreeMap, time::Duration};

use rbee_core::{TenantId, time::WallTime};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::wire::batches::{BatchEndpoint, BatchError, BatchStatus, FilePurpose, RequestCounts};

/// A file, whose content is beside its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileRecord {
    pub(super) id: String,
    /// `None` for the operator.
    pub(super) tenant: Option<TenantId>,
    pub(super) filename: String,
    pub(super) purpose: FilePurpose,
    pub(super) bytes: u64,
    pub(super) created_at_ms: u64,
    /// When it is removed, in milliseconds of the Unix epoch.
    pub(super) expires_at_ms: u64,
}

/// A batch. Times are in milliseconds of the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BatchRecord {
    pub(super) id: String,
    /// `None` for the operator.
    pub(super) tenant: Option<TenantId>,
    /// True if a local user created it, who may name any file as a model.
    pub(super) local_user: bool,
    pub(super) endpoint: BatchEndpoint,
    /// The id of the input file.
    pub(super) input: String,
    /// The id that the output file has or will have.
    pub(super) output: String,
    /// The id that the error file has or will have.
    pub(super) error_output: String,
    /// True if the output file has lines, once the batch has ended.
    pub(super) has_output: bool,
    /// True if the error file has lines, once the batch has ended.
    pub(super) has_errors: bool,
    /// How long the output files are kept.
    pub(super) output_kept: Duration,
    pub(super) metadata: Option<BTreeMap<String, String>>,
    pub(super) status: BatchStatus,
    /// Why the input file is not valid.
    pub(super) faults: Vec<BatchError>,
    pub(super) counts: RequestCounts,
    pub(super) created_at_ms: u64,
    pub(super) expires_at_ms: u64,
    pub(super) in_progress_at_ms: Option<u64>,
    pub(super) finalizing_at_ms: Option<u64>,
    pub(super) completed_at_ms: Option<u64>,
    pub(super) failed_at_ms: Option<u64>,
    pub(super) expired_at_ms: Option<u64>,
    pub(super) cancelling_at_ms: Option<u64>,
    pub(super) cancelled_at_ms: Option<u64>,
}

impl BatchRecord {
    /// When it ended.
    pub(super) fn ended_at_ms(&self) -> Option<u64> {
        self.completed_at_ms.or(self.failed_at_ms).or(self.expired_at_ms).or(self.cancelled_at_ms)
    }

    /// Sets its state, and the time of that.
    pub(super) fn enter(&mut self, status: BatchStatus) {
        let now = Some(now_ms());
        match status {
            BatchStatus::Validating => {}
            BatchStatus::InProgress => self.in_progress_at_ms = now,
            BatchStatus::Finalizing => self.finalizing_at_ms = now,
            BatchStatus::Completed => self.completed_at_ms = now,
            BatchStatus::Failed => self.failed_at_ms = now,
            BatchStatus::Expired => self.expired_at_ms = now,
            BatchStatus::Cancelling => self.cancelling_at_ms = now,
            BatchStatus::Cancelled => self.cancelled_at_ms = now,
        }
        self.status = status;
    }

    /// The id of the result of this line.
    pub(super) fn result_id(&self, line: u32) -> String {
        format!("batch_req_{}_{line}", self.suffix())
    }

    /// The number of the line in the id of a result of this batch.
    pub(super) fn line_of(&self, result: &str) -> Option<u32> {
        let (batch, line) = result.strip_prefix("batch_req_")?.rsplit_once('_')?;
        if batch == self.suffix() { line.parse().ok() } else { None }
    }

    fn suffix(&self) -> &str {
        self.id.strip_prefix("batch_").unwrap_or(&self.id)
    }
}

/// The current time, in milliseconds of the Unix epoch.
pub(super) fn now_ms() -> u64 {
    WallTime::now().as_millis()
}

/// This much later than a time in milliseconds.
pub(super) fn later(ms: u64, time: Duration) -> u64 {
    ms.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// An id for a new file.
pub(super) fn new_file_id() -> String {
    format!("file-{}", Uuid::new_v4().simple())
}

/// An id for a new batch.
pub(super) fn new_batch_id() -> String {
    format!("batch_{}", Uuid::new_v4().simple())
}
