//! Epochs, leases, fencing and takeovers.

use super::{Subject, samples::*};
use crate::{
    id::Epoch,
    registry::{Change, JobRecord, Registry, Snapshot, TenantRecord},
};

/// A queen with one job, one hive and a model on it.
async fn with_rows(store: &dyn Subject, registry: &dyn Registry, name: &str) -> (Epoch, JobRecord) {
    let epoch = open(store, registry, name).await.epoch;
    let mut record = job(1);
    let changes = [queued(&record), hive_put(&hive(name)), Change::ModelPut(model_on(name))];
    super::samples::record(registry, epoch, &changes).await;
    record.owner = epoch;
    (epoch, record)
}

fn assert_taken(found: &Snapshot, job: &JobRecord, name: &str, when: &str) {
    assert_eq!(
        found.jobs,
        [JobRecord { owner: found.epoch, taken_over: true, ..job.clone() }],
        "{when}, the live job of queen {name} must be handed over whole, with its new owner, and say that it was taken over"
    );
    assert_eq!(found.hives, [hive(name)], "{when}, the hive of queen {name} must be handed over");
    assert_eq!(
        found.models,
        [model_on(name)],
        "{when}, the models on the hive of queen {name} must be handed over"
    );
}

fn assert_nothing_taken(found: &Snapshot, why: &str) {
    let rows = (&found.jobs, &found.hives, &found.models);
    assert!(
        found.jobs.is_empty() && found.hives.is_empty() && found.models.is_empty(),
        "nothing may be handed over {why}, but this was: {rows:?}"
    );
}

/// Each opening gets an epoch above all previous ones, over queens, releases and restarts.
pub async fn epochs_only_grow(store: &dyn Subject) {
    let mut last = Epoch::default();
    for round in 0..3 {
        let registry = store.handle().await;
        for name in ["a", "b", "a"] {
            let epoch = open(store, &*registry, name).await.epoch;
            assert!(
                epoch > last,
                "in round {round} an epoch must be above {last}, the one before, but is {epoch}"
            );
            last = epoch;
        }
        registry.release(last).await.expect("a current run can be released");
    }
}

/// The lease of a previous run of the same queen does not matter.
pub async fn a_new_life_of_the_same_queen_takes_over_at_once(store: &dyn Subject) {
    let old = store.handle().await;
    let (_, job) = with_rows(store, &*old, "a").await;
    let new = store.handle().await;
    let found = open(store, &*new, "a").await;
    assert_taken(&found, &job, "a", "when the queen opens again");
    let kept = stored_one(&*new, job.id).await;
    assert_eq!(
        kept.owner, found.epoch,
        "a job that was handed over must be listed with its new owner"
    );
    record(&*new, found.epoch, &[ended(job.id, crate::event::Outcome::Cancelled, AT)]).await;
    assert!(
        stored_one(&*new, job.id).await.taken_over,
        "a job must stay marked as taken over after its end"
    );
}

/// Neither to the rows it had, nor to new rows, nor with changes that name no row.
pub async fn a_superseded_life_can_write_nothing(store: &dyn Subject) {
    let old = store.handle().await;
    let (epoch, mine) = with_rows(store, &*old, "a").await;
    let new = store.handle().await;
    let young = open(store, &*new, "a").await.epoch;
    let late = job(2);
    let tenant_put = Change::TenantPut(TenantRecord {
        id: tenant("late"),
        limits: crate::tenant::TenantLimits::default(),
        keys: Vec::new(),
        used_tokens: 0,
    });
    for (change, what) in [
        (ended(mine.id, crate::event::Outcome::Cancelled, AT), "the end of a job it had"),
        (queued(&late), "a new job"),
        (hive_put(&hive("late")), "a new hive"),
        (tenant_put, "a tenant"),
    ] {
        let what = format!("{what}, written by a run whose queen has opened again,");
        assert_fenced(old.record(epoch, std::slice::from_ref(&change)).await, &what);
        assert_fenced(new.record(epoch, &[change]).await, &what);
    }
    assert_fenced(old.record(epoch, &[]).await, "a record without changes of a superseded run");
    assert_fenced(old.renew(epoch).await, "the renewal of a superseded run");
    old.release(epoch).await.expect("the release of a superseded run has no effect and succeeds");
    assert!(stored(&*new, late.id).await.is_none(), "what was fenced must not be there");
    let left = renew(&*new, young).await;
    assert_eq!(left.tenants, [], "the tenant of a fenced change must not be there");
    assert_nothing_taken(&left, "after fenced writes");
}

