//! A job from its submission to its answer.

use std::sync::Arc;

use super::{Subject, samples::*};
use crate::{
    event::Outcome,
    idempotency::Idempotency,
    job::JobState,
    priority::Priority,
    registry::{Change, JobOutline, JobRecord},
};

/// With every column, and its unchanged request.
pub async fn a_job_comes_back_whole(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let mut plain = job(1);
    plain.priority = Priority::Interactive;
    (plain.request, plain.outline) = (None, None);
    let mut full = job_of(2, "t");
    (full.attempts, full.restarts) = (2, 3);
    let mut bare = job(3);
    bare.outline = Some(JobOutline::default());
    full.numerics = Some("engine/1".into());
    full.format = format_of("two");
    let key = Idempotency { key: "order-17".into(), part: 7, fingerprint: u64::MAX };
    full.idempotency = Some(Arc::new(key));
    full.chunks = chunks(&["one ", "", "é🐝"]);
    full.tokens_generated = 3;
    for job in [&plain, &full, &bare] {
        record(&*registry, epoch, &[queued(job)]).await;
    }
    for job in [&mut plain, &mut full, &mut bare] {
        job.owner = epoch;
        assert_eq!(
            stored_one(&*registry, job.id).await,
            *job,
            "a job must be listed as it was recorded, with its owner"
        );
    }
    let found = restart(store, registry).await;
    for job in [&mut plain, &mut full, &mut bare] {
        job.owner = found.first().map(|job| job.owner).unwrap_or_default();
        job.taken_over = true;
    }
    assert_eq!(
        found,
        [plain, full, bare],
        "a job must come back after a restart as it was recorded"
    );
}

/// By their stored order, not by the time when they were recorded.
pub async fn jobs_come_back_in_the_order_of_the_queue(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let jobs: Vec<JobRecord> = (1..=5).map(|n| job(n * 3)).collect();
    for n in [2, 0, 4, 1, 3] {
        record(&*registry, epoch, &[queued(&jobs[n])]).await;
    }
    record(&*registry, epoch, &[ended(jobs[3].id, Outcome::Cancelled, AT)]).await;
    let found = restart(store, registry).await;
    let expected = [jobs[0].id, jobs[1].id, jobs[2].id, jobs[4].id];
    assert_eq!(
        ids(&found),
        expected,
        "live jobs, and no others, must come back in the order of the queue"
    );
}

/// Worker, number and time; the time of the first start stays.
pub async fn an_attempt_is_recorded(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let job = job(1);
    record(&*registry, epoch, &[queued(&job)]).await;
    let start = running(job.id, 1, later(10), "one");
    let Change::JobRunning { worker, .. } = start else { unreachable!("made just above") };
    record(&*registry, epoch, &[start]).await;
    let found = stored_one(&*registry, job.id).await;
    assert_eq!(
        (found.status.state(), found.status.worker(), found.attempts),
        (JobState::Running, Some(worker), 1),
        "a job that was started must be running on its worker"
    );
    record(&*registry, epoch, &[Change::JobRequeued { job: job.id, attempts: 0 }]).await;
    let found = stored_one(&*registry, job.id).await;
    assert_eq!(
        (found.status.state(), found.status.worker(), found.attempts),
        (JobState::Queued, None, 0),
        "a job that was put back must be queued, on no worker, with the attempts that count"
    );
    record(&*registry, epoch, &[running(job.id, 2, later(20), "two")]).await;
    let found = restart(store, registry).await.pop();
    let found = found.expect("a running job must come back");
    assert_eq!(
        (found.status.state(), found.attempts, found.numerics.as_deref(), found.format),
        (JobState::Running, 2, Some("two"), format_of("two")),
        "the second attempt must be recorded"
    );
    assert_eq!(
        found.status.started_at(),
        Some(later(10)),
        "the time of the first start must be kept over retries"
    );
}

