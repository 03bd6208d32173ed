//! Which idle workers to stop so that a model fits on a device.
//!
//! Room is made by memory, not by count: of the sets of workers that free enough, the one that is cheapest to load
//! again is taken, where the cost of a worker is the memory it fills. Small numbers are searched exhaustively; beyond
//! that a greedy choice is cut down to what is needed.

use std::cmp::Reverse;

use crate::{ClusterView, Device, HiveView, Time, WorkerId, WorkerView};

/// Up to so many candidates every set is looked at: 65,536 of them, most of which are cut off early.
const EXACT: usize = 16;

/// Does the worker run on this device, alone or among others?
pub(super) fn runs_on(worker: &WorkerView, device: u32) -> bool {
    worker.devices().contains(&device)
}

/// An amount of memory in both respects in which it may be short, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// On one device.
    pub(crate) device: u64,
    /// Of what the workers of its hive may take together.
    pub(crate) budget: u64,
}

impl Memory {
    pub(crate) fn is_none(self) -> bool {
        self.largest() == 0
    }

    pub(crate) fn largest(self) -> u64 {
        self.device.max(self.budget)
    }

    pub(crate) fn covers(self, short: Self) -> bool {
        self.device >= short.device && self.budget >= short.budget
    }

    pub(crate) fn saturating_add(self, other: Self) -> Self {
        Self {
            device: self.device.saturating_add(other.device),
            budget: self.budget.saturating_add(other.budget),
        }
    }

    pub(crate) fn saturating_sub(self, other: Self) -> Self {
        Self {
            device: self.device.saturating_sub(other.device),
            budget: self.budget.saturating_sub(other.budget),
        }
    }
}

/// What stopping the worker would free; nothing where it may not be stopped.
pub(crate) fn evictable_on(worker: &WorkerView, device: u32) -> Memory {
    if !worker.is_evictable() {
        return Memory::default();
    }
    let on_device = if runs_on(worker, device) { worker.share() } else { 0 };
    Memory { device: on_device, budget: worker.memory_bytes }
}

/// What stopping all of the hive's workers that may be stopped would free.
pub(crate) fn evictable(cluster: &ClusterView, hive: &HiveView, device: &Device) -> Memory {
    let (device, budget) = cluster.evictable(&hive.id, device.index);
    Memory { device, budget }
}

/// What is missing for a worker that needs `need` bytes to fit. Promised memory counts in full, even where more is
/// promised than free.
pub(crate) fn shortfall(
    cluster: &ClusterView,
    hive: &HiveView,
    device: &Device,
    need: u64,
) -> Memory {
    Memory { device: short_on(hive, device, need), budget: short_of_budget(cluster, hive, need) }
}

fn short_on(hive: &HiveView, device: &Device, need: u64) -> u64 {
    if need <= hive.free_bytes(device) {
        return 0;
    }
    let reserved = hive.reserved.get(&device.index).copied().unwrap_or(0);
    need.saturating_add(reserved).saturating_sub(device.memory_free)
}

fn short_of_budget(cluster: &ClusterView, hive: &HiveView, need: u64) -> u64 {
    let Some(budget) = hive.memory_budget else { return 0 };
    cluster.memory_taken(&hive.id).saturating_add(need).saturating_sub(budget)
}

/// A worker that may be stopped. What it frees of the budget is what it costs to load it again.
struct Idle {
    id: WorkerId,
    frees: Memory,
    last_used: Time,
}

impl Idle {
    fn cost(&self) -> u128 {
        self.frees.budget.into()
    }
}

/// The idle workers of this hive to stop so that `need` bytes are free on the device, and the hive's workers may take so
/// much more together; the least recently used first.
///
/// Empty where that is so already; `None` where it is not to be had: busy, pinned, loading and draining workers and
/// those that have not settled are never named. No worker is named without need: with any one of them left the memory
/// would not suffice. Among up to 16 idle workers the set is the one with the least memory to load again, and of equals
/// the one whose workers were used longest ago.
pub fn plan_eviction(
    cluster: &ClusterView,
    hive: &HiveView,
    device: &Device,
    need: u64,
) -> Option<Vec<WorkerId>> {
    plan(cluster, hive, device, shortfall(cluster, hive, device, need))
}

/// The same for what is missing.
pub(super) fn plan(
    cluster: &ClusterView,
    hive: &HiveView,
    device: &Device,
    short: Memory,
) -> Option<Vec<WorkerId>> {
    if short.is_none() {
        return Some(Vec::new());
    }
    let helps =
        |frees: Memory| frees.device.min(short.device) > 0 || frees.budget.min(short.budget) > 0;
    let mut idle: Vec<Idle> = cluster
        .on_hive(&hive.id)
        .filter_map(|worker| {
            let frees = evictable_on(worker, device.index);
            helps(frees).then(|| Idle { id: worker.info.id, frees, last_used: worker.last_used })
        })
        .collect();
    if !total(&idle).covers(short) {
        return None;
    }
    idle.sort_unstable_by_key(|worker| (worker.last_used, worker.id));
    let chosen = if idle.len() <= EXACT { cheapest(&idle, short) } else { good(&idle, short) };
    Some(chosen.into_iter().map(|index| idle[index].id).collect())
}

