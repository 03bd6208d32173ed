//! The policies that ship, each on a small fleet.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rbee_core::{
    Admission, Placement, PlatformPolicy, Priority, RhaiScheduler, Scheduler, TenantId,
    TenantLimits, TenantView, conformance,
};

use crate::fleet::{ask, chosen, cluster, hive, id, started, with_job, worker};

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/policies")
}

fn shipped(name: &str) -> RhaiScheduler {
    RhaiScheduler::from_file(folder().join(name)).unwrap()
}

#[test]
fn every_policy_that_ships_passes_the_suite_and_says_what_it_does() {
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let policy = RhaiScheduler::from_file(&path).unwrap();
        assert!(policy.description().len() > 20, "{}", path.display());
        assert_eq!(policy.name(), path.file_stem().unwrap().to_str().unwrap());
        for seed in 0..60 {
            conformance::scheduler::check_seed(&policy, seed);
        }
        count += 1;
    }
    assert_eq!(count, 12);
}

#[test]
fn least_loaded_and_power_of_two_prefer_who_has_less_to_do() {
    let cluster =
        cluster([hive("a", &[24], &[], &[])], [worker(1, "a", "m", 3), worker(2, "a", "m", 1)]);
    assert_eq!(chosen(&shipped("least_loaded.rhai"), &ask("m"), &cluster), Ok(id(2)));
    assert_eq!(chosen(&shipped("power_of_two.rhai"), &ask("m"), &cluster), Ok(id(2)));
}

#[test]
fn most_vram_free_goes_where_there_is_room() {
    let hives = || [hive("a", &[24], &[("m", 5)], &[]), hive("b", &[80], &[("m", 5)], &[])];
    let policy = shipped("most_vram_free.rhai");
    let both = cluster(hives(), [worker(1, "a", "m", 0), worker(2, "b", "m", 1)]);
    assert_eq!(chosen(&policy, &ask("m"), &both), Ok(id(2)));
    assert_eq!(started(&policy, &ask("m"), &cluster(hives(), [])).unwrap().0, "b");
}

#[test]
fn prefix_affinity_reuses_a_warm_worker_but_not_a_crowded_one() {
    let policy = shipped("prefix_affinity.rhai");
    let job = with_job(ask("m"), |job| job.prefix = vec![1, 2, 3].into());
    let fleet = |busy| {
        let mut warm = worker(1, "a", "m", busy);
        warm.warm = vec![1, 2].into();
        cluster(
            [hive("a", &[24], &[], &[])],
            [warm, worker(2, "a", "m", 0), worker(3, "a", "m", 0)],
        )
    };
    assert_eq!(chosen(&policy, &job, &fleet(0)), Ok(id(1)));
    assert_ne!(chosen(&policy, &job, &fleet(3)), Ok(id(1)));
}

#[test]
fn the_cheapest_is_taken_where_there_is_time() {
    let policy = shipped("cheapest_within_deadline.rhai");
    let hives =
        [hive("a", &[24], &[], &[("cost", "2.5")]), hive("b", &[24], &[], &[("cost", "0.5")])];
    let cluster = cluster(hives, [worker(1, "a", "m", 0), worker(2, "b", "m", 3)]);
    assert_eq!(chosen(&policy, &ask("m"), &cluster), Ok(id(2)));
    let hurried = with_job(ask("m"), |job| job.deadline = Some(Duration::from_secs(5)));
    assert_eq!(chosen(&policy, &hurried, &cluster), Ok(id(1)));
    assert_eq!(started(&policy, &ask("new"), &cluster).unwrap().0, "b");
}

#[test]
fn a_tenant_stays_in_its_region() {
    let policy = shipped("by_region.rhai");
    let hives =
        [hive("a", &[24], &[], &[("region", "eu")]), hive("b", &[24], &[], &[("region", "us")])];
    let cluster = cluster(hives, [worker(1, "a", "m", 0), worker(2, "b", "m", 3)]);
    let of = |name: &str| with_job(ask("m"), |job| job.tenant = Some(TenantId::new(name).unwrap()));
    assert_eq!(chosen(&policy, &of("bob"), &cluster), Ok(id(2)));
    assert_eq!(chosen(&policy, &of("alice"), &cluster), Ok(id(1)));
    assert_eq!(chosen(&policy, &of("somebody"), &cluster), Ok(id(1)));
    let nowhere = crate::fleet::cluster([hive("a", &[24], &[], &[])], []);
    assert!(matches!(policy.place(&of("bob"), &nowhere), Ok(Placement::Reject(_))));
}

#[test]
fn a_model_too_large_for_one_gpu_is_spread() {
    let policy = shipped("big_models_multi_gpu.rhai");
    let hives =
        [hive("one", &[24], &[], &[]), hive("two", &[24, 24], &[("big", 30), ("small", 5)], &[])];
    let cluster = cluster(hives, []);
    assert_eq!(started(&policy, &ask("big"), &cluster), Ok(("two".into(), vec![1, 2], vec![])));
    assert_eq!(started(&policy, &ask("small"), &cluster).unwrap().1.len(), 1);
}

#[test]
fn batch_jobs_leave_a_slot_to_people() {
    let policy = shipped("interactive_first.rhai");
    let cluster = cluster([hive("a", &[24], &[], &[])], [worker(1, "a", "m", 3)]);
    let batch = with_job(ask("m"), |job| job.priority = Priority::Batch);
    assert_eq!(policy.place(&batch, &cluster), Ok(Placement::Wait));
    assert_eq!(chosen(&policy, &ask("m"), &cluster), Ok(id(1)));
    assert_eq!(policy.admit(&ask("m"), &cluster), Ok(Admission::Accept { rank: 0 }));
}

