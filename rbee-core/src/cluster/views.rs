//! The views of a scheduler on one worker, one hive and one queue.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    device::Device,
    engine_support::EngineSupport,
    id::{HiveId, TenantId, WorkerId},
    model_on_disk::ModelOnDisk,
    model_ref::ModelRef,
    time::Time,
    worker::WorkerInfo,
};

/// The devices that a worker is counted on: those that it names, or else the CPU.
pub(crate) fn counted_on(devices: &[u32]) -> &[u32] {
    if devices.is_empty() { &[0] } else { devices }
}

/// The state of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkerState {
    /// It is being started.
    Loading,
    /// It takes jobs; its leases show whether it is idle or busy.
    Ready,
    /// It is being stopped.
    Draining,
    /// It has failed too often, and gets no jobs until a probe succeeds.
    Failed,
}

/// A worker, in the queen's current view.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerView {
    /// Its description. While it is loading: as far as it is known.
    pub info: Arc<WorkerInfo>,
    /// Its state.
    pub state: WorkerState,
    /// Its hive answers. An unreachable worker gets no jobs; its running jobs go on.
    pub reachable: bool,
    /// It did not answer, or a stream of it is silent: it gets no jobs until it is known to be healthy. Its running
    /// jobs go on.
    pub suspected: bool,
    /// Slots in use.
    pub leased: u32,
    /// When it became ready.
    pub ready_since: Time,
    /// When one of its slots was last leased or returned.
    pub last_used: Time,
    /// Keys of the prompt prefixes in its cache.
    pub warm: Arc<[u64]>,
    /// Memory that it takes, in bytes: the expected amount, or the measured amount if that is more.
    pub memory_bytes: u64,
    /// Faults since it last completed a job.
    pub faults: u32,
    /// It is never evicted.
    pub pinned: bool,
    /// It has been loaded for at least [`Settings::min_loaded`](crate::Settings::min_loaded), so it may be evicted for
    /// another model.
    pub min_loaded_elapsed: bool,
}

impl WorkerView {
    /// A worker that is ready and idle.
    pub fn ready(info: Arc<WorkerInfo>, now: Time) -> Self {
        Self {
            info,
            state: WorkerState::Ready,
            reachable: true,
            suspected: false,
            leased: 0,
            ready_since: now,
            last_used: now,
            warm: Arc::default(),
            memory_bytes: 0,
            faults: 0,
            pinned: false,
            min_loaded_elapsed: true,
        }
    }

    /// Free slots that a job can get now.
    pub fn free_slots(&self) -> u32 {
        match self.state {
            WorkerState::Ready if self.reachable && !self.suspected => {
                self.info.slots.saturating_sub(self.leased)
            }
            _ => 0,
        }
    }

    /// True if it is idle and not pinned, so that an operator may have it stopped to make room.
    pub fn is_stoppable(&self) -> bool {
        self.leased == 0
            && !self.pinned
            && matches!(self.state, WorkerState::Ready | WorkerState::Failed)
    }

    /// Slots that it has, or will have when it is loaded.
    pub(super) fn usable_slots(&self) -> u64 {
        match self.state {
            WorkerState::Loading | WorkerState::Ready => self.info.slots.into(),
            WorkerState::Draining | WorkerState::Failed => 0,
        }
    }

    /// True if it may be evicted for a job. A failed one may be at once, others after the minimum time.
    pub fn is_evictable(&self) -> bool {
        self.is_stoppable() && (self.min_loaded_elapsed || self.state == WorkerState::Failed)
    }

    /// The devices that it is counted on.
    pub(crate) fn devices(&self) -> &[u32] {
        counted_on(&self.info.devices)
    }

    /// Returns true if it runs on this device, alone or among others.
    pub(crate) fn runs_on(&self, device: u32) -> bool {
        self.devices().contains(&device)
    }

    /// The memory that it takes on each of its devices, in bytes. A worker on several devices counts as spread evenly
    /// over them.
    pub(crate) fn share(&self) -> u64 {
        self.memory_bytes / self.devices().len() as u64
    }

