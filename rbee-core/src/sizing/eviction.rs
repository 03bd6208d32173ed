//! The idle workers to stop so that a model fits on a device.
//!
//! The plan counts memory, not workers: of the sets of workers that free enough, it takes the one that is cheapest to
//! load again. The cost of a worker is the memory it takes. Up to [`EXACT`] workers are searched exhaustively; for more
//! of them a greedy choice is cut down to what is needed.

use std::cmp::Reverse;

use super::shortfall::{Memory, shortfall};
use crate::{
    cluster::{ClusterView, HiveView, WorkerView},
    device::Device,
    id::WorkerId,
    time::Time,
};

/// The number of candidates up to which every set is searched: 65,536 sets, most of which are cut off early.
const EXACT: usize = 16;

/// The memory that stopping this worker would free; zero if it may not be stopped.
pub(crate) fn evictable_on(worker: &WorkerView, device: u32) -> Memory {
    if !worker.is_evictable() {
        return Memory::default();
    }
    let on_device = if worker.runs_on(device) { worker.share() } else { 0 };
    Memory { device: on_device, budget: worker.memory_bytes }
}

/// A worker that may be stopped. The budget that it frees is also the cost of loading it again.
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

/// The idle workers of this hive to stop so that `need` bytes are free on the device and within the memory budget of
/// the hive; the least recently used first.
///
/// Empty if the memory is free already; `None` if it cannot be freed. Busy, pinned, loading and draining workers are
/// never named, nor are those that have not been loaded for the minimum time. Every named worker is needed: without any
/// one of them the memory would not suffice. Of up to 16 idle workers, the set with the least memory to load again is
/// named; of equal sets, the one whose workers were used longest ago.
pub fn plan_eviction(
    cluster: &ClusterView,
    hive: &HiveView,
    device: &Device,
    need: u64,
) -> Option<Vec<WorkerId>> {
    plan(cluster, hive, device, shortfall(cluster, hive, device, need))
}

/// The plan that frees this shortfall; see [`plan_eviction`].
pub(crate) fn plan(
    cluster: &ClusterView,
    hive: &HiveView,
    device: &Device,
    shortfall: Memory,
) -> Option<Vec<WorkerId>> {
    if shortfall.is_zero() {
        return Some(Vec::new());
    }
    let helps = |frees: Memory| {
        frees.device.min(shortfall.device) > 0 || frees.budget.min(shortfall.budget) > 0
    };
    let mut idle: Vec<Idle> = cluster
        .on_hive(&hive.id)
        .filter_map(|worker| {
            let frees = evictable_on(worker, device.index);
            helps(frees).then(|| Idle { id: worker.info.id, frees, last_used: worker.last_used })
        })
        .collect();
    if !total(&idle).covers(shortfall) {
        return None;
    }
    idle.sort_unstable_by_key(|worker| (worker.last_used, worker.id));
    let chosen =
        if idle.len() <= EXACT { cheapest(&idle, shortfall) } else { good(&idle, shortfall) };
    Some(chosen.into_iter().map(|index| idle[index].id).collect())
}

fn total(idle: &[Idle]) -> Memory {
    idle.iter().map(|worker| worker.frees).fold(Memory::default(), Memory::saturating_add)
}

/// The cheapest set that frees `shortfall`, as ascending indexes. All of `idle` together must free as much.
fn cheapest(idle: &[Idle], shortfall: Memory) -> Vec<usize> {
    let mut search = Search { idle, best: (u128::MAX, 0) };
    search.descend(idle.len(), shortfall, 0, 0);
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
    /// Decides on the first `upto` workers; `set` was taken of the others, at `cost`, and `shortfall` is still missing.
    fn descend(&mut self, upto: usize, shortfall: Memory, cost: u128, set: u32) {
        if cost >= self.best.0 {
            return;
        }
        if shortfall.is_zero() {
            self.best = (cost, set);
            return;
        }
        if !total(&self.idle[..upto]).covers(shortfall) {
            return;
        }
        let last = upto - 1;
        let worker = &self.idle[last];
        self.descend(last, shortfall, cost, set);
        let missing = shortfall.saturating_sub(worker.frees);
        self.descend(last, missing, cost + worker.cost(), set | 1 << last);
    }
}

/// A cheap set that frees `shortfall`, as ascending indexes. All of `idle` together must free as much.
fn good(idle: &[Idle], shortfall: Memory) -> Vec<usize> {
    let oldest: Vec<usize> = (0..idle.len()).collect();
    let mut largest = oldest.clone();
    let counted = |frees: Memory| if shortfall.budget > 0 { frees.budget } else { frees.device };
    largest.sort_by_key(|index| Reverse(counted(idle[*index].frees)));
    let smallest = largest.iter().rev().copied().collect();
    [oldest, largest, smallest]
        .into_iter()
        .map(|order| {
            let mut set = minimal(idle, shortfall, first_enough(idle, shortfall, &order));
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

/// Takes workers in this order until they suffice; the last one is the cheapest that suffices.
fn first_enough(idle: &[Idle], shortfall: Memory, order: &[usize]) -> Vec<usize> {
    let mut missing = shortfall;
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

/// Removes the workers that are not needed, the costliest first.
fn minimal(idle: &[Idle], shortfall: Memory, mut set: Vec<usize>) -> Vec<usize> {
    let freed = set.iter().map(|index| idle[*index].frees);
    let mut spare = freed.fold(Memory::default(), Memory::saturating_add).saturating_sub(shortfall);
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
