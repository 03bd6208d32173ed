//! What each change does to a job.

use std::sync::Arc;

use futures_util::future::{join, join_all};

use super::{Subject, samples::*};
use crate::{
    Change, EndedJob, Error, ErrorKind, Finish, JobRecord, JobState, JobStatus, Outcome, Priority,
    Registry, Usage, WallTime,
};

/// Drops this handle, opens the store as after a restart, and gives what the queen `a` finds.
async fn restart(store: &dyn Subject, registry: Arc<dyn Registry>) -> Vec<JobRecord> {
    drop(registry);
    let registry = store.handle().await;
    open(store, &*registry, "a").await.jobs
}

fn later(millis: u64) -> WallTime {
    WallTime::from_millis(AT.as_millis() + millis)
}

/// Every column of it, and its request to the last bit.
pub async fn a_job_comes_back_whole(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let mut plain = job(1);
    plain.priority = Priority::Interactive;
    plain.request = None;
    let mut full = job_of(2, "t");
    full.attempts = 2;
    full.numerics = Some("engine/1".into());
    full.pieces = pieces(&["one ", "", "é🐝"]);
    full.tokens_generated = 3;
    for job in [&plain, &full] {
        record(&*registry, epoch, &[queued(job)]).await;
    }
    for job in [&mut plain, &mut full] {
        job.owner = epoch;
        assert_eq!(
            stored_one(&*registry, job.id).await,
            *job,
            "a job must be listed as it was recorded, with its owner"
        );
    }
    let found = restart(store, registry).await;
    for job in [&mut plain, &mut full] {
        job.owner = found.first().map(|job| job.owner).unwrap_or_default();
    }
    assert_eq!(
        found,
        [plain, full],
        "a job must come back after a restart as it was recorded"
    );
}

/// By their stored order, not by when they were recorded.
pub async fn jobs_come_back_in_the_order_of_the_queue(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let jobs: Vec<JobRecord> = (1..=5).map(|n| job(n * 3)).collect();
    for n in [2, 0, 4, 1, 3] {
        record(&*registry, epoch, &[queued(&jobs[n])]).await;
    }
    record(
        &*registry,
        epoch,
        &[ended(jobs[3].id, Outcome::Cancelled, AT)],
    )
    .await;
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
    let Change::JobRunning { worker, .. } = start else {
        unreachable!("made just above")
    };
    record(&*registry, epoch, &[start]).await;
    let found = stored_one(&*registry, job.id).await;
    assert_eq!(
        (found.status.state(), found.status.worker(), found.attempts),
        (JobState::Running, Some(worker), 1),
        "a job that was started must be running on its worker"
    );
    record(&*registry, epoch, &[Change::JobRequeued { job: job.id }]).await;
    let found = stored_one(&*registry, job.id).await;
    assert_eq!(
        (found.status.state(), found.status.worker()),
        (JobState::Queued, None),
        "a job that was put back must be queued, on no worker"
    );
    record(&*registry, epoch, &[running(job.id, 2, later(20), "two")]).await;
    let found = restart(store, registry).await.pop();
    let found = found.expect("a running job must come back");
    assert_eq!(
        (
            found.status.state(),
            found.attempts,
            found.numerics.as_deref()
        ),
        (JobState::Running, 2, Some("two")),
        "the second attempt must be recorded"
    );
    assert_eq!(
        found.status.started_at(),
        Some(later(10)),
        "the time of the first start must be kept over retries"
    );
}

/// At the end of what is stored; one that comes late, twice or too early does nothing.
pub async fn pieces_are_written_only_where_they_belong(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let job = job(1);
    let id = job.id;
    record(
        &*registry,
        epoch,
        &[queued(&job), running(id, 1, AT, "one")],
    )
    .await;
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
            expected.extend(pieces(words));
        }
        let found = stored_one(&*registry, id).await;
        assert_eq!(
            found.pieces, expected,
            "after {words:?} at {at} the wrong pieces are stored"
        );
        assert_eq!(
            found.tokens_generated as usize,
            expected.len(),
            "the tokens of a live job are its pieces"
        );
    }
    let found = restart(store, registry).await.pop();
    let found = found.expect("a running job must come back");
    assert_eq!(
        found.pieces, expected,
        "the pieces must come back after a restart"
    );
}

/// They say which worker the answer can be continued on.
pub async fn numerics_stay_once_pieces_are_stored(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let job = job(1);
    let changes = [queued(&job), running(job.id, 1, AT, "one")];
    record(&*registry, epoch, &changes).await;
    record(&*registry, epoch, &[running(job.id, 2, AT, "two")]).await;
    let numerics = stored_one(&*registry, job.id).await.numerics;
    assert_eq!(
        numerics.as_deref(),
        Some("two"),
        "while no piece is stored the numerics of the last worker count"
    );
    let changes = [tokens(job.id, 0, &["a"]), running(job.id, 3, AT, "three")];
    record(&*registry, epoch, &changes).await;
    let numerics = stored_one(&*registry, job.id).await.numerics;
    assert_eq!(
        numerics.as_deref(),
        Some("two"),
        "the numerics of the worker that gave the first pieces must stay"
    );
}

