//! Files and batches, as clients see them.

use super::records::{BatchRecord, FileRecord};
use crate::wire::batches::{Batch, BatchErrors, FileObject};

/// The only completion window.
pub(super) const WINDOW: &str = "24h";

/// A file.
pub(super) fn file(record: &FileRecord) -> FileObject {
    FileObject {
        id: record.id.clone(),
        object: "file".into(),
        bytes: record.bytes,
        created_at: record.created_at_ms / 1_000,
        expires_at: record.expires_at_ms / 1_000,
        filename: record.filename.clone(),
        purpose: record.purpose,
        status: "processed".into(),
    }
}

/// A batch.
pub(super) fn batch(record: &BatchRecord) -> Batch {
    let seconds = |ms: Option<u64>| ms.map(|ms| ms / 1_000);
    let errors = (!record.faults.is_empty())
        .then(|| BatchErrors { object: "list".into(), data: record.faults.clone() });
    Batch {
        id: record.id.clone(),
        object: "batch".into(),
        endpoint: record.endpoint,
        errors,
        input_file_id: record.input.clone(),
        completion_window: WINDOW.into(),
        status: record.status,
        output_file_id: record.has_output.then(|| record.output.clone()),
        error_file_id: record.has_errors.then(|| record.error_output.clone()),
        created_at: record.created_at_ms / 1_000,
        in_progress_at: seconds(record.in_progress_at_ms),
        expires_at: record.expires_at_ms / 1_000,
        finalizing_at: seconds(record.finalizing_at_ms),
        completed_at: seconds(record.completed_at_ms),
        failed_at: seconds(record.failed_at_ms),
        expired_at: seconds(record.expired_at_ms),
        cancelling_at: seconds(record.cancelling_at_ms),
        cancelled_at: seconds(record.cancelled_at_ms),
        request_counts: record.counts,
        metadata: record.metadata.clone(),
    }
}
