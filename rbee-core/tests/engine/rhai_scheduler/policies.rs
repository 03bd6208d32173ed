//! The example policies, each on a small fleet.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rbee_core::{
    Ask, LeastLoaded, Placement, Priority, RhaiScheduler, Scheduler, TenantId, WorkerInfo,
    cluster::{LaneKey, LaneView, WorkerState, WorkerView},
    conformance,
    request::{Prompt, Sampling, Task},
    scheduler::{Admission, PlatformPolicy},
    tenant::{TenantLimits, TenantView},
    time::{Time, WallTime},
};

use super::fleet::{
    GIB, ask, chosen, cluster, hive, id, model, on_devices, started, with_job, worker,
};

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/policies")
}

fn shipped(name: &str) -> RhaiScheduler {
    loaded(&folder().join(name))
}

/// A long limit, because only the decisions are tested, not their time on a busy machine.
fn loaded(path: &Path) -> RhaiScheduler {
    RhaiScheduler::from_file(path).unwrap().with_limit(Duration::from_secs(5))
}

#[test]
fn every_policy_that_ships_passes_the_suite_and_says_what_it_does() {
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let policy = loaded(&path);
        assert!(policy.info().description.len() > 20, "{}", path.display());
        assert_eq!(policy.info().name, path.file_stem().unwrap().to_str().unwrap());
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
    let mut late = with_job(ask("m"), |job| job.deadline = Some(Duration::from_secs(60)));
    assert_eq!(chosen(&policy, &late, &cluster), Ok(id(2)));
    late.waited = Duration::from_secs(55);
    assert_eq!(chosen(&policy, &late, &cluster), Ok(id(1)), "5 s are left");
}

