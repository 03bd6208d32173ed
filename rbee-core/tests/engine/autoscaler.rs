//! The autoscaler, on traces replayed in virtual time.

use std::{collections::BTreeMap, time::Duration};

use rbee_core::{
    HiveId, LeastLoaded, ModelRef, Scheduler, Settings,
    hive::DeviceKind,
    sim::{
        Arrival, Fleet, FleetDevice, FleetHive, FleetWorker, JobSketch, Replay, ReplayReport, Trace,
    },
};

const GIB: u64 = 1 << 30;

fn model(name: &str) -> ModelRef {
    name.parse().unwrap()
}

fn hive(n: usize, gib: u64, models: &[&str], workers: &[&str]) -> FleetHive {
    let worker = |name: &&str| FleetWorker {
        id: None,
        model: model(name),
        slots: 4,
        device: 0,
        memory_bytes: Some(5 * GIB),
        busy: 0,
        embed: false,
        rerank: false,
        pinned: false,
        warm: Vec::new(),
    };
    FleetHive {
        id: HiveId::new(format!("hive-{n:04}")).unwrap(),
        labels: BTreeMap::new(),
        online: true,
        draining: false,
        devices: vec![FleetDevice {
            kind: DeviceKind::Cpu,
            name: "test".into(),
            memory_total: gib * GIB,
            memory_free: Some(gib * GIB - 5 * GIB * workers.len() as u64),
        }],
        memory_budget: None,
        takes: BTreeMap::new(),
        models: models.iter().map(|m| (model(m), 4 * GIB)).collect(),
        workers: workers.iter().map(worker).collect(),
    }
}

fn run(replay: &Replay, scheduler: &dyn Scheduler) -> ReplayReport {
    replay.run(scheduler).unwrap()
}

fn arrival(at: Duration, name: &str, service: u64) -> Arrival {
    let service = Duration::from_secs(service);
    Arrival { at, job: JobSketch::new(model(name)), service, tokens: 10 }
}

#[test]
fn a_queue_that_lasts_gets_a_replica_and_an_idle_one_goes_and_never_back_and_forth() {
    let hives = vec![hive(0, 16, &["a"], &["a"]), hive(1, 16, &["a"], &[])];
    // Two bursts, an hour apart.
    let burst = |from: u64| (0..200).map(move |n| arrival(Duration::from_millis(from + n), "a", 5));
    let last = arrival(Duration::from_secs(3 * 3_600), "a", 1);
    let arrivals = burst(0).chain(burst(3_600_000)).chain([last]).collect();
    let mut replay = Replay::new(Fleet { hives }, Trace { arrivals, ..Trace::default() });
    let report = run(&replay, &LeastLoaded::default());
    assert_eq!(report.completed, 401);
    assert!(report.scale_ups >= 2, "one a burst at least: {report:?}");
    assert_eq!(report.scale_backs, report.scale_ups, "and all of them go again");
    assert!(report.scale_ups <= 10, "{report:?}");
    // During the pause after a scale-back no worker is started.
    replay.settings.scale_back_after = Duration::from_secs(4_000);
    let slow = run(&replay, &LeastLoaded::default());
    assert!(slow.scale_ups < report.scale_ups, "the replicas of the first burst serve the second");
}

#[test]
fn on_a_day_with_bursts_the_number_of_changes_is_bounded_by_the_pause() {
    let models = ["a", "b", "c"];
    let hives = (0..4).map(|n| hive(n, 32, &models, &[models[n % 3]])).collect();
    let trace = Trace::day(11, 40_000, &models.map(model), &[]);
    let report = run(&Replay::new(Fleet { hives }, trace), &LeastLoaded::default());
    assert_eq!(report.evictions, 0, "the autoscaler makes no room");
    assert!(report.scale_ups > 0 && report.scale_backs <= report.scale_ups, "{report:?}");
    assert!(report.scale_ups <= 3 * 24 * 3, "{} changes", report.scale_ups);
}

#[test]
fn a_worker_is_stopped_when_it_was_idle_for_as_long_as_it_is_kept_alive_and_a_pinned_one_never() {
    let mut hives = vec![hive(0, 32, &["a", "b", "c"], &["a", "b", "c"])];
    hives[0].workers[1].pinned = true;
    let arrivals = [(0, "a"), (100, "a"), (1_000, "b")];
    let arrivals = arrivals.map(|(at, name)| arrival(Duration::from_secs(at), name, 1)).to_vec();
    let mut replay = Replay::new(Fleet { hives }, Trace { arrivals, ..Trace::default() });
    replay.settings = Settings {
        keep_alive: Some(Duration::from_secs(200)),
        model_keep_alive: BTreeMap::from([("c".into(), Duration::from_secs(30))]),
        ..Settings::default()
    };
    let report = run(&replay, &LeastLoaded::default());
    assert_eq!((report.expired, report.spawns), (2, 0), "a and c, and a only after its last job");
    replay.settings.keep_alive = Some(Duration::from_secs(50));
    let report = run(&replay, &LeastLoaded::default());
    assert_eq!((report.expired, report.spawns), (3, 1), "a went between its two jobs");
}

