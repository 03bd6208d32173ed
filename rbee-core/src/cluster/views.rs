//! One worker, one hive and one queue, as a scheduler sees them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    device::Device,
    id::{HiveId, TenantId, WorkerId},
    model_on_disk::ModelOnDisk,
    model_ref::ModelRef,
    time::Time,
    worker::WorkerInfo,
};

/// The devices that a worker is counted on: those that it names, or else the processor.
pub(crate) fn counted_on(devices: &[u32]) -> &[u32] {
    if devices.is_empty() { &[0] } else { devices }
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkerState {
    /// It is being started.
    Loading,
    /// It takes jobs: idle or busy, as its leases say.
    Ready,
    /// It is being stopped.
    Draining,
    /// It has failed too often, and gets no jobs until a probe succeeds.
    Failed,
}

/// A worker, as the queen sees it now.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerView {
    /// Who it is. While it is loading: who it will be, as far as that is known.
    pub info: Arc<WorkerInfo>,
    /// What it is doing.
    pub state: WorkerState,
    /// Its hive answers. A worker out of reach gets no jobs; those it has go on.
    pub reachable: bool,
    /// It did not answer, or a stream of it is silent: it gets no jobs until it is known to be well. Those it has go on.
    pub suspected: bool,
    /// Slots given out.
    pub leased: u32,
    /// When it became ready.
    pub ready_since: Time,
    /// When a slot of it was last given out or back.
    pub last_used: Time,
    /// Keys of the prompt prefixes that it keeps computed.
    pub warm: Arc<[u64]>,
    /// Memory it takes, in bytes: as expected, or what it is seen to take where that is more.
    pub memory_bytes: u64,
    /// Faults since it last did a job properly.
    pub faults: u32,
    /// It is never evicted.
    pub pinned: bool,
    /// It has been loaded for as long as [`Settings::min_loaded`](crate::Settings::min_loaded) wants, so it may make room
    /// for another model.
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

    /// Slots that can be given out now.
    pub fn free_slots(&self) -> u32 {
        match self.state {
            WorkerState::Ready if self.reachable && !self.suspected => {
                self.info.slots.saturating_sub(self.leased)
            }
            _ => 0,
        }
    }

    /// Is it idle and not pinned, so that somebody who asks for it may have it stopped to make room?
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

    /// May it be stopped to make room for a job? One that failed may be at once, another when it has min_loaded_elapsed.
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

    /// What it takes of each of its devices, in bytes. What takes several is taken to be spread evenly over them.
    pub(crate) fn share(&self) -> u64 {
        self.memory_bytes / self.devices().len() as u64
    }

    /// The place in the index: the least loaded first, among equals the one that was used longest ago.
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

/// A hive, as the queen sees it now.
#[derive(Clone, Debug, PartialEq)]
pub struct HiveView {
    /// Its name.
    pub id: HiveId,
    /// It answers. One that does not gets no jobs and no workers.
    pub online: bool,
    /// It is being emptied: it gets no new workers.
    pub draining: bool,
    /// What models can be loaded on.
    pub devices: Arc<[Device]>,
    /// Memory that its workers may take together, in bytes; none where they may fill its devices. See
    /// [`Settings::hive_memory`](crate::Settings::hive_memory).
    pub memory_budget: Option<u64>,
    /// What its owner says of it: `region`, `cost`, `power` and whatever a policy is to know.
    pub labels: Arc<BTreeMap<String, String>>,
    /// The models on its disk.
    pub models: Arc<BTreeMap<ModelRef, ModelOnDisk>>,
    /// Memory that is promised to workers being started, by device, in bytes. The devices' free memory does not
    /// show it yet.
    pub reserved: BTreeMap<u32, u64>,
}

impl HiveView {
    /// May a worker be started on it?
    pub fn takes_workers(&self) -> bool {
        self.online && !self.draining
    }

    /// Memory of the device that is free and not promised, in bytes.
    pub fn free_bytes(&self, device: &Device) -> u64 {
        device.memory_free.saturating_sub(self.reserved.get(&device.index).copied().unwrap_or(0))
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

    /// Memory of its GPUs together that is free and not promised, in bytes.
    #[cfg(feature = "rhai")]
    pub(crate) fn gpu_memory_free(&self) -> u64 {
        self.gpus().map(|gpu| self.free_bytes(gpu)).fold(0, u64::saturating_add)
    }

    /// Memory of its GPUs together, in bytes.
    #[cfg(feature = "rhai")]
    pub(crate) fn gpu_memory_total(&self) -> u64 {
        self.gpus().map(|gpu| gpu.memory_total).fold(0, u64::saturating_add)
    }
}

/// The jobs that wait for one model and tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneView {
    /// How many.
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

/// Which queue a job waits in: one model's backlog never blocks another's, nor one tenant's another's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneKey {
    /// The model.
    pub model: ModelRef,
    /// The tenant.
    pub tenant: Option<TenantId>,
}