/// Nothing that comes after it changes the job.
pub async fn the_first_end_stays(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let job = job(1);
    let end = Change::JobEnded {
        job: job.id,
        outcome: complete(3, 1),
        at: later(50),
        keep_request: true,
        keep_output: true,
    };
    let changes = [
        queued(&job),
        running(job.id, 1, later(10), "one"),
        tokens(job.id, 0, &["a"]),
        end,
    ];
    record(&*registry, epoch, &changes).await;
    let first = stored_one(&*registry, job.id).await;
    assert_eq!(
        first.status.state(),
        JobState::Complete,
        "the first end must be recorded"
    );
    for change in [
        ended(job.id, Outcome::Cancelled, later(60)),
        running(job.id, 2, later(60), "two"),
        Change::JobRequeued { job: job.id },
        tokens(job.id, 1, &["b"]),
        queued(&job),
    ] {
        record(&*registry, epoch, std::slice::from_ref(&change)).await;
        assert_eq!(
            stored_one(&*registry, job.id).await,
            first,
            "a job that has ended must stay as it is, also after {change:?}"
        );
    }
    assert_eq!(
        restart(store, registry).await,
        [],
        "a job that has ended is nobody's to run"
    );
}

/// With all that belongs to it.
pub async fn every_outcome_comes_back(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let stop = Outcome::Complete {
        finish: Finish::Stop,
        usage: Usage {
            prompt_tokens: 7,
            completion_tokens: 900,
        },
    };
    let failure = Error::new(
        ErrorKind::ModelNotFound,
        "model \"x\" is nowhere; allowed is 'y' – é",
    );
    for (order, outcome) in (1..).zip([
        stop,
        complete(0, 0),
        Outcome::Failed(failure),
        Outcome::Cancelled,
    ]) {
        let job = job(order);
        let start = running(job.id, 1, later(1), "one");
        let Change::JobRunning { worker, .. } = start else {
            unreachable!("made just above")
        };
        let changes = [
            queued(&job),
            start,
            tokens(job.id, 0, &["a", "b"]),
            ended(job.id, outcome.clone(), later(2)),
        ];
        record(&*registry, epoch, &changes).await;
        let tokens = match &outcome {
            Outcome::Complete { usage, .. } => usage.completion_tokens,
            _ => 2,
        };
        let found = stored_one(&*registry, job.id).await;
        let expected = EndedJob {
            outcome,
            worker: Some(worker),
            started_at: Some(later(1)),
            completed_at: later(2),
        };
        assert_eq!(
            found.status,
            JobStatus::Ended(expected),
            "an end must come back as it was recorded"
        );
        assert_eq!(
            found.tokens_generated, tokens,
            "an ended job has the tokens of its usage, or else those that were recorded"
        );
    }
    let job = job(9);
    let end = ended(job.id, Outcome::Cancelled, later(2));
    record(&*registry, epoch, &[queued(&job), end]).await;
    let found = stored_one(&*registry, job.id).await;
    assert_eq!(
        (found.status.started_at(), found.status.worker()),
        (None, None),
        "a job that never started has no start"
    );
}

/// Request and output, each by its own wish, at the end and not before.
pub async fn what_may_not_be_kept_is_erased(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    for (order, keep_request, keep_output) in [
        (1, false, false),
        (2, true, false),
        (3, false, true),
        (4, true, true),
    ] {
        let job = job(order);
        let changes = [
            queued(&job),
            running(job.id, 1, AT, "x"),
            tokens(job.id, 0, &["a", "b"]),
        ];
        record(&*registry, epoch, &changes).await;
        let live = stored_one(&*registry, job.id).await;
        assert!(
            live.request.is_some() && live.pieces.len() == 2,
            "request and output of a live job must be kept"
        );
        let end = Change::JobEnded {
            job: job.id,
            outcome: complete(1, 2),
            at: AT,
            keep_request,
            keep_output,
        };
        record(&*registry, epoch, &[end]).await;
        let found = stored_one(&*registry, job.id).await;
        assert_eq!(
            found.request,
            job.request.filter(|_| keep_request),
            "with keep_request {keep_request} the request must be kept or erased"
        );
        let expected = if keep_output {
            pieces(&["a", "b"])
        } else {
            Vec::new()
        };
        assert_eq!(
            found.pieces, expected,
            "with keep_output {keep_output} the pieces must be kept or erased"
        );
    }
}

/// A caller that did not hear the answer may ask again.
pub async fn a_job_that_is_queued_twice_stays_as_it_is(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let job = job(1);
    let changes = [
        queued(&job),
        running(job.id, 1, AT, "x"),
        tokens(job.id, 0, &["a"]),
    ];
    record(&*registry, epoch, &changes).await;
    let before = stored_one(&*registry, job.id).await;
    record(&*registry, epoch, &[queued(&job)]).await;
    assert_eq!(
        stored_one(&*registry, job.id).await,
        before,
        "queueing a job again must not change it"
    );
}