#[test]
fn a_cost_that_is_no_number_comes_last_and_breaks_nothing() {
    let policy = shipped("cheapest_within_deadline.rhai");
    let fleet = |costs: [&str; 3]| {
        let names = ["a", "b", "c"];
        let hives = names.iter().zip(costs).map(|(name, cost)| {
            let gpus: &[u64] = if *name == "c" { &[] } else { &[24] };
            hive(name, gpus, &[], &[("cost", cost)])
        });
        let workers = (1..4).map(|n| worker(n, names[n as usize - 1], "m", 0));
        cluster(hives, workers)
    };
    assert_eq!(chosen(&policy, &ask("m"), &fleet(["nan", "0.4 EUR", "2"])), Ok(id(3)));
    assert_eq!(started(&policy, &ask("new"), &fleet(["nan", "1", "2"])).unwrap().0, "b");
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
    let nowhere = super::fleet::cluster([hive("a", &[24], &[], &[])], []);
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
fn a_model_that_fits_on_an_empty_gpu_is_not_spread_because_the_gpus_are_full() {
    let policy = shipped("big_models_multi_gpu.rhai");
    let fleet = |busy| {
        let mut full = hive("two", &[24, 24], &[("small", 8), ("big", 30)], &[]);
        let mut devices = full.devices.to_vec();
        devices.iter_mut().for_each(|device| device.memory_free = 2 * GIB);
        full.devices = devices.into();
        let workers = [1, 2].map(|gpu| {
            let mut held = on_devices(worker(u128::from(gpu), "two", "x", busy), &[gpu]);
            held.memory_bytes = 22 * GIB;
            held
        });
        cluster([full], workers)
    };
    let (devices, evict) = match policy.place(&ask("small"), &fleet(0)) {
        Ok(Placement::Spawn { spec, evict, .. }) => (spec.devices, evict),
        other => panic!("{other:?}"),
    };
    assert_eq!((devices.len(), evict.len()), (1, 1));
    assert_eq!(started(&policy, &ask("big"), &fleet(0)).unwrap().1, [1, 2]);
    assert_eq!(policy.place(&ask("big"), &fleet(1)), Ok(Placement::Wait), "they will end");
}

#[test]
fn batch_jobs_leave_a_slot_to_people() {
    let policy = shipped("interactive_first.rhai");
    let cluster = cluster([hive("a", &[24], &[], &[])], [worker(1, "a", "m", 3)]);
    let batch = with_job(ask("m"), |job| job.priority = Priority::Batch);
    assert_eq!(policy.place(&batch, &cluster), Ok(Placement::Wait));
    assert_eq!(chosen(&policy, &ask("m"), &cluster), Ok(id(1)));
}

#[test]
fn batch_jobs_run_where_a_model_has_no_slot_to_spare() {
    let policy = shipped("interactive_first.rhai");
    let mut single = worker(1, "a", "m", 0);
    single.info = Arc::new(WorkerInfo { slots: 1, ..(*single.info).clone() });
    let batch = with_job(ask("m"), |job| job.priority = Priority::Batch);
    let fleet = |workers: Vec<_>| cluster([hive("a", &[24], &[], &[])], workers);
    assert_eq!(chosen(&policy, &batch, &fleet(vec![single.clone()])), Ok(id(1)));
    let mut failed = worker(2, "a", "m", 0);
    failed.state = WorkerState::Failed;
    assert_eq!(chosen(&policy, &batch, &fleet(vec![single, failed])), Ok(id(1)));
}

#[test]
fn a_long_prompt_is_not_passed_by_without_end() {
    let policy = shipped("interactive_first.rhai");
    let rank = |bytes: usize, at_ms: u64| {
        let mut ask = with_job(ask("m"), |job| {
            let prompt = Prompt::Text("x".repeat(bytes));
            job.task = Task::Generate { prompt, sampling: Sampling::default() };
        });
        ask.now.wall = WallTime::from_millis(1_000_000 + at_ms);
        match policy.admit(&ask, &cluster([], [])) {
            Ok(Admission::Accept { rank }) => rank,
            other => panic!("{other:?}"),
        }
    };
    assert!(rank(100, 1_000) < rank(20_000, 0), "a short one is sooner");
    assert!(rank(1 << 20, 0) < rank(1, 30_001), "one that came much later is not");
}

/// The kinds of decision, without their targets.
fn kind(placement: rbee_core::Result<Placement>) -> String {
    match placement {
        Ok(Placement::Assign(_)) => "assign".into(),
        Ok(Placement::Spawn { .. }) => "spawn".into(),
        Ok(Placement::Wait) => "wait".into(),
        Ok(Placement::Reject(error)) => error.kind().code().into(),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn no_policy_waits_for_a_worker_that_cannot_help() {
    let fleet = |change: &dyn Fn(&mut WorkerView), online| {
        let mut first = hive("a", &[24], &[("m", 5)], &[("region", "us")]);
        first.online = online;
        let mut worker = worker(1, "a", "m", 0);
        change(&mut worker);
        cluster([first, hive("b", &[24], &[("m", 5)], &[("region", "us")])], [worker])
    };
    let mut job = with_job(ask("m"), |job| job.tenant = Some(TenantId::new("bob").unwrap()));
    job.now.wall = WallTime::from_millis(12 * 3_600_000);
    let embed = with_job(job.clone(), |job| job.task = Task::embed(["x"]));
    let stream = Ask { must_match: Some("another".into()), ..job.clone() };
    let state = |state| move |worker: &mut WorkerView| worker.state = state;
    let cases = [
        ("free", &job, fleet(&|_| {}, true), "assign"),
        ("busy", &job, fleet(&|worker| worker.leased = 4, true), "wait"),
        ("loading", &job, fleet(&state(WorkerState::Loading), true), "wait"),
        ("failed", &job, fleet(&state(WorkerState::Failed), true), "spawn"),
        ("draining", &job, fleet(&state(WorkerState::Draining), true), "spawn"),
        ("out of reach", &job, fleet(&|_| {}, false), "spawn"),
        ("other numerics", &stream, fleet(&|_| {}, true), "spawn"),
        ("incapable", &embed, fleet(&|_| {}, true), "UNSUPPORTED"),
        ("incapable and busy", &embed, fleet(&|worker| worker.leased = 4, true), "UNSUPPORTED"),
    ];
    for (case, ask, cluster, expected) in cases {
        assert_eq!(kind(LeastLoaded::default().place(ask, &cluster)), expected, "{case}");
        for entry in std::fs::read_dir(folder()).unwrap() {
            let path = entry.unwrap().path();
            let policy = loaded(&path);
            assert_eq!(kind(policy.place(ask, &cluster)), expected, "{}: {case}", path.display());
        }
    }
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
        ask.now.wall = rbee_core::time::WallTime::from_millis(hour * 3_600_000);
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
    assert!(matches!(office.admit(&at("big", 12), &cluster), Ok(Admission::Refuse(_))));
    assert_eq!(office.admit(&at("big", 20), &cluster), Ok(Admission::Accept { rank: 0 }));
    let lab = shipped("home_lab.yaml");
    let mut crowded = cluster.clone();
    let (lane, oldest) = (LaneKey { model: model("m"), tenant: None }, Time::default());
    crowded.put_lane(&lane, Some(LaneView { depth: 501, oldest }));
    for hour in [2, 12] {
        assert!(matches!(lab.admit(&at("m", hour), &crowded), Ok(Admission::Refuse(_))));
        assert!(chosen(&lab, &at("m", hour), &crowded).is_ok(), "those that wait already may run");
    }
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
    assert!(
        !policy.info().admits,
        "the limits are looked at when a job comes in, without asking it"
    );
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
