//! Records of several changes, and concurrent records.

use futures_util::future::{join, join_all};

use super::{Subject, samples::*};
use crate::{
    event::Outcome,
    id::{JobId, WorkerId},
    job::{JobState, LiveJob},
    registry::Change,
};

/// The last of two contradicting changes counts.
pub async fn changes_are_written_in_their_order(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let (first, second) = (job(1), job(2));
    let changes = [
        queued(&first),
        running(first.id, 1, AT, "x"),
        tokens(first.id, 0, &["a"]),
        tokens(first.id, 1, &["b"]),
        Change::JobRequeued { job: first.id, attempts: 1 },
        queued(&second),
        running(second.id, 1, AT, "x"),
    ];
    record(&*registry, epoch, &changes).await;
    let found = stored_one(&*registry, first.id).await;
    assert_eq!(
        (found.status.state(), found.chunks),
        (JobState::Queued, [chunks(&["a"]), chunks(&["b"])].concat()),
        "the changes of one record must be written in their order"
    );
    let state = stored_one(&*registry, second.id).await.status.state();
    assert_eq!(
        state,
        JobState::Running,
        "the changes of one record must be written in their order"
    );
}

/// In one record or in one each, the changes of a job have the same effect.
pub async fn changes_together_do_what_they_do_one_by_one(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let (plain, mut with_chunks) = (job(1), job(2));
    (with_chunks.chunks, with_chunks.tokens_generated) = (chunks(&["a"]), 1);
    with_chunks.numerics = Some("before".into());
    let mut was_running = job(3);
    let worker = WorkerId::from_random_bits(7);
    was_running.status = LiveJob::from_parts(Some(worker), Some(AT)).into();
    for job in [plain, with_chunks, was_running] {
        let start = |attempt: u128, numerics: &str| Change::JobRunning {
            job: job.id,
            worker: WorkerId::from_random_bits(attempt),
            attempt: attempt as u32,
            at: later(attempt as u64),
            numerics: numerics.into(),
            format: format_of(numerics),
        };
        let requeued = || Change::JobRequeued { job: job.id, attempts: 1 };
        let all = [
            vec![queued(&job), start(1, "x")],
            vec![queued(&job), start(1, "x"), start(2, "y")],
            vec![queued(&job), tokens(job.id, 0, &["b"]), start(1, "x")],
            vec![queued(&job), start(1, "x"), tokens(job.id, 0, &["b"]), requeued()],
            vec![queued(&job), start(1, "x"), queued(&job), start(2, "y")],
            vec![queued(&job), requeued(), start(1, "x")],
            vec![queued(&job), start(1, "x"), ended(job.id, Outcome::Cancelled, later(9))],
            vec![queued(&job), ended(job.id, Outcome::Cancelled, later(9)), start(1, "x")],
        ];
        for changes in all {
            // The same for another job.
            let twin = JobId::random();
            let of_twin = changes.iter().map(|change| of(change, twin));
            for change in of_twin {
                record(&*registry, epoch, &[change]).await;
            }
            let own = JobId::random();
            let batch: Vec<Change> = changes.iter().map(|change| of(change, own)).collect();
            record(&*registry, epoch, &batch).await;
            // It is stored already.
            record(&*registry, epoch, &batch[..1]).await;
            let (mut one, other) =
                (stored_one(&*registry, own).await, stored_one(&*registry, twin).await);
            one.id = twin;
            assert_eq!(
                one, other,
                "the changes of one record must be as those of several: {changes:?}"
            );
        }
    }
}

/// The same change of another job.
fn of(change: &Change, job: JobId) -> Change {
    let mut change = change.clone();
    match &mut change {
        Change::JobQueued(record) => record.id = job,
        Change::JobRunning { job: id, .. }
        | Change::JobTokens { job: id, .. }
        | Change::JobRequeued { job: id, .. }
        | Change::JobEnded { job: id, .. } => *id = job,
        _ => {}
    }
    change
}

/// It checks whether the store can be written, and changes nothing.
pub async fn a_record_without_changes_succeeds(store: &dyn Subject) {
    let registry = store.handle().await;
    let (epoch, mine) = (open(store, &*registry, "a").await.epoch, job(1));
    record(&*registry, epoch, &[queued(&mine)]).await;
    let before = stored_one(&*registry, mine.id).await;
    let written = registry.record(epoch, &[]).await;
    assert!(written.is_ok(), "a record without changes must succeed: {written:?}");
    assert_eq!(stored_one(&*registry, mine.id).await, before, "it must change nothing");
}

/// If one is refused, those before and after it are not written either.
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
        assert_fenced(two.record(b, &changes).await, "a record with a change to another's row");
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

/// The row may have been removed in the meantime. The other changes of the record are written.
pub async fn what_is_not_there_is_passed_over(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let (nobody, job) = (crate::id::JobId::random(), job(1));
    let changes = [
        running(nobody, 1, AT, "x"),
        Change::JobRequeued { job: nobody, attempts: 1 },
        tokens(nobody, 0, &["x"]),
        vectors(nobody),
        ended(nobody, Outcome::Cancelled, AT),
        Change::HiveGone(hive_id("nowhere")),
        Change::ModelPut(model_on("nowhere")),
        Change::ModelGone { hive: hive_id("nowhere"), model: model() },
        Change::WorkerPut(worker_on("nowhere", 1)),
        Change::WorkerGone { hive: hive_id("nowhere"), worker: worker_on("nowhere", 1).worker },
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
        (found.hives, found.models, found.workers),
        (Vec::new(), Vec::new(), Vec::new()),
        "a model or a worker must not make a hive that was never added"
    );
}

/// Each caller gets only its own failure, and all successful records are stored.
pub async fn callers_at_the_same_time_do_not_disturb_each_other(store: &dyn Subject) {
    let (one, two) = (store.handle().await, store.handle().await);
    let a = open(store, &*one, "a").await.epoch;
    let b = open(store, &*two, "b").await.epoch;
    let theirs = job(1_000);
    record(&*two, b, &[queued(&theirs)]).await;
    let caller = async |order: u64| {
        let (mine, lost) = (job(order), job(order + 100));
        let refused = [queued(&lost), ended(theirs.id, Outcome::Cancelled, AT)];
        let (accepted, refused) =
            join(one.record(a, std::slice::from_ref(&queued(&mine))), one.record(a, &refused))
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
