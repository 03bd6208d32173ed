//! Where a model would fit, device by device, with every figure.

use super::{
    LeastLoaded,
    eviction::{evictable, plan_eviction, shortfall},
    least_loaded::Need,
    spawn::{known, most_on},
};
use crate::{ClusterView, Device, HiveId, HiveView, ModelOnDisk, ModelRef, WorkerId};

/// What speaks for or against a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It fits now.
    Fits,
    /// It fits when these idle workers are stopped.
    FitsAfter(Vec<WorkerId>),
    /// It does not fit now, but on the empty device it would.
    Later,
    /// The device is too small, or the workers of the hive may not take so much.
    TooSmall,
    /// Nothing is known of what the model takes: no hive has its files. [`Queen::provision`](crate::Queen::provision)
    /// fetches them.
    Unknown,
    /// No worker is started there whatever its memory; the reason in words.
    Unavailable(String),
}

/// Whether a model fits on a device.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceEstimate {
    /// The hive.
    pub hive: HiveId,
    /// The device.
    pub device: Device,
    /// The model's files are on the hive's disk.
    pub on_disk: bool,
    /// Memory that a worker is expected to take, in bytes; 0 where nothing is known of the model.
    pub expected: u64,
    /// What must be free for it, with head room, in bytes.
    pub required: u64,
    /// What is free and not promised, and within what the workers of the hive may take together, in bytes.
    pub free: u64,
    /// What idle workers would give back of what is missing, in bytes.
    pub evictable: u64,
    /// What is missing, even where they do, in bytes.
    pub shortfall: u64,
    /// The verdict.
    pub fit: Fit,
}

impl LeastLoaded {
    /// Whether a worker of this model fits, on every device of every hive, the hives by name.
    pub fn estimate(&self, model: &ModelRef, cluster: &ClusterView) -> Vec<DeviceEstimate> {
        self.estimate_of(model, known(cluster, model), cluster)
    }

    /// The same, where this is known of the model.
    pub(crate) fn estimate_of(
        &self,
        model: &ModelRef,
        known: Option<&ModelOnDisk>,
        cluster: &ClusterView,
    ) -> Vec<DeviceEstimate> {
        let devices =
            cluster.hives().flat_map(|hive| hive.devices.iter().map(move |device| (hive, device)));
        devices
            .map(|(hive, device)| self.estimate_on(model, known, cluster, hive, device))
            .collect()
    }

    fn estimate_on(
        &self,
        model: &ModelRef,
        known: Option<&ModelOnDisk>,
        cluster: &ClusterView,
        hive: &HiveView,
        device: &Device,
    ) -> DeviceEstimate {
        let held = hive.models.get(model);
        let Need { expected, required } = self.need(cluster, model, held.or(known), device.kind);
        let short = shortfall(cluster, hive, device, required);
        let evictable = evictable(cluster, hive, device);
        let is_over_budget = short.budget > short.device;
        let fit = if !hive.online {
            Fit::Unavailable("the hive is offline".into())
        } else if hive.draining {
            Fit::Unavailable("the hive is being drained".into())
        } else if expected == 0 {
            Fit::Unknown
        } else if short.is_none() {
            Fit::Fits
        } else if required > most_on(hive, device) {
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
            shortfall: short.saturating_sub(evictable).largest(),
            fit,
        }
    }
}
