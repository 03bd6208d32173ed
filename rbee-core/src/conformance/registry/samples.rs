//! Sample records, and helpers for frequent steps of the checks.

use std::{sync::Arc, time::Duration};

use super::Subject;
use crate::{
    answer::{AnswerFormat, ReasoningFormat, ToolFormat},
    error::{ErrorKind, Result},
    event::{Finish, Logprobs, Outcome, TokenLogprob, Usage},
    hive_address::HiveAddress,
    id::{CorrelationId, Epoch, HiveId, JobId, QueenId, TenantId, WorkerId},
    job::Job,
    model_ref::ModelRef,
    priority::Priority,
    registry::{
        Change, HiveRecord, HiveStatus, JobFilter, JobOutline, JobRecord, ModelRecord, Registry,
        Snapshot, TokenChunk, WorkerRecord,
    },
    task::{Prompt, Sampling, Task},
    time::WallTime,
};

pub(super) const AT: WallTime = WallTime::from_millis(1_700_000_000_123);

pub(super) fn queen(name: &str) -> QueenId {
    QueenId::new(name).expect("the suite's own names are well-formed")
}

pub(super) fn tenant(name: &str) -> TenantId {
    TenantId::new(name).expect("the suite's own names are well-formed")
}

pub(super) fn hive_id(name: &str) -> HiveId {
    HiveId::new(name).expect("the suite's own names are well-formed")
}

pub(super) fn model() -> ModelRef {
    "hf:bee/tiny@main::file=model.safetensors"
        .parse()
        .expect("the suite's own model is well-formed")
}

/// A newly accepted job, with a request.
pub(super) fn job(order: u64) -> JobRecord {
    let sampling = Sampling {
        temperature: 0.7,
        stop: vec!["\n\n".into(), "é🐝".into()],
        ..Sampling::default()
    };
    let request = Job {
        id: JobId::random(),
        model: model(),
        priority: Priority::Batch,
        task: Task::Generate {
            prompt: Prompt::Text(format!("Bees \"of\" summer {order}\0 – ä")),
            sampling,
        },
        seed: u64::MAX - order,
        prefix: Arc::from([u64::MAX, order]),
        timeout: Duration::from_millis(1_500),
        deadline: Some(Duration::from_micros(7_000_001)),
        detached: true,
        stored: true,
        metadata: Some("{}".into()),
        tenant: None,
        rank: 0,
        correlation_id: CorrelationId::random(),
        idempotency: None,
        streamed: true,
    };
    let outline = JobOutline {
        embed: order.is_multiple_of(2),
        rerank: order % 4 == 1,
        max_tokens: Some(u32::MAX),
        deadline_ms: Some(order),
        prefix: Arc::from([u64::MAX, 0, order]),
    };
    let record = JobRecord::queued(Arc::new(request), order, AT, Epoch::default());
    JobRecord { outline: Some(outline), ..record }
}

pub(super) fn job_of(order: u64, name: &str) -> JobRecord {
    JobRecord { tenant: Some(tenant(name)), ..job(order) }
}

pub(super) fn queued(record: &JobRecord) -> Change {
    Change::JobQueued(Box::new(record.clone()))
}

/// The syntax of answers of workers with these numerics: that of `one` is not that of `two`.
pub(super) fn format_of(numerics: &str) -> AnswerFormat {
    let last = usize::from(numerics.bytes().last().unwrap_or_default());
    let tools = ToolFormat::ALL.get(last % (ToolFormat::ALL.len() + 1)).copied();
    AnswerFormat {
        tools,
        reasoning: tools.map(|_| ReasoningFormat::Thinking),
        calls_alone: tools.is_some(),
    }
}

pub(super) fn running(job: JobId, attempt: u32, at: WallTime, numerics: &str) -> Change {
    let format = format_of(numerics);
    let (worker, numerics) = (WorkerId::random(), numerics.into());
    Change::JobRunning { job, worker, attempt, at, numerics, format }
}

fn logprobs(word: &str) -> Logprobs {
    let token = |bytes: Option<&[u8]>, logprob| TokenLogprob {
        id: bytes.map(|_| 7),
        text: word.into(),
        bytes: bytes.map(Into::into),
        logprob,
    };
    let top = vec![token(Some(&[0xf0, 0x9f]), -1.5e-39), token(None, f32::MIN)];
    Logprobs { chosen: token(None, -0.1), top }
}

pub(super) fn chunks(words: &[&str]) -> Vec<TokenChunk> {
    let chunk = |(n, word): (usize, &&str)| TokenChunk {
        id: (n % 3 != 2).then_some(n as u32 * 40_000),
        text: Box::from(*word),
        logprobs: (n % 4 == 1).then(|| Box::new(logprobs(word))),
    };
    words.iter().enumerate().map(chunk).collect()
}