/// Another queen gets none of them, and cannot write them.
pub async fn a_living_queen_keeps_its_rows(store: &dyn Subject) {
    let (one, two) = (store.handle().await, store.handle().await);
    let (epoch, mine) = with_rows(store, &*one, "a").await;
    let found = open(store, &*two, "b").await;
    assert_nothing_taken(&found, "while its owner is alive");
    let gone = Change::ModelGone { hive: hive_id("a"), model: model() };
    let worker = worker_on("a", 1).worker;
    let worker_gone = Change::WorkerGone { hive: hive_id("a"), worker };
    for (change, what) in [
        (queued(&mine), "a job of the same id"),
        (running(mine.id, 1, AT, "x"), "the start of the job"),
        (Change::JobRequeued { job: mine.id, attempts: 1 }, "the requeueing of the job"),
        (tokens(mine.id, 0, &["x"]), "a token chunk of the job's answer"),
        (tokens(mine.id, 9, &["x"]), "a later token chunk of the job's answer"),
        (vectors(mine.id), "the vectors of the job's answer"),
        (ended(mine.id, crate::event::Outcome::Cancelled, AT), "the end of the job"),
        (hive_put(&hive("a")), "the hive"),
        (Change::HiveGone(hive_id("a")), "the removal of the hive"),
        (Change::ModelPut(model_on("a")), "a model on the hive"),
        (gone, "the removal of a model from the hive"),
        (Change::WorkerPut(worker_on("a", 1)), "a worker on the hive"),
        (worker_gone, "the removal of a worker from the hive"),
    ] {
        let what = format!("{what}, written by another queen than its owner,");
        assert_fenced(two.record(found.epoch, &[change]).await, &what);
    }
    assert_nothing_taken(&renew(&*two, found.epoch).await, "while its owner is alive");
    assert_eq!(
        stored_one(&*two, mine.id).await,
        mine,
        "what another queen was refused to write must not change the job"
    );
    record(&*one, epoch, &[running(mine.id, 1, AT, "x")]).await;
    record(&*two, found.epoch, &[queued(&job(2))]).await;
}

/// Later writes of the old owner are refused.
pub async fn an_expired_queen_is_taken_over_at_the_next_opening(store: &dyn Subject) {
    let (one, two) = (store.handle().await, store.handle().await);
    let (epoch, mine) = with_rows(store, &*one, "a").await;
    store.advance(store.lease() * 2).await;
    let found = open(store, &*two, "b").await;
    assert_taken(&found, &mine, "a", "when its lease is over");
    let late = ended(mine.id, crate::event::Outcome::Cancelled, AT);
    assert_fenced(one.record(epoch, &[late]).await, "a write to a job that was taken over");
    assert_fenced(one.renew(epoch).await, "the renewal of a run that was taken over");
}

/// They are returned once, not at every renewal.
pub async fn an_expired_queen_is_taken_over_at_the_next_renewal(store: &dyn Subject) {
    let (one, two) = (store.handle().await, store.handle().await);
    let young = open(store, &*two, "b").await.epoch;
    let (epoch, mine) = with_rows(store, &*one, "a").await;
    assert_nothing_taken(&renew(&*two, young).await, "while its owner is alive");
    store.advance(store.lease() * 2).await;
    // Nobody has taken it over, so a late renewal still succeeds.
    let late = renew(&*two, young).await;
    assert_eq!(late.epoch, young, "a renewal must answer with its own epoch");
    assert_taken(&late, &mine, "a", "when its lease is over");
    assert_nothing_taken(&renew(&*two, young).await, "twice");
    assert_fenced(one.renew(epoch).await, "the renewal of a run that was taken over");
}

/// It counts from the last renewal.
pub async fn a_renewed_lease_lasts(store: &dyn Subject) {
    let (one, two) = (store.handle().await, store.handle().await);
    let (epoch, mine) = with_rows(store, &*one, "a").await;
    for _ in 0..3 {
        store.advance(store.lease() * 6 / 10).await;
        assert_nothing_taken(&renew(&*one, epoch).await, "of one's own rows");
    }
    let found = open(store, &*two, "b").await;
    assert_nothing_taken(&found, "from an owner that has renewed its lease");
    record(&*one, epoch, &[running(mine.id, 1, AT, "x")]).await;
}

/// After its release a run is over, and another release has no effect.
pub async fn a_released_queen_is_taken_over_at_once(store: &dyn Subject) {
    let (one, two) = (store.handle().await, store.handle().await);
    let (epoch, mine) = with_rows(store, &*one, "a").await;
    let young = open(store, &*two, "b").await.epoch;
    for _ in 0..2 {
        one.release(epoch).await.expect("a run can be released, also twice");
    }
    assert_fenced(
        one.record(epoch, &[queued(&job(2))]).await,
        "a write by a run that was released",
    );
    assert_fenced(one.renew(epoch).await, "the renewal of a run that was released");
    let found = renew(&*two, young).await;
    assert_taken(&found, &mine, "a", "when it was released");
    one.release(epoch).await.expect("a run that was taken over can be released");
}

/// Neither an epoch greater than the last one nor an invented one.
pub async fn an_epoch_that_never_was_is_fenced(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let never = Epoch(epoch.0 + 1_000);
    assert_fenced(
        registry.record(never, &[queued(&job(1))]).await,
        "a write by an epoch that never existed",
    );
    assert_fenced(registry.renew(never).await, "the renewal of an epoch that never existed");
}
