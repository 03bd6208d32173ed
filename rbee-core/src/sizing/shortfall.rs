//! Memory of a device and of a hive's budget: what is missing, and what idle workers hold.

use crate::{
    cluster::{ClusterView, HiveView},
    device::Device,
};

/// An amount of memory in both respects in which it may be short, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// On one device.
    pub(crate) device: u64,
    /// Of the memory budget that the workers of the hive share.
    pub(crate) budget: u64,
}

impl Memory {
    pub(crate) fn is_zero(self) -> bool {
        self.largest() == 0
    }

    pub(crate) fn largest(self) -> u64 {
        self.device.max(self.budget)
    }

    pub(crate) fn covers(self, shortfall: Self) -> bool {
        self.device >= shortfall.device && self.budget >= shortfall.budget
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

/// The memory that all evictable workers of the hive would free.
pub(crate) fn evictable(cluster: &ClusterView, hive: &HiveView, device: &Device) -> Memory {
    let (device, budget) = cluster.evictable(&hive.id, device.index);
    Memory { device, budget }
}

/// The memory that is missing for a worker that needs `need` bytes. Reserved memory counts in full, even if more is
/// reserved than free.
pub(crate) fn shortfall(
    cluster: &ClusterView,
    hive: &HiveView,
    device: &Device,
    need: u64,
) -> Memory {
    Memory {
        device: missing_on(hive, device, need),
        budget: missing_of_budget(cluster, hive, need),
    }
}

fn missing_on(hive: &HiveView, device: &Device, need: u64) -> u64 {
    if need <= hive.free_bytes(device) {
        return 0;
    }
    let reserved = hive.reserved.get(&device.index).copied().unwrap_or(0);
    need.saturating_add(reserved).saturating_sub(device.memory_free)
}

fn missing_of_budget(cluster: &ClusterView, hive: &HiveView, need: u64) -> u64 {
    let Some(budget) = hive.memory_budget else { return 0 };
    cluster.memory_taken(&hive.id).saturating_add(need).saturating_sub(budget)
}
