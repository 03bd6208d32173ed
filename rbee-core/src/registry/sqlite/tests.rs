//! Tests beyond the conformance suite: the file, its faults, and the thread.

mod faults;
mod files;
mod lives;
mod losses;
mod purging;

use std::{sync::Arc, time::Duration};

use super::SqliteRegistry;
use crate::{
    event::Outcome,
    id::{CorrelationId, Epoch, JobId, QueenId},
    job::Job,
    priority::Priority,
    registry::{Change, JobRecord, Registry, Snapshot},
    task::{Prompt, Sampling, Task},
    time::WallTime,
};

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(24 * 3600);

async fn begin(registry: &SqliteRegistry, queen: &str) -> Snapshot {
    let queen = QueenId::new(queen).unwrap();
    registry.open(&queen, LONG).await.unwrap()
}

fn job(order: u64, prompt: &str) -> JobRecord {
    let id = JobId::random();
    let model: crate::model_ref::ModelRef = "bee".parse().unwrap();
    let request = Job {
        id,
        model: model.clone(),
        priority: Priority::Interactive,
        task: Task::Generate { prompt: Prompt::Text(prompt.into()), sampling: Sampling::default() },
        seed: 1,
        prefix: [].into(),
        timeout: Duration::from_secs(300),
        deadline: None,
        detached: false,
        stored: false,
        metadata: None,
        tenant: None,
        rank: 0,
        correlation_id: CorrelationId::random(),
        idempotency: None,
        streamed: true,
    };
    JobRecord::queued(Arc::new(request), order, WallTime::from_millis(1), Epoch::default())
}

fn queued(record: &JobRecord) -> Change {
    Change::JobQueued(Box::new(record.clone()))
}

fn cancelled(job: JobId, at: WallTime) -> Change {
    Change::JobEnded {
        job,
        outcome: Outcome::Cancelled,
        at,
        used_tokens: 0,
        keep_request: false,
        keep_output: true,
    }
}
