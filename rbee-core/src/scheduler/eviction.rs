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
mod tests;