    /// Its position in the index: the least loaded first, then the least recently used.
    pub(super) fn rank(&self) -> Rank {
        Rank {
            load: (u64::from(self.leased) << 16) / u64::from(self.info.slots.max(1)),
            last_used: self.last_used,
            id: self.info.id,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    load: u64,
    last_used: Time,
    pub(super) id: WorkerId,
}

/// A hive, in the queen's current view.
#[derive(Clone, Debug, PartialEq)]
pub struct HiveView {
    /// Its id.
    pub id: HiveId,
    /// It answers. A hive that does not answer gets no jobs and no workers.
    pub online: bool,
    /// It is being drained: it gets no new workers.
    pub draining: bool,
    /// The devices that models can be loaded on.
    pub devices: Arc<[Device]>,
    /// Its engines, and what they read; `None` if that is unknown.
    pub engines: Option<Arc<[EngineSupport]>>,
    /// Memory that its workers may take together, in bytes; `None` if they may fill its devices. See
    /// [`Settings::hive_memory`](crate::Settings::hive_memory).
    pub memory_budget: Option<u64>,
    /// The labels given by its owner: `region`, `cost`, `power` and whatever else a policy needs to know.
    pub labels: Arc<BTreeMap<String, String>>,
    /// The models on its disk.
    pub models: Arc<BTreeMap<ModelRef, ModelOnDisk>>,
    /// Memory reserved for workers that are being started, by device, in bytes. The devices' free memory does not show
    /// it yet.
    pub reserved: BTreeMap<u32, u64>,
}

impl HiveView {
    /// True if a worker may be started on it.
    pub fn takes_workers(&self) -> bool {
        self.online && !self.draining
    }

    /// Memory of the device that is free and not reserved, in bytes.
    pub fn free_bytes(&self, device: &Device) -> u64 {
        device.memory_free.saturating_sub(self.reserved.get(&device.index).copied().unwrap_or(0))
    }

    /// The model as it is on its disk; or else as `known` elsewhere, with the limits that a worker would have here.
    pub(crate) fn model_here<'a>(
        &'a self,
        model: &ModelRef,
        known: Option<&'a ModelOnDisk>,
    ) -> Option<Cow<'a, ModelOnDisk>> {
        if let Some(held) = self.models.get(model) {
            return Some(Cow::Borrowed(held));
        }
        let known = known?;
        let mut engines = self.engines.iter().flat_map(|engines| engines.iter());
        Some(match engines.find(|engine| engine.is_for(model)) {
            Some(engine) => Cow::Owned(known.clone().with_limits(engine.limits)),
            None => Cow::Borrowed(known),
        })
    }

    /// The most that one worker may ever take on this device, in bytes.
    pub(crate) fn capacity_of(&self, device: &Device) -> u64 {
        self.memory_budget.map_or(device.memory_total, |budget| budget.min(device.memory_total))
    }

    /// Its GPUs.
    #[cfg(feature = "rhai")]
    pub(crate) fn gpus(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter().filter(|device| device.kind != crate::device::DeviceKind::Cpu)
    }

    /// Total memory of its GPUs that is free and not reserved, in bytes.
    #[cfg(feature = "rhai")]
    pub(crate) fn gpu_memory_free(&self) -> u64 {
        self.gpus().map(|gpu| self.free_bytes(gpu)).fold(0, u64::saturating_add)
    }

    /// Total memory of its GPUs, in bytes.
    #[cfg(feature = "rhai")]
    pub(crate) fn gpu_memory_total(&self) -> u64 {
        self.gpus().map(|gpu| gpu.memory_total).fold(0, u64::saturating_add)
    }
}

/// The jobs that wait for one model and tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneView {
    /// The number of jobs.
    pub depth: usize,
    /// Since when the first of them has been waiting.
    pub oldest: Time,
}

impl LaneView {
    /// How long the first of them has been waiting.
    pub fn oldest_wait(&self, now: Time) -> Duration {
        now - self.oldest
    }
}

/// The key of a job's queue: one model's backlog never blocks another's, nor one tenant's another's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneKey {
    /// The model.
    pub model: ModelRef,
    /// The tenant.
    pub tenant: Option<TenantId>,
}
