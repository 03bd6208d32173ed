//! Hives, models and tenants.

use super::{Subject, samples::*};
use crate::{
    error::{Error, ErrorKind},
    event::Outcome,
    hive_address::HiveAddress,
    policy_source::{PolicyLanguage, PolicySource},
    registry::{
        Change, HiveStatus, ModelRecord, POLICIES_KEPT, PolicyFilter, PolicyOrigin, PolicyRecord,
        Snapshot, TenantRecord, WorkerRecord,
    },
    tenant::{ApiKey, TenantLimits},
    time::WallTime,
};

/// The snapshot of a queen after a restart.
async fn after_restart(store: &dyn Subject, name: &str) -> Snapshot {
    let registry = store.handle().await;
    open(store, &*registry, name).await
}

/// As they were last written.
pub async fn hives_and_their_models_come_back(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let local = hive("one");
    let mut remote = hive("two");
    remote.address = HiveAddress::Network {
        ssh_host: "two.lan".into(),
        ssh_port: 22,
        ssh_user: "bee".into(),
        ssh_key_path: None,
    };
    let mut direct = hive("three");
    direct.address = HiveAddress::Http;
    let mut model_on_two = ModelRecord { checksum: None, ..model_on("two") };
    let changes = [
        hive_put(&local),
        hive_put(&remote),
        hive_put(&direct),
        Change::ModelPut(model_on("one")),
        Change::ModelPut(model_on_two.clone()),
    ];
    record(&*registry, epoch, &changes).await;
    remote.status = HiveStatus::Offline;
    remote.last_seen = WallTime::from_millis(AT.as_millis() + 5);
    remote.port = 0;
    if let HiveAddress::Network { ssh_key_path, .. } = &mut remote.address {
        *ssh_key_path = Some("/home/bee/.ssh/id_ed25519".into());
    }
    model_on_two.bytes += 1;
    model_on_two.last_used = remote.last_seen;
    let changes = [
        hive_put(&remote),
        Change::ModelPut(model_on_two.clone()),
        Change::ModelGone { hive: hive_id("one"), model: model() },
    ];
    record(&*registry, epoch, &changes).await;
    drop(registry);

    let mut found = after_restart(store, "a").await;
    found.hives.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(
        found.hives,
        [local, direct, remote],
        "the hives must come back as they were last written"
    );
    assert_eq!(
        found.models,
        [model_on_two],
        "the models must come back as they were last written, without the one that is gone"
    );
}

/// Also if a hive with that name is added again.
pub async fn a_hive_that_is_gone_takes_its_models_along(store: &dyn Subject) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let put = [hive_put(&hive("one")), Change::ModelPut(model_on("one"))];
    record(&*registry, epoch, &put).await;
    record(&*registry, epoch, &[Change::HiveGone(hive_id("one"))]).await;
    drop(registry);
    let found = after_restart(store, "a").await;
    assert_eq!(found.hives, [], "a hive that is gone must not come back");
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    record(&*registry, epoch, &[hive_put(&hive("one"))]).await;
    drop(registry);
    let found = after_restart(store, "a").await;
    assert_eq!(
        found.models,
        [],
        "the models of a hive that is gone must not come back with a hive of the same name"
    );
}

/// As it was last written, together with the hives.
pub async fn what_is_remembered_of_workers_comes_back_until_they_or_their_hive_are_gone(
    store: &dyn Subject,
) {
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let [one, two, three, four] =
        [("one", 1), ("one", 2), ("one", 3), ("two", 4)].map(|(hive, n)| worker_on(hive, n));
    let replica = WorkerRecord { pinned: false, replica: true, ..two.clone() };
    let changes = [
        hive_put(&hive("one")),
        hive_put(&hive("two")),
        Change::WorkerPut(one.clone()),
        Change::WorkerPut(two),
        Change::WorkerPut(three.clone()),
        Change::WorkerPut(four),
    ];
    record(&*registry, epoch, &changes).await;
    let changes = [
        Change::WorkerPut(replica.clone()),
        Change::WorkerGone { hive: three.hive, worker: three.worker },
        // A hive that has changed is still the same hive.
        hive_put(&hive("one")),
        Change::HiveGone(hive_id("two")),
        hive_put(&hive("two")),
    ];
    record(&*registry, epoch, &changes).await;
    drop(registry);
    let mut found = after_restart(store, "a").await.workers;
    found.sort_by_key(|record| record.worker);
    assert_eq!(
        found,
        [one, replica],
        "the records of workers must come back as it was last written, without those that are gone"
    );
}

