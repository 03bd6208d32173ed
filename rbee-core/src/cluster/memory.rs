//! The memory that workers take on their hives, kept as sums so that a lookup does not walk over the workers.

use std::collections::BTreeMap;

use rpds::RedBlackTreeMapSync as Map;

use super::WorkerView;
use crate::{device::DeviceKind, model_ref::ModelRef};

/// The most pairs of model and device kind whose measured memory is remembered.
const MEASURED: usize = 1_024;

/// The memory that the workers of one hive take, and the memory that eviction would free. The sums are wider than their
/// parts, so that a removal exactly reverses an addition, whatever a hive reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    workers: usize,
    taken: u128,
    evictable: u128,
    evictable_on: BTreeMap<u32, u128>,
}

/// The part of a worker in its hive's sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    memory: u64,
    share: u64,
    is_evictable: bool,
}

impl Part {
    pub(super) fn of(worker: &WorkerView) -> Self {
        Self {
            memory: worker.memory_bytes,
            share: worker.share(),
            is_evictable: worker.is_evictable(),
        }
    }
}

impl Room {
    pub(super) fn add(&mut self, part: Part, devices: &[u32]) {
        self.workers += 1;
        self.taken += u128::from(part.memory);
        if part.is_evictable {
            self.evictable += u128::from(part.memory);
            for device in devices {
                *self.evictable_on.entry(*device).or_default() += u128::from(part.share);
            }
        }
    }

    /// Removes what was added before.
    pub(super) fn take_out(&mut self, part: Part, devices: &[u32]) {
        self.workers -= 1;
        self.taken -= u128::from(part.memory);
        if part.is_evictable {
            self.evictable -= u128::from(part.memory);
            for device in devices {
                if let Some(sum) = self.evictable_on.get_mut(device) {
                    *sum -= u128::from(part.share);
                }
            }
        }
    }

    pub(super) fn workers(&self) -> usize {
        self.workers
    }

    pub(super) fn taken(&self) -> u64 {
        whole(self.taken)
    }

    pub(super) fn evictable(&self) -> u64 {
        whole(self.evictable)
    }

    pub(super) fn evictable_on(&self, device: u32) -> u64 {
        self.evictable_on.get(&device).map_or(0, |sum| whole(*sum))
    }
}

fn whole(sum: u128) -> u64 {
    u64::try_from(sum).unwrap_or(u64::MAX)
}

/// Measured memory of workers, by model and kind of device: numbers are wider on a CPU than on a GPU.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured(Map<(ModelRef, DeviceKind), u64>);

impl Measured {
    pub(super) fn get(&self, model: &ModelRef, kind: DeviceKind) -> Option<u64> {
        // Most models have no entry, and the lookup would have to build a key.
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&(model.clone(), kind)).copied()
    }

    /// A larger value counts at once, a smaller one gradually: a worker that has just started takes less than it will.
    pub(super) fn note(&mut self, model: &ModelRef, kind: DeviceKind, bytes: u64) {
        let key = (model.clone(), kind);
        match self.0.get(&key).copied() {
            None if self.0.size() >= MEASURED => {}
            Some(known) if known == bytes => {}
            Some(known) if known > bytes => {
                self.0.insert_mut(key, known - (known - bytes).div_ceil(4));
            }
            _ => self.0.insert_mut(key, bytes),
        }
    }
}