/// The last of two that contradict each other counts.
pub async fn changes_are_written_in_their_order(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let (first, second) = (job(1), job(2));
    let changes = [
        queued(&first),
        running(first.id, 1, AT, "x"),
        tokens(first.id, 0, &["a"]),
        tokens(first.id, 1, &["b"]),
        Change::JobRequeued { job: first.id },
        queued(&second),
        running(second.id, 1, AT, "x"),
    ];
    record(&*registry, epoch, &changes).await;
    let found = stored_one(&*registry, first.id).await;
    assert_eq!(
        (found.status.state(), found.pieces),
        (JobState::Queued, [pieces(&["a"]), pieces(&["b"])].concat()),
        "the changes of one record must be written in their order"
    );
    let state = stored_one(&*registry, second.id).await.status.state();
    assert_eq!(
        state,
        JobState::Running,
        "the changes of one record must be written in their order"
    );
}

/// Where one is refused, those before and after it are not written either.
pub async fn changes_are_written_together_or_not_at_all(store: &dyn Subject) {
    let (one, two) = (store.handle().await, store.handle().await);
    let a = open(store, &*one, "a").await.epoch;
    let b = open(store, &*two, "b").await.epoch;
    let (theirs, ours, late) = (job(1), job(2), job(3));
    record(&*one, a, &[queued(&theirs), hive_put(&hive("one"))]).await;
    record(&*two, b, &[queued(&ours)]).await;
    let before = stored_one(&*two, ours.id).await;
    for foreign in [
        ended(theirs.id, Outcome::Cancelled, AT),
        Change::HiveGone(hive_id("one")),
        Change::ModelPut(model_on("one")),
    ] {
        let changes = [
            queued(&late),
            running(ours.id, 1, AT, "x"),
            tokens(ours.id, 0, &["x"]),
            foreign,
            ended(ours.id, Outcome::Cancelled, AT),
        ];
        assert_fenced(
            two.record(b, &changes).await,
            "a record with a change to another's row",
        );
        assert!(
            stored(&*two, late.id).await.is_none(),
            "of a record that was refused nothing may be written, but its first change was"
        );
        assert_eq!(
            stored_one(&*two, ours.id).await,
            before,
            "of a record that was refused nothing may be written"
        );
    }
}

/// It may have been removed meanwhile. The other changes of the record are written.
pub async fn what_is_not_there_is_passed_over(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let (nobody, job) = (crate::JobId::random(), job(1));
    let changes = [
        running(nobody, 1, AT, "x"),
        Change::JobRequeued { job: nobody },
        tokens(nobody, 0, &["x"]),
        ended(nobody, Outcome::Cancelled, AT),
        Change::HiveGone(hive_id("nowhere")),
        Change::ModelPut(model_on("nowhere")),
        Change::ModelGone {
            hive: hive_id("nowhere"),
            model: model(),
        },
        queued(&job),
    ];
    record(&*registry, epoch, &changes).await;
    assert!(
        stored(&*registry, nobody).await.is_none(),
        "a change must not make a job that was never queued"
    );
    stored_one(&*registry, job.id).await;
    drop(registry);
    let registry = store.handle().await;
    let found = open(store, &*registry, "a").await;
    assert_eq!(
        (found.hives, found.models),
        (Vec::new(), Vec::new()),
        "a model must not make a hive that was never added"
    );
}

/// Each learns of its own failure alone, and all that succeeded is there.
pub async fn callers_at_the_same_time_do_not_disturb_each_other(store: &dyn Subject) {
    let (one, two) = (store.handle().await, store.handle().await);
    let a = open(store, &*one, "a").await.epoch;
    let b = open(store, &*two, "b").await.epoch;
    let theirs = job(1_000);
    record(&*two, b, &[queued(&theirs)]).await;
    let caller = async |order: u64| {
        let (mine, lost) = (job(order), job(order + 100));
        let refused = [queued(&lost), ended(theirs.id, Outcome::Cancelled, AT)];
        let (accepted, refused) = join(
            one.record(a, std::slice::from_ref(&queued(&mine))),
            one.record(a, &refused),
        )
        .await;
        if let Err(error) = accepted {
            panic!("a record must not fail because that of another caller does: {error:?}");
        }
        assert_fenced(refused, "a record with a change to another's row");
        record(&*one, a, &[ended(mine.id, complete(1, 1), AT)]).await;
        (mine.id, lost.id)
    };
    let done = join_all((0..50).map(caller)).await;
    for (mine, lost) in done {
        let state = stored_one(&*two, mine).await.status.state();
        assert_eq!(
            state,
            JobState::Complete,
            "what was acknowledged to one of many callers must be there"
        );
        assert!(
            stored(&*two, lost).await.is_none(),
            "of a record that was refused nothing may be written"
        );
    }
}
