//! Compares plans with every possible set.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::*;
use crate::{cluster::WorkerState, device::DeviceKind, id::HiveId, worker::WorkerInfo};

/// Memory in units of one byte, on devices 1 and 2 of a hive.
#[derive(Clone, Debug)]
struct Sample {
    memory: u64,
    last_used: u64,
    leased: u32,
    pinned: bool,
    min_loaded_elapsed: bool,
    state: WorkerState,
    devices: Vec<u32>,
}

fn idle(memory: u64, last_used: u64) -> Sample {
    Sample {
        memory,
        last_used,
        leased: 0,
        pinned: false,
        min_loaded_elapsed: true,
        state: WorkerState::Ready,
        devices: vec![1],
    }
}

fn device(free: u64) -> Device {
    Device {
        index: 1,
        kind: DeviceKind::Cuda,
        name: "test".into(),
        memory_total: 1 << 20,
        memory_free: free,
    }
}

fn hive(reserved: u64) -> HiveView {
    HiveView {
        id: HiveId::local(),
        online: true,
        draining: false,
        devices: Arc::default(),
        memory_budget: None,
        labels: Arc::default(),
        models: Arc::default(),
        engines: None,
        reserved: BTreeMap::from([(1, reserved)]),
    }
}

fn cluster(samples: &[Sample]) -> ClusterView {
    let mut cluster = ClusterView::default();
    for (index, sample) in samples.iter().enumerate() {
        let mut info = WorkerInfo::new("m".parse().unwrap(), "test");
        info.id = id(index);
        info.devices = sample.devices.clone();
        let mut view = WorkerView::ready(Arc::new(info), Time::from_micros(sample.last_used));
        view.memory_bytes = sample.memory;
        view.leased = sample.leased;
        view.pinned = sample.pinned;
        view.min_loaded_elapsed = sample.min_loaded_elapsed;
        view.state = sample.state;
        cluster.put_worker(view);
    }
    cluster
}

fn id(index: usize) -> WorkerId {
    WorkerId::from_random_bits(index as u128)
}

fn plan(samples: &[Sample], free: u64, need: u64) -> Option<Vec<WorkerId>> {
    plan_eviction(&cluster(samples), &hive(0), &device(free), need)
}

#[test]
fn room_is_made_by_memory_and_not_by_count() {
    let fleet = [idle(10, 1), idle(10, 2), idle(10, 3), idle(31, 0)];
    assert_eq!(plan(&fleet, 0, 30), Some(vec![id(0), id(1), id(2)]));
    assert_eq!(plan(&fleet, 0, 31), Some(vec![id(3)]));
    assert_eq!(plan(&fleet, 5, 5), Some(vec![]));
    assert_eq!(plan(&fleet, 0, 62), None);
}

#[test]
fn among_equals_those_used_longest_ago_go() {
    let fleet = [idle(10, 7), idle(10, 3), idle(10, 9), idle(10, 5)];
    assert_eq!(plan(&fleet, 0, 20), Some(vec![id(1), id(3)]));
}

#[test]
fn promised_memory_is_not_free() {
    let fleet = cluster(&[idle(10, 1), idle(30, 2)]);
    // 20 are free and 25 reserved: 15 are missing for 10.
    let chosen = plan_eviction(&fleet, &hive(25), &device(20), 10);
    assert_eq!(chosen, Some(vec![id(1)]));
}

#[test]
fn a_worker_over_two_devices_frees_half_and_costs_all() {
    let mut wide = idle(20, 1);
    wide.devices = vec![1, 2];
    let mut elsewhere = idle(50, 1);
    elsewhere.devices = vec![2];
    assert_eq!(plan(&[wide, idle(11, 2), elsewhere], 0, 10), Some(vec![id(1)]));
}

#[test]
fn a_budget_is_kept_by_stopping_workers_of_any_device() {
    let mut elsewhere = idle(20, 1);
    elsewhere.devices = vec![2];
    let fleet = cluster(&[elsewhere, idle(30, 2)]);
    let hive = |budget| HiveView { memory_budget: Some(budget), ..hive(0) };
    let plan = |budget, free| plan_eviction(&fleet, &hive(budget), &device(free), 15);
    assert_eq!(plan(65, 15), Some(vec![]));
    assert_eq!(plan(64, 15), Some(vec![id(0)]), "the one that costs least");
    assert_eq!(plan(64, 14), Some(vec![id(1)]), "which makes room on the device too");
    assert_eq!(plan(16, 15), Some(vec![id(0), id(1)]));
    assert_eq!(plan(14, 15), None);
}

#[test]
fn a_worker_makes_room_only_when_it_has_settled_or_failed() {
    let mut young = idle(10, 1);
    young.min_loaded_elapsed = false;
    assert_eq!(plan(&[young.clone(), idle(20, 2)], 0, 10), Some(vec![id(1)]));
    assert_eq!(plan(std::slice::from_ref(&young), 0, 10), None);
    young.state = WorkerState::Failed;
    assert_eq!(plan(&[young], 0, 10), Some(vec![id(0)]));
}

