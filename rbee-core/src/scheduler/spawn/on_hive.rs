//! Where on one hive a worker is started, for a policy that chooses the hive itself.

use super::{
    candidates::DeviceCandidates,
    search::{DeviceFit, Search, over_budget},
};
use crate::{
    cluster::{ClusterView, HiveView},
    device::Device,
    model_on_disk::ModelOnDisk,
    scheduler::{decision::Ask, trace::Bytes},
    sizing::{Memory, Sizing, WorkerMemory, evictable, shortfall},
    worker_spec::WorkerSpec,
};

/// A question about one hive.
#[derive(Clone, Copy)]
pub(in crate::scheduler) struct OnHive<'a> {
    pub(in crate::scheduler) sizing: &'a Sizing,
    pub(in crate::scheduler) ask: &'a Ask,
    pub(in crate::scheduler) cluster: &'a ClusterView,
    /// See [`ClusterView::largest_on_disk`].
    pub(in crate::scheduler) known: Option<&'a ModelOnDisk>,
    pub(in crate::scheduler) hive: &'a HiveView,
}

/// A worker that can be started on a hive.
#[derive(Clone, Debug)]
pub(in crate::scheduler) struct Start {
    pub(in crate::scheduler) spec: WorkerSpec,
    /// The memory that is missing on each of its devices until idle workers are stopped. What is missing of the hive's
    /// budget is listed with the first device.
    pub(in crate::scheduler) shortfalls: Vec<(Device, Memory)>,
}

impl<'a> OnHive<'a> {
    fn search(&self) -> Search<'a> {
        Search { sizing: self.sizing, ask: self.ask, cluster: self.cluster, known: self.known }
    }

    /// Returns true if a worker can be started on one of its devices.
    pub(in crate::scheduler) fn has_place(&self) -> bool {
        let search = self.search();
        let fits = |device| matches!(search.fit(self.hive, device), DeviceFit::Fits { .. });
        self.open(&search).is_ok() && self.hive.devices.iter().any(fits)
    }

    /// The worker on the best device of the hive; the error says why there is none.
    pub(in crate::scheduler) fn anywhere(&self) -> Result<Start, String> {
        let search = self.search();
        self.open(&search)?;
        let mut candidates = DeviceCandidates::default();
        search.offer_devices(self.hive, &mut candidates);
        let best = candidates.choose(self.cluster);
        let (best, _) = best.ok_or_else(|| search.why_not(self.hive))?;
        self.on(&[best.device.index])
    }

    /// The worker on these devices, spread evenly over them; the error says why it does not fit.
    pub(in crate::scheduler) fn on(&self, devices: &[u32]) -> Result<Start, String> {
        let search = self.search();
        self.open(&search)?;
        let mut shortfalls = Vec::new();
        let mut need_bytes = 0;
        let mut all = 0_u64;
        for index in devices {
            let device = self.hive.devices.iter().find(|device| device.index == *index);
            let device = device.ok_or_else(|| format!("it has no device {index}"))?;
            let parts = devices.len().max(1) as u64;
            let WorkerMemory { expected, required } =
                search.spread_worker_memory(self.hive, device, parts);
            need_bytes = need_bytes.max(expected);
            if search.clashes(self.hive, device) {
                return Err(format!("a worker with other numerics runs on device {index} already"));
            }
            all = all.saturating_add(required);
            let missing = shortfall(self.cluster, self.hive, device, required).device;
            if missing > evictable(self.cluster, self.hive, device).device {
                let free = Bytes(self.hive.free_bytes(device));
                return Err(format!("needs {} on device {index}, {free} free", Bytes(required)));
            }
            shortfalls.push((device.clone(), Memory { device: missing, budget: 0 }));
        }
        if let Some((device, first)) = shortfalls.first_mut() {
            first.budget = shortfall(self.cluster, self.hive, device, all).budget;
            if first.budget > evictable(self.cluster, self.hive, device).budget {
                return Err(over_budget(self.cluster, self.hive, all));
            }
        }
        shortfalls.retain(|(_, missing)| !missing.is_zero());
        let spec = WorkerSpec {
            model: search.model().clone(),
            slots: self.sizing.slots_for(search.known_on(self.hive).as_deref()),
            devices: devices.to_vec(),
            need_bytes,
            path: None,
        };
        Ok(Start { spec, shortfalls })
    }

    /// The error says why no worker of the model is started on this hive, whatever its memory.
    fn open(&self, search: &Search<'_>) -> Result<(), String> {
        if let Some(error) = search.wrong_task() {
            return Err(error.message().to_owned());
        }
        let is_refused = self.ask.refused.contains_key(&self.hive.id);
        let is_unreadable = search.unreadable(self.hive).is_some();
        if is_refused || is_unreadable || !self.hive.takes_workers() || self.hive.devices.is_empty()
        {
            return Err(search.why_not(self.hive));
        }
        Ok(())
    }
}
