//! Whether a model fits, device by device, with all amounts.

use super::{
    Sizing, WorkerMemory,
    eviction::plan_eviction,
    shortfall::{evictable, shortfall},
};
use crate::{
    cluster::{ClusterView, HiveView},
    device::Device,
    id::{HiveId, WorkerId},
    model_on_disk::ModelOnDisk,
    model_ref::ModelRef,
};

/// The verdict whether a model fits on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It fits now.
    Fits,
    /// It fits when these idle workers are stopped.
    FitsAfter(Vec<WorkerId>),
    /// It does not fit now, but it would on the empty device.
    Later,
    /// The device is too small, or the memory budget of the hive is.
    TooSmall,
    /// The memory that the model takes is unknown: no hive has its files.
    /// [`Models::provision`](crate::queen::Models::provision) fetches them.
    Unknown,
    /// No engine of the hive can read the model; the reason lists what they read.
    Incompatible(String),
    /// No worker can be started there, whatever its memory; the reason as text.
    Unavailable(String),
}

/// Whether a model fits on a device.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceEstimate {
    /// The hive.
    pub hive: HiveId,
    /// The device.
    pub device: Device,
    /// Whether the model's files are on the hive's disk.
    pub on_disk: bool,
    /// Memory that a worker is expected to take, in bytes; 0 if nothing is known of the model.
    pub expected: u64,
    /// Memory that must be free for it, with head room, in bytes.
    pub required: u64,
    /// Memory that is free, not reserved, and within the memory budget of the hive, in bytes.
    pub free: u64,
    /// Memory that idle workers would free of the missing amount, in bytes.
    pub evictable: u64,
    /// Memory that is missing even after that, in bytes.
    pub shortfall: u64,
    /// The verdict.
    pub fit: Fit,
}

/// Estimates every device of every hive. `known` is used for the model on hives that do not have it.
pub(super) fn estimate(
    sizing: &Sizing,
    model: &ModelRef,
    known: Option<&ModelOnDisk>,
    cluster: &ClusterView,
) -> Vec<DeviceEstimate> {
    let devices =
        cluster.hives().flat_map(|hive| hive.devices.iter().map(move |device| (hive, device)));
    devices.map(|(hive, device)| on(sizing, model, known, cluster, hive, device)).collect()
}

fn on(
    sizing: &Sizing,
    model: &ModelRef,
    known: Option<&ModelOnDisk>,
    cluster: &ClusterView,
    hive: &HiveView,
    device: &Device,
) -> DeviceEstimate {
    let held = hive.models.get(model);
    let WorkerMemory { expected, required } =
        sizing.worker_memory(cluster, model, hive.model_here(model, known).as_deref(), device.kind);
    let shortfall = shortfall(cluster, hive, device, required);
    let evictable = evictable(cluster, hive, device);
    let is_over_budget = shortfall.budget > shortfall.device;
    let fit = if !hive.online {
        Fit::Unavailable("the hive is offline".into())
    } else if hive.draining {
        Fit::Unavailable("the hive is being drained".into())
    } else if let Some(why) = cluster.unreadable(hive, model) {
        Fit::Incompatible(why)
    } else if expected == 0 {
        Fit::Unknown
    } else if shortfall.is_zero() {
        Fit::Fits
    } else if required > hive.capacity_of(device) {
        Fit::TooSmall
    } else {
        match plan_eviction(cluster, hive, device, required) {
            Some(evict) => Fit::FitsAfter(evict),
            None => Fit::Later,
        }
    };
    DeviceEstimate {
        hive: hive.id.clone(),
        device: device.clone(),
        on_disk: held.is_some(),
        expected,
        required,
        free: hive.free_bytes(device).min(cluster.memory_left(hive).unwrap_or(u64::MAX)),
        evictable: if is_over_budget { evictable.budget } else { evictable.device },
        shortfall: shortfall.saturating_sub(evictable).largest(),
        fit,
    }
}