fn total(idle: &[Idle]) -> Memory {
    idle.iter().map(|worker| worker.frees).fold(Memory::default(), Memory::saturating_add)
}

/// The cheapest set that frees `short`, as ascending indexes. All of `idle` together must free as much.
fn cheapest(idle: &[Idle], short: Memory) -> Vec<usize> {
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
    fn descend(&mut self, upto: usize, short: Memory, cost: u128, set: u32) {
        if cost >= self.best.0 {
            return;
        }
        if short.is_none() {
            self.best = (cost, set);
            return;
        }
        if !total(&self.idle[..upto]).covers(short) {
            return;
        }
        let last = upto - 1;
        let worker = &self.idle[last];
        self.descend(last, short, cost, set);
        let missing = short.saturating_sub(worker.frees);
        self.descend(last, missing, cost + worker.cost(), set | 1 << last);
    }
}

/// A cheap set that frees `short`, as ascending indexes. All of `idle` together must free as much.
fn good(idle: &[Idle], short: Memory) -> Vec<usize> {
    let oldest: Vec<usize> = (0..idle.len()).collect();
    let mut largest = oldest.clone();
    let counted = |frees: Memory| if short.budget > 0 { frees.budget } else { frees.device };
    largest.sort_by_key(|index| Reverse(counted(idle[*index].frees)));
    let smallest = largest.iter().rev().copied().collect();
    [oldest, largest, smallest]
        .into_iter()
        .map(|order| {
            let mut set = minimal(idle, short, first_enough(idle, short, &order));
            set.sort_unstable();
            set
        })
        .min_by_key(|set| {
            let cost: u128 = set.iter().map(|index| idle[*index].cost()).sum();
            let latest_first: Vec<usize> = set.iter().rev().copied().collect();
            (cost, latest_first)
        })
        .unwrap_or_default()
}

/// Takes workers in this order until they suffice, and for the last of them the cheapest one that will do.
fn first_enough(idle: &[Idle], short: Memory, order: &[usize]) -> Vec<usize> {
    let mut missing = short;
    for (place, index) in order.iter().enumerate() {
        if idle[*index].frees.covers(missing) {
            let (taken, rest) = order.split_at(place);
            let last = rest
                .iter()
                .filter(|index| idle[**index].frees.covers(missing))
                .min_by_key(|index| (idle[**index].cost(), **index));
            return taken.iter().chain(last).copied().collect();
        }
        missing = missing.saturating_sub(idle[*index].frees);
    }
    order.to_vec()
}

/// Leaves out, the costliest first, what is not needed.
fn minimal(idle: &[Idle], short: Memory, mut set: Vec<usize>) -> Vec<usize> {
    let freed = set.iter().map(|index| idle[*index].frees);
    let mut spare = freed.fold(Memory::default(), Memory::saturating_add).saturating_sub(short);
    set.sort_by_key(|index| Reverse((idle[*index].cost(), *index)));
    set.retain(|index| {
        let spared = spare.covers(idle[*index].frees);
        if spared {
            spare = spare.saturating_sub(idle[*index].frees);
        }
        !spared
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
        settled: bool,
        state: WorkerState,
        devices: Vec<u32>,
    }

    fn idle(memory: u64, last_used: u64) -> Sample {
        Sample {
            memory,
            last_used,
            leased: 0,
            pinned: false,
            settled: true,
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
            view.settled = sample.settled;
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
        young.settled = false;
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
            |(memory, last_used, leased, (pinned, settled), state, devices)| Sample {
                memory,
                last_used,
                leased,
                pinned,
                settled,
                state,
                devices,
            },
        )
    }

    fn is_evictable(sample: &Sample) -> bool {
        let may = match sample.state {
            WorkerState::Ready => sample.settled,
            WorkerState::Failed => true,
            WorkerState::Loading | WorkerState::Draining => false,
        };
        may && sample.leased == 0 && !sample.pinned
    }

    /// What stopping it frees on device 1 and in all; nothing where it may not be stopped.
    fn frees(sample: &Sample) -> (u64, u64) {
        match is_evictable(sample) {
            true if sample.devices.contains(&1) => {
                (sample.memory / sample.devices.len() as u64, sample.memory)
            }
            true => (0, sample.memory),
            false => (0, 0),
        }
    }

    /// What is missing on the device and of the budget.
    type Short = (u64, u64);

    fn suffice<'a>(set: impl Iterator<Item = &'a Sample>, short: Short) -> bool {
        let freed = set.map(frees).fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        freed.0 >= short.0 && freed.1 >= short.1
    }

    /// The question in which so much is missing.
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

    /// Fits, names nobody it must not, and nobody in vain. Returns the cost.
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
}
