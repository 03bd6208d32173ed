//! The optimiser, on traces replayed in virtual time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, time::Duration};

use rbee_core::{
    DeviceKind, HiveId, LeastLoaded, ModelRef, Scheduler, Settings,
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
    // Within the pause after a scale-back nothing is started again.
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
    assert_eq!(report.evictions, 0, "the optimiser makes no room");
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