#[test]
fn models_that_take_turns_on_one_device_are_swapped_no_faster_than_they_may() {
    let hives = vec![hive(0, 7, &["a", "b", "c"], &["a"])];
    let arrivals = (0..120)
        .map(|n| arrival(Duration::from_secs(n), ["a", "b", "a", "c"][n as usize % 4], 1))
        .collect();
    let mut replay = Replay::new(Fleet { hives }, Trace { arrivals, ..Trace::default() });
    let swaps = |replay: &Replay| {
        let report = run(replay, &LeastLoaded::default());
        assert_eq!(report.completed, 120, "{:?}", report.rejected);
        (report.evictions as u64, report.elapsed_ms / 1_000)
    };
    replay.settings.min_loaded = Duration::ZERO;
    let (hasty, _) = swaps(&replay);
    replay.settings.min_loaded = Duration::from_secs(20);
    let (calm, elapsed) = swaps(&replay);
    assert!(calm <= elapsed / 20 + 1, "{calm} swaps in {elapsed} s");
    assert!(calm < hasty, "{calm} against {hasty}");
}

/// Bursts of `count` jobs each for model `a`, one every `every` seconds.
fn bursts(bursts: u64, every: u64, count: u64, service: u64) -> Trace {
    let burst = |n: u64| (0..count).map(move |k| (n * every * 1_000 + k, "a", service));
    let jobs = (0..bursts).flat_map(burst);
    let jobs = jobs.map(|(at, name, service)| arrival(Duration::from_millis(at), name, service));
    Trace { arrivals: jobs.collect(), ..Trace::default() }
}

#[test]
fn a_days_bursts_make_as_many_starts_as_there_are_bursts() {
    // Room for one replica.
    let hives = vec![hive(0, 12, &["a"], &["a"])];
    let mut trace = bursts(24, 3_600, 100, 5);
    trace.arrivals.push(arrival(Duration::from_secs(24 * 3_600), "a", 1));
    let report = run(&Replay::new(Fleet { hives }, trace), &LeastLoaded::default());
    assert_eq!((report.completed, report.scale_ups, report.scale_backs), (2_401, 24, 24));
}

#[test]
fn bursts_that_come_faster_than_the_pause_do_not_start_and_stop_a_replica_each() {
    let mut hives = vec![hive(0, 12, &["a"], &["a"])];
    hives[0].workers[0].pinned = true;
    let mut replay = Replay::new(Fleet { hives }, bursts(30, 120, 60, 5));
    for keep_alive in [20, 40, 1_000] {
        replay.settings.keep_alive = Some(Duration::from_secs(keep_alive));
        let report = run(&replay, &LeastLoaded::default());
        let most = report.elapsed_ms / 300_000 + 1;
        assert_eq!(report.completed, 1_800);
        assert!(report.scale_ups >= 1 && report.scale_ups as u64 <= most, "{report:?}");
        assert!(keep_alive < 1_000 || report.scale_ups == 1, "one that is kept serves them all");
    }
}

#[test]
fn a_replica_goes_to_the_hive_with_a_gpu_although_another_has_more_memory() {
    let mut hives = vec![hive(0, 64, &["a"], &["a"]), hive(1, 64, &["a"], &[])];
    let gpu = FleetDevice {
        kind: DeviceKind::Cuda,
        name: "gpu".into(),
        memory_total: 8 * GIB,
        memory_free: None,
    };
    hives[1].devices.push(gpu);
    let report = run(&Replay::new(Fleet { hives }, bursts(1, 1, 60, 5)), &LeastLoaded::default());
    assert!(report.scale_ups >= 1);
    let first = report.workers.values().filter(|load| load.hive.as_str() == "hive-0001");
    assert!(first.map(|load| load.jobs).sum::<usize>() > 0, "{report:?}");
}

#[test]
fn a_model_is_fetched_where_the_room_for_a_replica_is_and_only_once() {
    let hives = vec![hive(0, 8, &["a"], &["a"]), hive(1, 7, &[], &[])];
    let report =
        run(&Replay::new(Fleet { hives }, bursts(2, 900, 120, 5)), &LeastLoaded::default());
    assert_eq!((report.completed, report.downloads, report.scale_ups), (240, 1, 2));
}

#[test]
fn a_worker_that_takes_more_than_it_was_reckoned_to_is_reckoned_with_from_then_on() {
    let mut hives = vec![hive(0, 20, &["a"], &[])];
    let replay =
        |hives: &[FleetHive]| Replay::new(Fleet { hives: hives.to_vec() }, bursts(1, 1, 60, 5));
    let as_reckoned = run(&replay(&hives), &LeastLoaded::default());
    assert!(as_reckoned.scale_ups >= 1, "{as_reckoned:?}");
    hives[0].takes.insert(model("a"), 14 * GIB);
    let more = run(&replay(&hives), &LeastLoaded::default());
    assert_eq!(
        (more.completed, more.spawns, more.scale_ups),
        (60, 1, 0),
        "there is no room for two"
    );
}
