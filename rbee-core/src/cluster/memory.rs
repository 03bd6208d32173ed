//! What workers take of their hives' memory, kept so that looking does not cost a walk over the workers.

use std::collections::BTreeMap;

use rpds::RedBlackTreeMapSync as Map;

use super::WorkerView;
use crate::{device::DeviceKind, model_ref::ModelRef};

/// Models and kinds of device whose measured memory is remembered.
const MEASURED: usize = 1_024;

/// What the workers of one hive take, and what stopping those that may be stopped would give back. The sums are wider
/// than what they are of, so that taking out is the reverse of adding, whatever a hive reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    workers: usize,
    taken: u128,
    evictable: u128,
    evictable_on: BTreeMap<u32, u128>,
}

/// What a worker adds to its hive's sums.
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

    /// What was added before goes.
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

/// What workers were seen to take, by model and kind of device: numbers are wider on a processor than on a GPU.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured(Map<(ModelRef, DeviceKind), u64>);

impl Measured {
    pub(super) fn get(&self, model: &ModelRef, kind: DeviceKind) -> Option<u64> {
        // Most models have none, and the key would have to be made.
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&(model.clone(), kind)).copied()
    }

    /// More counts at once, less bit by bit: a worker that has just begun takes less than it will.
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