/// Tenants have no owner. Their limits are as they were last written.
pub async fn tenants_come_back_for_every_queen(store: &dyn Subject) {
    let (one, two) = (store.handle().await, store.handle().await);
    let a = open(store, &*one, "a").await.epoch;
    let b = open(store, &*two, "b").await.epoch;
    let key = |hash: &str| ApiKey { hash: hash.repeat(32), label: "Büro".into(), created_at: AT };
    let mut first = TenantRecord {
        id: tenant("t"),
        limits: TenantLimits { daily_tokens: Some(1_000), ..TenantLimits::default() },
        keys: Vec::new(),
        used_tokens: 0,
    };
    let second = TenantRecord {
        id: tenant("u"),
        limits: TenantLimits {
            daily_tokens: None,
            concurrent_jobs: Some(4),
            requests_per_minute: Some(5),
            tokens_per_minute: Some(6),
            priorities: Some([crate::priority::Priority::Batch].into()),
            models: Some(["bee".to_owned()].into()),
            weight: 7,
        },
        keys: vec![key("ab"), key("cd")],
        used_tokens: 0,
    };
    let third = TenantRecord { id: tenant("v"), ..first.clone() };
    record(&*one, a, &[Change::TenantPut(first.clone())]).await;
    first.limits.daily_tokens = Some(2_000);
    let changes = [
        Change::TenantPut(third.clone()),
        Change::TenantPut(first.clone()),
        Change::TenantPut(second.clone()),
        Change::TenantGone(third.id),
    ];
    record(&*two, b, &changes).await;
    let sorted = |mut found: Snapshot| {
        found.tenants.sort_by(|a, b| a.id.cmp(&b.id));
        found.tenants
    };
    let expected = [first, second];
    assert_eq!(sorted(renew(&*one, a).await), expected, "a renewal must answer with all tenants");
    drop((one, two));
    assert_eq!(
        sorted(after_restart(store, "c").await),
        expected,
        "a new queen must find all tenants"
    );
}

/// With the first end of a job, for its tenant, on the day of the end.
pub async fn usage_is_counted_once_and_by_the_day(store: &dyn Subject) {
    const DAY: u64 = 24 * 3600 * 1000;
    let registry = store.handle().await;
    let epoch = open(store, &*registry, "a").await.epoch;
    let now = store.now();
    let yesterday = WallTime::from_millis(now.as_millis().saturating_sub(DAY));
    let quota = TenantRecord {
        id: tenant("t"),
        limits: TenantLimits { daily_tokens: Some(10_000), ..TenantLimits::default() },
        keys: Vec::new(),
        used_tokens: 0,
    };
    record(&*registry, epoch, &[Change::TenantPut(quota.clone())]).await;
    let failure = Outcome::Failed(Error::new(ErrorKind::WorkerFault, "it broke"));
    let jobs = [
        (job_of(1, "t"), complete(100, 23), now, 123),
        (job_of(2, "t"), complete(1_000, 1), now, 1_001),
        (job_of(3, "t"), failure, now, 0),
        (job_of(4, "t"), Outcome::Cancelled, now, 40),
        (job_of(5, "t"), complete(5_000, 5), yesterday, 5_005),
        (job_of(6, "u"), complete(700, 7), now, 707),
        (job(7), complete(900, 9), now, 909),
    ];
    for (job, outcome, at, used) in &jobs {
        let end = ended_with(job.id, outcome.clone(), *at, *used);
        record(&*registry, epoch, &[queued(job)]).await;
        record(&*registry, epoch, std::slice::from_ref(&end)).await;
        record(&*registry, epoch, &[end]).await;
    }
    // A put sets the limits; the usage is the store's own count.
    let put = |name: &str| {
        Change::TenantPut(TenantRecord { id: tenant(name), used_tokens: 77, ..quota.clone() })
    };
    record(&*registry, epoch, &[put("t"), put("u")]).await;
    let mut found = renew(&*registry, epoch).await.tenants;
    found.sort_by(|a, b| a.id.cmp(&b.id));
    let used: Vec<u64> = found.iter().map(|tenant| tenant.used_tokens).collect();
    if store.now().as_millis() / DAY == now.as_millis() / DAY {
        assert_eq!(
            used,
            [1_164, 707],
            "what each job has used must be counted once, for its tenant, on the day it ended"
        );
    }
    drop(registry);
    let found = after_restart(store, "a").await.tenants;
    let used: u64 = found.iter().map(|tenant| tenant.used_tokens).sum();
    if store.now().as_millis() / DAY == now.as_millis() / DAY {
        assert_eq!(used, 1_164 + 707, "usage must survive a restart");
    }
}

