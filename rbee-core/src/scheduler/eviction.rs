//! Which idle workers to stop so that a model fits on a device.
//!
//! Room is made by memory, not by count: of the sets of workers that free enough, the one that is cheapest to load
//! again is taken, where the cost of a worker is the memory it fills. Small numbers are searched exhaustively; beyond
//! that a greedy choice is cut down to what is needed.

use std::cmp::Reverse;

use crate::{ClusterView, Device, HiveView, Time, WorkerId, WorkerView};

/// Up to so many candidates every set is looked at: 65,536 of them, most of which are cut off early.
const EXACT: usize = 16;

/// The device that a worker is counted on where it names none: the processor.
const PROCESSOR: u32 = 0;

/// Does the worker run on this device, alone or among others?
pub(super) fn runs_on(worker: &WorkerView, device: u32) -> bool {
    let devices = &worker.info.devices;
    devices.contains(&device) || (devices.is_empty() && device == PROCESSOR)
}

/// Memory that stopping the worker would free on this device, in bytes; 0 where it may not be stopped. What takes
/// several devices is taken to be spread evenly over them.
pub(super) fn evictable_on(worker: &WorkerView, device: u32) -> u64 {
    if worker.is_evictable() && runs_on(worker, device) {
        worker.memory_bytes / worker.info.devices.len().max(1) as u64
    } else {
        0
    }
}

/// What is missing for `need` to fit, in bytes. Promised memory counts in full, even where more is promised than free.
pub(crate) fn shortfall(hive: &HiveView, device: &Device, need: u64) -> u64 {
    if need <= hive.free_bytes(device) {
        return 0;
    }
    let reserved = hive.reserved.get(&device.index).copied().unwrap_or(0);
    need.saturating_add(reserved).saturating_sub(device.memory_free)
}

/// A worker that may be stopped.
struct Idle {
    id: WorkerId,
    frees: u128,
    cost: u128,
    last_used: Time,
}

/// The idle workers of this hive to stop so that `need` bytes are free on the device, the least recently used first.
///
/// Empty where they are free already; `None` where they are not to be had: busy, pinned, loading and draining workers
/// are never named. No worker is named without need: with any one of them left the memory would not suffice. Among up
/// to 16 idle workers the set is the one with the least memory to load again, and of equals the one whose workers
/// were used longest ago.
pub fn plan_eviction(
    cluster: &ClusterView,
    hive: &HiveView,
    device: &Device,
    need: u64,
) -> Option<Vec<WorkerId>> {
    let short = u128::from(shortfall(hive, device, need));
    if short == 0 {
        return Some(Vec::new());
    }
    let mut idle: Vec<Idle> = cluster
        .on_hive(&hive.id)
        .filter_map(|worker| {
            let frees = evictable_on(worker, device.index);
            (frees > 0).then(|| Idle {
                id: worker.info.id,
                frees: frees.into(),
                cost: worker.memory_bytes.into(),
                last_used: worker.last_used,
            })
        })
        .collect();
    if total(&idle) < short {
        return None;
    }
    idle.sort_unstable_by_key(|worker| (worker.last_used, worker.id));
    let chosen = if idle.len() <= EXACT { cheapest(&idle, short) } else { good(&idle, short) };
    Some(chosen.into_iter().map(|index| idle[index].id).collect())
}

fn total(idle: &[Idle]) -> u128 {
    idle.iter().map(|worker| worker.frees).sum()
}

/// The cheapest set that frees `short`, as ascending indexes. All of `idle` together must free as much.
fn cheapest(idle: &[Idle], short: u128) -> Vec<usize> {
    let mut search = Search { idle, best: (u128::MAX, 0) };
    search.descend(idle.len(), short, 0, 0);
    let (_, set) = search.best;
    (0..idle.len()).filter(|index| set & (1 << index) != 0).collect()
}

/// Walks over the sets of idle workers as bit masks, in ascending order. The workers are in order of their last use,
/// so among equally cheap sets the first one met is the one whose workers were used longest ago.
struct Search<'a> {
    idle: &'a [Idle],
    /// Cost and mask of the best set so far.
    best: (u128, u32),
}

impl Search<'_> {
    /// Decides on the first `upto` workers; `set` has been taken of the others, at `cost`, and `short` is missing yet.
    fn descend(&mut self, upto: usize, short: u128, cost: u128, set: u32) {
        if cost >= self.best.0 {
            return;
        }
        if short == 0 {
            self.best = (cost, set);
            return;
        }
        if total(&self.idle[..upto]) < short {
            return;
        }
        let last = upto - 1;
        let worker = &self.idle[last];
        self.descend(last, short, cost, set);
        self.descend(last, short.saturating_sub(worker.frees), cost + worker.cost, set | 1 << last);
    }
}

/// A cheap set that frees `short`, as ascending indexes. All of `idle` together must free as much.
fn good(idle: &[Idle], short: u128) -> Vec<usize> {
    let oldest: Vec<usize> = (0..idle.len()).collect();
    let mut largest = oldest.clone();
    largest.sort_by_key(|index| Reverse(idle[*index].frees));
    let smallest = largest.iter().rev().copied().collect();
    [oldest, largest, smallest]
        .into_iter()
        .map(|order| {
            let mut set = minimal(idle, short, first_enough(idle, short, &order));
            set.sort_unstable();
            set
        })
        .min_by_key(|set| {
            let cost: u128 = set.iter().map(|index| idle[*index].cost).sum();
            let latest_first: Vec<usize> = set.iter().rev().copied().collect();
            (cost, latest_first)
        })
        .unwrap_or_default()
}