#[test]
fn machines_that_are_awake_are_filled_first() {
    let policy = shipped("energy.rhai");
    let hives = [hive("a", &[24], &[], &[]), hive("b", &[24], &[], &[("power", "awake")])];
    let cluster =
        cluster(hives, [worker(1, "a", "m", 0), worker(2, "b", "m", 1), worker(3, "b", "m", 2)]);
    assert_eq!(chosen(&policy, &ask("m"), &cluster), Ok(id(3)));
    assert_eq!(started(&policy, &ask("new"), &cluster).unwrap().0, "b");
}

#[test]
fn a_conversation_finds_its_worker_again() {
    let policy = shipped("sticky_sessions.rhai");
    let fleet = |busy: &[u32]| {
        let workers = busy.iter().zip(1..).map(|(busy, number)| worker(number, "a", "m", *busy));
        cluster([hive("a", &[24], &[], &[])], workers)
    };
    let turn = |keys: &[u64]| with_job(ask("m"), |job| job.prefix = keys.into());
    let home = chosen(&policy, &turn(&[1, 2]), &fleet(&[0, 1, 2, 1, 0])).unwrap();
    assert_eq!(chosen(&policy, &turn(&[1, 2, 3, 4]), &fleet(&[3, 0, 1, 2, 3])), Ok(home));
    let homes: std::collections::BTreeSet<_> =
        (0..20).map(|n| chosen(&policy, &turn(&[1, n]), &fleet(&[0; 5])).unwrap()).collect();
    assert!(homes.len() >= 4, "conversations are spread: {homes:?}");
}

#[test]
fn rules_do_what_they_say() {
    let office = shipped("office.yaml");
    let hives = [
        hive("a", &[24], &[("big", 70)], &[("region", "eu")]),
        hive("b", &[24], &[], &[("power", "awake")]),
    ];
    let cluster = cluster(hives, [worker(1, "a", "m", 1), worker(2, "b", "m", 0)]);
    let at = |name: &str, hour: u64| {
        let mut ask = ask(name);
        ask.now.wall = rbee_core::WallTime::from_millis(hour * 3_600_000);
        ask
    };
    assert!(
        matches!(office.place(&at("big", 12), &cluster), Ok(Placement::Reject(error)) if error.message().contains("60 GiB"))
    );
    assert!(
        !matches!(office.place(&at("big", 20), &cluster), Ok(Placement::Reject(error)) if error.message().contains("60 GiB"))
    );
    assert_eq!(chosen(&office, &at("m", 12), &cluster), Ok(id(2)));
    let guest = with_job(ask("m"), |job| job.tenant = Some(TenantId::new("guest-1").unwrap()));
    assert_eq!(chosen(&office, &guest, &cluster), Ok(id(1)));
    let batch = with_job(ask("m"), |job| job.priority = Priority::Batch);
    assert_eq!(office.admit(&batch, &cluster), Ok(Admission::Accept { rank: 100 }));
    let lab = shipped("home_lab.yaml");
    assert_eq!(lab.place(&at("new", 2), &cluster), Ok(Placement::Wait));
    assert!(matches!(lab.place(&at("new", 12), &cluster), Ok(Placement::Spawn { .. })));
}

#[test]
fn the_platform_policy_heeds_quotas() {
    let policy = PlatformPolicy::default();
    conformance::scheduler::check(&policy);
    let mut cluster = cluster([hive("a", &[24], &[], &[])], [worker(1, "a", "m", 0)]);
    let tenant = TenantId::new("bob").unwrap();
    let job = with_job(ask("m"), |job| job.tenant = Some(tenant.clone()));
    assert_eq!(chosen(&policy, &job, &cluster), Ok(id(1)));
    let limits = Arc::new(TenantLimits { daily_tokens: Some(10), ..TenantLimits::default() });
    cluster.put_tenant(TenantView { id: tenant, limits, used_today: 10, live_jobs: 1 });
    let Ok(Placement::Reject(error)) = policy.place(&job, &cluster) else { panic!("over quota") };
    assert_eq!(error.kind(), rbee_core::ErrorKind::QuotaExceeded);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(24 * 60 * 60)));
    assert!(!policy.admits(), "the limits are looked at when a job comes in, without asking it");
}

#[test]
fn a_job_that_is_placed_is_among_those_its_tenant_has_and_one_that_comes_in_is_not() {
    let script = r#"
        fn schedule(job, workers, hives) {
            if tenant_over_quota(job.tenant) { reject("over quota") } else { wait() }
        }
        fn admit(job, queue) { !tenant_over_quota(job.tenant) }
    "#;
    let policy = RhaiScheduler::new(script).unwrap();
    let mut cluster = cluster([hive("a", &[24], &[], &[])], []);
    let tenant = TenantId::new("bob").unwrap();
    let job = with_job(ask("m"), |job| job.tenant = Some(tenant.clone()));
    let limits = Arc::new(TenantLimits { concurrent_jobs: Some(4), ..TenantLimits::default() });
    for (live_jobs, is_placed, is_admitted) in
        [(3, true, true), (4, true, false), (5, false, false)]
    {
        let (id, limits) = (tenant.clone(), limits.clone());
        cluster.put_tenant(TenantView { id, limits, used_today: 0, live_jobs });
        let placed = policy.place(&job, &cluster);
        assert_eq!(placed == Ok(Placement::Wait), is_placed, "{live_jobs}: {placed:?}");
        let admitted = policy.admit(&job, &cluster);
        let is_accepted = matches!(admitted, Ok(Admission::Accept { .. }));
        assert_eq!(is_accepted, is_admitted, "{live_jobs}: {admitted:?}");
    }
}