pub(super) fn tokens(job: JobId, at: u32, words: &[&str]) -> Change {
    Change::JobTokens { job, at, chunks: chunks(words) }
}

pub(super) fn some_vectors() -> Arc<Vec<Vec<f32>>> {
    Arc::new(vec![vec![0.25, -1.5e-39, f32::MAX], Vec::new(), vec![-0.0]])
}

pub(super) fn vectors(job: JobId) -> Change {
    Change::JobVectors { job, vectors: some_vectors() }
}

pub(super) fn complete(prompt_tokens: u32, completion_tokens: u32) -> Outcome {
    let usage = Usage { prompt_tokens, completion_tokens, cached_tokens: Some(prompt_tokens / 2) };
    Outcome::Complete { finish: Finish::Length, usage, stop_text: None }
}

/// The end, with nothing kept and no tokens used.
pub(super) fn ended(job: JobId, outcome: Outcome, at: WallTime) -> Change {
    ended_with(job, outcome, at, 0)
}

/// The end, with nothing kept, and the number of used tokens.
pub(super) fn ended_with(job: JobId, outcome: Outcome, at: WallTime, used_tokens: u64) -> Change {
    Change::JobEnded { job, outcome, at, used_tokens, keep_request: false, keep_output: false }
}

pub(super) fn hive(name: &str) -> HiveRecord {
    HiveRecord {
        id: hive_id(name),
        hostname: format!("{name}.lan"),
        port: 7835,
        address: HiveAddress::Local,
        capabilities: serde_json::json!({"devices": [{"name": "GPU ä", "memory": 24_000_000_000_u64}]}),
        last_seen: AT,
        status: HiveStatus::Online,
        labels: [("region".to_owned(), "süd".to_owned())].into(),
    }
}

pub(super) fn hive_put(record: &HiveRecord) -> Change {
    Change::HivePut(Box::new(record.clone()))
}

pub(super) fn model_on(hive: &str) -> ModelRecord {
    ModelRecord {
        hive: hive_id(hive),
        model: model(),
        bytes: 4_000_000_000,
        checksum: Some("ab".repeat(32)),
        last_used: AT,
    }
}

/// The worker with this number, which is pinned.
pub(super) fn worker_on(hive: &str, n: u128) -> WorkerRecord {
    let worker = WorkerId::from_random_bits(n);
    WorkerRecord { pinned: true, ..WorkerRecord::new(worker, hive_id(hive)) }
}

/// Begins a run, which must succeed.
pub(super) async fn open(store: &dyn Subject, registry: &dyn Registry, name: &str) -> Snapshot {
    let opened = registry.open(&queen(name), store.lease()).await;
    opened.unwrap_or_else(|error| panic!("open of queen {name} failed: {error:?}"))
}

pub(super) async fn renew(registry: &dyn Registry, epoch: Epoch) -> Snapshot {
    let renewed = registry.renew(epoch).await;
    renewed
        .unwrap_or_else(|error| panic!("renew of epoch {epoch}, which is alive, failed: {error:?}"))
}

/// Writes changes that must be accepted.
pub(super) async fn record(registry: &dyn Registry, epoch: Epoch, changes: &[Change]) {
    if let Err(error) = registry.record(epoch, changes).await {
        panic!("epoch {epoch} may write {changes:?}, and could not: {error:?}");
    }
}

pub(super) fn assert_fenced<T: std::fmt::Debug>(result: Result<T>, what: &str) {
    match result {
        Err(error) if error.kind() == ErrorKind::Fenced => {}
        other => panic!("{what} must be FENCED, but the answer was {other:?}"),
    }
}

/// One job with all its stored data.
pub(super) async fn stored(registry: &dyn Registry, id: JobId) -> Option<JobRecord> {
    let listed = registry.jobs(&JobFilter::one(id)).await;
    let mut listed = listed.unwrap_or_else(|error| panic!("listing job {id} failed: {error:?}"));
    assert!(listed.len() <= 1, "listing one job gave {} of them", listed.len());
    listed.pop()
}

pub(super) async fn stored_one(registry: &dyn Registry, id: JobId) -> JobRecord {
    let found = stored(registry, id).await;
    found.unwrap_or_else(|| panic!("job {id} was recorded, and is not there"))
}

pub(super) fn ids(jobs: &[JobRecord]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

/// Drops this handle, opens the store as after a restart, and returns the snapshot of the queen `a`.
pub(super) async fn restart(store: &dyn Subject, registry: Arc<dyn Registry>) -> Vec<JobRecord> {
    drop(registry);
    let registry = store.handle().await;
    open(store, &*registry, "a").await.jobs
}

/// This long after the time of the samples.
pub(super) fn later(millis: u64) -> WallTime {
    WallTime::from_millis(AT.as_millis() + millis)
}