/// Takes workers in this order until they suffice, and for the last of them the cheapest one that will do.
fn first_enough(idle: &[Idle], short: u128, order: &[usize]) -> Vec<usize> {
    let mut missing = short;
    for (place, index) in order.iter().enumerate() {
        if idle[*index].frees >= missing {
            let (taken, rest) = order.split_at(place);
            let last = rest
                .iter()
                .filter(|index| idle[**index].frees >= missing)
                .min_by_key(|index| (idle[**index].cost, **index));
            return taken.iter().chain(last).copied().collect();
        }
        missing -= idle[*index].frees;
    }
    order.to_vec()
}

/// Leaves out, the costliest first, what is not needed.
fn minimal(idle: &[Idle], short: u128, mut set: Vec<usize>) -> Vec<usize> {
    let freed: u128 = set.iter().map(|index| idle[*index].frees).sum();
    let mut spare = freed.saturating_sub(short);
    set.sort_by_key(|index| Reverse((idle[*index].cost, *index)));
    set.retain(|index| {
        let needed = idle[*index].frees > spare;
        if !needed {
            spare -= idle[*index].frees;
        }
        needed
    });
    set
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use proptest::prelude::*;

    use super::*;
    use crate::{DeviceKind, HiveId, WorkerInfo, WorkerState};

    /// Memory in units of one byte, on devices 1 and 2 of a hive.
    #[derive(Clone, Debug)]
    struct Sample {
        memory: u64,
        last_used: u64,
        leased: u32,
        pinned: bool,
        state: WorkerState,
        devices: Vec<u32>,
    }

    fn idle(memory: u64, last_used: u64) -> Sample {
        Sample {
            memory,
            last_used,
            leased: 0,
            pinned: false,
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
            labels: Arc::default(),
            models: Arc::default(),
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
        // 20 are free and 25 promised: 15 are missing for 10.
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

    fn sample() -> impl Strategy<Value = Sample> {
        let state = prop_oneof![
            6 => Just(WorkerState::Ready),
            1 => Just(WorkerState::Failed),
            1 => Just(WorkerState::Loading),
            1 => Just(WorkerState::Draining),
        ];
        let devices = prop_oneof![6 => Just(vec![1]), 1 => Just(vec![1, 2]), 1 => Just(vec![2]), 1 => Just(vec![])];
        let leased = prop_oneof![4 => Just(0u32), 1 => Just(1u32)];
        (0..60u64, 0..6u64, leased, prop::bool::weighted(0.15), state, devices).prop_map(
            |(memory, last_used, leased, pinned, state, devices)| Sample {
                memory,
                last_used,
                leased,
                pinned,
                state,
                devices,
            },
        )
    }

    /// What stopping it frees on device 1; none where it may not be stopped.
    fn frees(sample: &Sample) -> u64 {
        let stoppable = matches!(sample.state, WorkerState::Ready | WorkerState::Failed);
        if sample.leased > 0 || sample.pinned || !stoppable || !sample.devices.contains(&1) {
            return 0;
        }
        sample.memory / sample.devices.len() as u64
    }

    /// Fits, names nobody it must not, and nobody in vain. Returns the cost.
    fn check(samples: &[Sample], chosen: &[WorkerId], free: u64, need: u64) -> u64 {
        let taken: Vec<&Sample> = chosen
            .iter()
            .map(|worker| &samples[(0..samples.len()).find(|i| id(*i) == *worker).unwrap()])
            .collect();
        let freed: u64 = taken.iter().map(|sample| frees(sample)).sum();
        assert!(free + freed >= need, "it does not fit");
        for sample in &taken {
            assert!(frees(sample) > 0, "{sample:?} must not be stopped");
            assert!(free + freed - frees(sample) < need, "{sample:?} need not be");
        }
        taken.iter().map(|sample| sample.memory).sum()
    }

    proptest! {
        #[test]
        fn a_plan_is_what_trying_every_set_finds(
            samples in prop::collection::vec(sample(), 0..10), free in 0..40u64, need in 0..200u64,
        ) {
            let sets = || (0u32..1 << samples.len()).map(|mask| {
                samples.iter().enumerate().filter(move |(i, _)| mask & 1 << i != 0)
            });
            let least = sets()
                .filter(|set| set.clone().all(|(_, s)| frees(s) > 0))
                .filter(|set| free + set.clone().map(|(_, s)| frees(s)).sum::<u64>() >= need)
                .map(|set| {
                    let mut latest: Vec<_> = set.clone().map(|(i, s)| (s.last_used, id(i))).collect();
                    latest.sort_unstable_by(|a, b| b.cmp(a));
                    (set.map(|(_, s)| s.memory).sum::<u64>(), latest)
                })
                .min();
            let chosen = plan(&samples, free, need);
            prop_assert_eq!(chosen.is_some(), least.is_some());
            if let (Some(chosen), Some((cost, latest))) = (chosen, least) {
                prop_assert_eq!(check(&samples, &chosen, free, need), cost);
                let expected: Vec<_> = latest.into_iter().rev().map(|(_, id)| id).collect();
                prop_assert_eq!(chosen, expected);
            }
        }

        #[test]
        fn a_plan_among_many_fits_and_stops_nobody_in_vain(
            samples in prop::collection::vec(sample(), 17..60), free in 0..40u64, need in 0..900u64,
        ) {
            let all: u64 = samples.iter().map(frees).sum();
            let chosen = plan(&samples, free, need);
            prop_assert_eq!(chosen.is_some(), free + all >= need);
            if let Some(chosen) = chosen {
                check(&samples, &chosen, free, need);
            }
        }
    }
}