fn sample() -> impl Strategy<Value = Sample> {
    let state = prop_oneof![
        6 => Just(WorkerState::Ready),
        1 => Just(WorkerState::Failed),
        1 => Just(WorkerState::Loading),
        1 => Just(WorkerState::Draining),
    ];
    let devices = prop_oneof![6 => Just(vec![1]), 1 => Just(vec![1, 2]), 1 => Just(vec![2]), 1 => Just(vec![])];
    let leased = prop_oneof![4 => Just(0u32), 1 => Just(1u32)];
    let flags = (prop::bool::weighted(0.15), prop::bool::weighted(0.85));
    (0..60u64, 0..6u64, leased, flags, state, devices).prop_map(
        |(memory, last_used, leased, (pinned, min_loaded_elapsed), state, devices)| Sample {
            memory,
            last_used,
            leased,
            pinned,
            min_loaded_elapsed,
            state,
            devices,
        },
    )
}

fn is_evictable(sample: &Sample) -> bool {
    let may = match sample.state {
        WorkerState::Ready => sample.min_loaded_elapsed,
        WorkerState::Failed => true,
        WorkerState::Loading | WorkerState::Draining => false,
    };
    may && sample.leased == 0 && !sample.pinned
}

/// What stopping it frees on device 1 and in total; zero if it may not be stopped.
fn frees(sample: &Sample) -> (u64, u64) {
    match is_evictable(sample) {
        true if sample.devices.contains(&1) => {
            (sample.memory / sample.devices.len() as u64, sample.memory)
        }
        true => (0, sample.memory),
        false => (0, 0),
    }
}

/// The missing amounts on the device and of the budget.
type Short = (u64, u64);

fn suffice<'a>(set: impl Iterator<Item = &'a Sample>, short: Short) -> bool {
    let freed = set.map(frees).fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
    freed.0 >= short.0 && freed.1 >= short.1
}

/// The plan for a question with these missing amounts.
fn plan_short(samples: &[Sample], short: Short) -> Option<Vec<WorkerId>> {
    let (free, need) = (1_000, 1_000 + short.0);
    let taken: u64 = samples.iter().map(|sample| sample.memory).sum();
    let memory_budget = (short.1 > 0).then(|| taken + need - short.1);
    let hive = HiveView { memory_budget, ..hive(0) };
    plan_eviction(&cluster(samples), &hive, &device(free), need)
}

fn short() -> impl Strategy<Value = Short> {
    (prop_oneof![1 => Just(0), 4 => 0..200u64], prop_oneof![1 => Just(0), 1 => 1..300u64])
}

/// Checks that the plan suffices, names only evictable workers, and none without need. Returns the cost.
fn check(samples: &[Sample], chosen: &[WorkerId], short: Short) -> u64 {
    let index = |worker: &WorkerId| (0..samples.len()).find(|i| id(*i) == *worker).unwrap();
    let taken: Vec<&Sample> = chosen.iter().map(|worker| &samples[index(worker)]).collect();
    assert!(suffice(taken.iter().copied(), short), "it does not fit");
    for (place, sample) in taken.iter().enumerate() {
        assert!(is_evictable(sample), "{sample:?} must not be stopped");
        let others = taken.iter().enumerate().filter(|(other, _)| *other != place);
        assert!(!suffice(others.map(|(_, s)| *s), short), "{sample:?} need not be");
    }
    taken.iter().map(|sample| sample.memory).sum()
}

proptest! {
    #[test]
    fn a_plan_is_what_trying_every_set_finds(
        samples in prop::collection::vec(sample(), 0..10), short in short(),
    ) {
        let sets = || (0u32..1 << samples.len()).map(|mask| {
            samples.iter().enumerate().filter(move |(i, _)| mask & 1 << i != 0)
        });
        let least = sets()
            .filter(|set| set.clone().all(|(_, s)| is_evictable(s) && s.memory > 0))
            .filter(|set| suffice(set.clone().map(|(_, s)| s), short))
            .map(|set| {
                let mut latest: Vec<_> = set.clone().map(|(i, s)| (s.last_used, id(i))).collect();
                latest.sort_unstable_by(|a, b| b.cmp(a));
                (set.map(|(_, s)| s.memory).sum::<u64>(), latest)
            })
            .min();
        let chosen = plan_short(&samples, short);
        prop_assert_eq!(chosen.is_some(), least.is_some());
        if let (Some(chosen), Some((cost, latest))) = (chosen, least) {
            prop_assert_eq!(check(&samples, &chosen, short), cost);
            let expected: Vec<_> = latest.into_iter().rev().map(|(_, id)| id).collect();
            prop_assert_eq!(chosen, expected);
        }
    }

    #[test]
    fn a_plan_among_many_fits_and_stops_nobody_in_vain(
        samples in prop::collection::vec(sample(), 17..60), short in short(), times in 1..5u64,
    ) {
        let short = (short.0 * times, short.1 * times);
        let chosen = plan_short(&samples, short);
        prop_assert_eq!(chosen.is_some(), suffice(samples.iter(), short));
        if let Some(chosen) = chosen {
            check(&samples, &chosen, short);
        }
    }
}