/// Only at the end of the stored token chunks; a late, repeated or early change has no effect.
pub async fn chunks_are_written_only_where_they_belong(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let job = job(1);
    let id = job.id;
    record(&*registry, epoch, &[queued(&job), running(id, 1, AT, "one")]).await;
    let mut expected = Vec::new();
    for (at, words, belongs) in [
        (1, &["gap"][..], false),
        (0, &[], true),
        (0, &["a", "b"], true),
        (0, &["again"], false),
        (1, &["inside"], false),
        (3, &["beyond"], false),
        (u32::MAX, &["far"], false),
        (2, &["c", "", "é🐝"], true),
        (2, &["c", "", "é🐝"], false),
        (5, &["d"], true),
    ] {
        record(&*registry, epoch, &[tokens(id, at, words)]).await;
        if belongs {
            expected.extend(chunks(words));
        }
        let found = stored_one(&*registry, id).await;
        assert_eq!(found.chunks, expected, "after {words:?} at {at} the wrong chunks are stored");
        assert_eq!(
            found.tokens_generated as usize,
            expected.len(),
            "the tokens of a live job are its token chunks"
        );
    }
    let found = restart(store, registry).await.pop();
    let found = found.expect("a running job must come back");
    assert_eq!(found.chunks, expected, "the chunks must come back after a restart");
}

/// They determine which workers can continue the answer.
pub async fn numerics_stay_once_chunks_are_stored(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let job = job(1);
    let changes = [queued(&job), running(job.id, 1, AT, "one")];
    record(&*registry, epoch, &changes).await;
    record(&*registry, epoch, &[running(job.id, 2, AT, "two")]).await;
    let found = stored_one(&*registry, job.id).await;
    assert_eq!(
        (found.numerics.as_deref(), found.format),
        (Some("two"), format_of("two")),
        "while no token chunk is stored the numerics of the last worker count"
    );
    let changes = [tokens(job.id, 0, &["a"]), running(job.id, 3, AT, "three")];
    record(&*registry, epoch, &changes).await;
    let found = stored_one(&*registry, job.id).await;
    assert_eq!(
        (found.numerics.as_deref(), found.format),
        (Some("two"), format_of("two")),
        "the numerics of the worker of the first token chunks must stay"
    );
}

/// A caller that did not receive the answer may retry.
pub async fn a_job_that_is_queued_twice_stays_as_it_is(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let job = job(1);
    let changes = [queued(&job), running(job.id, 1, AT, "x"), tokens(job.id, 0, &["a"])];
    record(&*registry, epoch, &changes).await;
    let before = stored_one(&*registry, job.id).await;
    record(&*registry, epoch, &[queued(&job)]).await;
    assert_eq!(
        stored_one(&*registry, job.id).await,
        before,
        "queueing a job again must not change it"
    );
}

/// Each unclean end while the job runs is counted, until more of its answer is recorded.
pub async fn ends_of_a_queen_are_counted_while_a_job_runs(store: &dyn Subject) {
    let registry = store.handle().await;
    let mut epoch = open(store, &*registry, "a").await.epoch;
    let (runs, waits) = (job(1), job(2));
    let id = runs.id;
    record(&*registry, epoch, &[queued(&runs), queued(&waits)]).await;
    for (restarts, round) in (1..=2).zip(2..) {
        record(&*registry, epoch, &[running(id, round, AT, "one")]).await;
        let found = open(store, &*registry, "a").await;
        epoch = found.epoch;
        let counted: Vec<_> = found.jobs.iter().map(|job| (job.attempts, job.restarts)).collect();
        assert_eq!(
            counted,
            [(round, restarts), (0, 0)],
            "a job that is taken over while it runs must have one more restart"
        );
    }
    // The next queen requeues it first: it does not run, so nothing is counted.
    record(&*registry, epoch, &[Change::JobRequeued { job: id, attempts: 1 }]).await;
    let found = open(store, &*registry, "a").await;
    epoch = found.epoch;
    assert_eq!(found.jobs[0].restarts, 2, "a job that waits must have no more restarts");
    record(&*registry, epoch, &[running(id, 2, AT, "one"), tokens(id, 0, &["a"])]).await;
    let restarts = stored_one(&*registry, id).await.restarts;
    assert_eq!(restarts, 0, "restarts must be 0 again once more is recorded");
    registry.release(epoch).await.expect("a current run can be released");
    let found = open(store, &*registry, "a").await;
    let job = &found.jobs[0];
    assert_eq!(
        (job.status.state(), job.attempts, job.restarts),
        (JobState::Queued, 1, 0),
        "a queen that ends cleanly must leave its jobs queued, without the current attempt"
    );
}