/// Every version stays as it was first put, for any queen, and the newest of them are kept.
pub async fn policies_come_back_for_every_queen_and_the_oldest_are_dropped(store: &dyn Subject) {
    let policy = |version: u64, text: &str| PolicyRecord {
        version,
        at: AT,
        hash: "ab".repeat(32),
        origin: PolicyOrigin::ALL[version as usize % PolicyOrigin::ALL.len()],
        source: PolicySource {
            language: PolicyLanguage::ALL[version as usize % PolicyLanguage::ALL.len()],
            text: text.into(),
        },
    };
    let put = |version, text: &str| Change::PolicyPut(Box::new(policy(version, text)));
    let (one, two) = (store.handle().await, store.handle().await);
    let a = open(store, &*one, "a").await.epoch;
    let b = open(store, &*two, "b").await.epoch;
    record(&*one, a, &[put(1, "fn schedule() { \"ü\" }")]).await;
    record(&*two, b, &[put(2, "second"), put(1, "another first")]).await;
    let [first, second] = [policy(1, "fn schedule() { \"ü\" }"), policy(2, "second")];
    let found = one.policies(&PolicyFilter::default()).await.expect("policies are listed");
    let expected = [first.clone(), second.clone()];
    assert_eq!(found, expected, "a version must stay as it was first put, whoever lists it");
    for (filter, expected) in [
        (PolicyFilter::one(1), vec![first]),
        (PolicyFilter::newest(), vec![second]),
        (PolicyFilter::one(9), vec![]),
    ] {
        let found = one.policies(&filter).await.expect("a policy is read");
        assert_eq!(found, expected, "only what {filter:?} names must be found");
    }
    let many: Vec<_> = (3..=POLICIES_KEPT + 2).map(|version| put(version, "x")).collect();
    record(&*one, a, &many).await;
    drop((one, two));
    let after = store.handle().await;
    open(store, &*after, "c").await;
    let listed = async |limit| {
        let filter = PolicyFilter { limit, ..PolicyFilter::default() };
        let found = after.policies(&filter).await.expect("policies are listed");
        found.iter().map(|policy| policy.version).collect::<Vec<u64>>()
    };
    let versions = listed(POLICIES_KEPT).await;
    let kept: Vec<u64> = (3..=POLICIES_KEPT + 2).collect();
    assert_eq!(versions, kept, "the newest {POLICIES_KEPT} versions must survive a restart");
    assert_eq!(
        listed(2).await,
        kept[kept.len() - 2..],
        "the newest 2 must be listed, the newest last"
    );
    let dropped = after.policies(&PolicyFilter::one(2)).await.expect("a policy is read");
    assert_eq!(dropped, [], "a version that is no longer kept must not be found");
}
