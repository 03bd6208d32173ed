//! The memory that a worker of a model takes, and whether a device of a hive has that much.
//!
//! Pure: the result depends only on the arguments. The policies, the autoscaler, the estimates and the simulator all
//! use the same numbers.

use serde::{Deserialize, Serialize};

use crate::{
    cluster::ClusterView,
    device::DeviceKind,
    model_info::{MemoryEstimate, MemoryNeed, ModelFormat, ModelInfo},
    model_on_disk::ModelOnDisk,
    model_ref::ModelRef,
};

mod estimate;
mod eviction;
mod shortfall;

pub use estimate::{DeviceEstimate, Fit};
#[cfg(feature = "rhai")]
pub(crate) use eviction::evictable_on;
pub(crate) use eviction::plan;
pub use eviction::plan_eviction;
pub(crate) use shortfall::{Memory, evictable, shortfall};

/// How the memory and the slots of a new worker are estimated.
///
/// The weights and the KV cache of every slot follow from the heads of the model's files. If those do not say enough,
/// the estimate is a percentage of the size of the files. Head room is added before a worker is started.
///
/// ```
/// use rbee_core::scheduler::Sizing;
///
/// let sizing = Sizing::default().with_slots(8).with_head_room_percent(20);
/// assert_eq!(sizing.expected_bytes(1_000_000), 1_200_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizing {
    slots: u32,
    memory_percent: u32,
    head_room_percent: u32,
    gpu_head_room: u64,
    context: Option<u32>,
}

/// The memory of one worker, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WorkerMemory {
    /// What it is expected to take, over all its devices; 0 if nothing is known of the model.
    pub(crate) expected: u64,
    /// What must be free on each of its devices before it is started.
    pub(crate) required: u64,
}

/// Tokens of a sequence, if nothing says how long they are.
const CONTEXT: u32 = 4_096;

impl Default for Sizing {
    fn default() -> Self {
        Self {
            slots: 4,
            memory_percent: 120,
            head_room_percent: 10,
            gpu_head_room: 256 << 20,
            context: None,
        }
    }
}

impl Sizing {
    /// Runs that a new worker can do at once, if its engine allows it; at least 1. 4 by default.
    pub fn with_slots(mut self, slots: u32) -> Self {
        self.slots = slots.max(1);
        self
    }

    /// The length of the sequences that memory is estimated for, in tokens; there is one for every slot. By default
    /// the limit that the machine sets, or 4,096 if it sets none. It is cut to the model's own context. For rbee's own
    /// engine it is the context of a worker, by default at most 32,768, and [`CachePool`](crate::models::CachePool) says
    /// how much memory that takes.
    pub fn with_context(mut self, tokens: u32) -> Self {
        self.context = Some(tokens);
        self
    }

    /// Memory that a worker is expected to take if its model's files do not say it, in percent of their size: the
    /// weights, and the KV cache of the running sequences. 120 by default.
    pub fn with_memory_percent(mut self, percent: u32) -> Self {
        self.memory_percent = percent;
        self
    }

    /// Memory that must be free beyond what is expected, in percent of it. 10 by default.
    pub fn with_head_room_percent(mut self, percent: u32) -> Self {
        self.head_room_percent = percent;
        self
    }

    /// The least head room on an NVIDIA GPU, in bytes: a process takes some there whatever it loads. 256 MiB by
    /// default.
    pub fn with_gpu_head_room(mut self, bytes: u64) -> Self {
        self.gpu_head_room = bytes;
        self
    }

    /// Memory that a worker is expected to take if only the size of its model's files is known; both in bytes.
    pub fn expected_bytes(&self, file_bytes: u64) -> u64 {
        percent(file_bytes, self.memory_percent)
    }

    /// Whether a worker of this model fits on each device of each hive, ordered by hive id.
    pub fn estimate(&self, model: &ModelRef, cluster: &ClusterView) -> Vec<DeviceEstimate> {
        self.estimate_with(model, cluster.largest_on_disk(model), cluster)
    }

    /// The same, with `known` for the model on hives that do not have it.
    pub(crate) fn estimate_with(
        &self,
        model: &ModelRef,
        known: Option<&ModelOnDisk>,
        cluster: &ClusterView,
    ) -> Vec<DeviceEstimate> {
        estimate::estimate(self, model, known, cluster)
    }

    /// Slots of a new worker of this model.
    pub(crate) fn slots_for(&self, model: Option<&ModelOnDisk>) -> u32 {
        let most = model.and_then(|model| model.limits.slots);
        most.map_or(self.slots, |most| self.slots.min(most).max(1))
    }

    /// Memory of a worker of this model that runs on one device of this kind.
    pub(crate) fn worker_memory(
        &self,
        cluster: &ClusterView,
        model: &ModelRef,
        known: Option<&ModelOnDisk>,
        kind: DeviceKind,
    ) -> WorkerMemory {
        self.spread_worker_memory(cluster, model, known, kind, 1)
    }

    /// Memory of a worker of this model that is spread evenly over this many devices of this kind.
    pub(crate) fn spread_worker_memory(
        &self,
        cluster: &ClusterView,
        model: &ModelRef,
        known: Option<&ModelOnDisk>,
        kind: DeviceKind,
        devices: u64,
    ) -> WorkerMemory {
        let estimated = known.map_or(0, |model| self.expected_for(model, kind));
        // The measured memory of a worker counts if it is more. If it is less, its sequences may still grow.
        let measured = cluster.measured(model, kind).filter(|_| estimated > 0).unwrap_or(0);
        let required = self.with_head_room(estimated.div_ceil(devices), kind);
        WorkerMemory {
            expected: estimated.max(measured),
            // No head room on a measured amount: a model that fills a GPU would not fit where it has just run.
            required: required.max(measured.div_ceil(devices)),
        }
    }

    /// Memory that a worker of this model is expected to take on a device of this kind, in bytes: from the headers of
    /// its files, or else from their size.
    fn expected_for(&self, model: &ModelOnDisk, kind: DeviceKind) -> u64 {
        let Some(estimate) = self.memory(model, kind) else {
            return self.expected_bytes(model.bytes);
        };
        match estimate.kv_cache {
            Some(cache) => estimate.weights.saturating_add(cache),
            None => percent(estimate.weights, self.memory_percent),
        }
    }

    /// The memory of a worker of this model on a device of this kind; `None` if the headers of its files are unknown.
    pub(crate) fn memory(&self, model: &ModelOnDisk, kind: DeviceKind) -> Option<MemoryEstimate> {
        let info = model.info.as_deref()?;
        Some(info.memory(&self.need(model, info, kind)))
    }

    /// The capacity of a worker of this model.
    fn need(&self, model: &ModelOnDisk, info: &ModelInfo, kind: DeviceKind) -> MemoryNeed {
        let slots = self.slots_for(Some(model));
        let allowed = model.limits.context.unwrap_or(u32::MAX);
        let context = self.context.or(model.limits.context).map(|tokens| tokens.min(allowed));
        if let Some(pool) = model.limits.cache {
            // Only weights of models for vectors and scores are converted when they are loaded.
            let weight_bytes = info.task.is_of_encoders().then_some(4);
            let pool = Some(pool);
            return MemoryNeed { context, slots, weight_bytes, pool, ..MemoryNeed::default() };
        }
        let is_widened = kind == DeviceKind::Cpu && info.format == ModelFormat::Safetensors;
        let numbers = if is_widened { MemoryNeed::in_f32() } else { MemoryNeed::default() };
        MemoryNeed { context: Some(context.unwrap_or(CONTEXT)), slots, ..numbers }
    }

    /// Memory that must be free before a worker is started, in bytes; 0 if nothing is known of the model.
    fn with_head_room(&self, expected: u64, kind: DeviceKind) -> u64 {
        if expected == 0 {
            return 0;
        }
        let least = match kind {
            DeviceKind::Cuda => self.gpu_head_room,
            DeviceKind::Cpu | DeviceKind::Metal => 0,
        };
        expected.saturating_add(percent(expected, self.head_room_percent).max(least))
    }
}

fn percent(bytes: u64, percent: u32) -> u64 {
    let exact = u128::from(bytes) * u128::from(percent) / 100;
    u64::try_from(exact).unwrap_or(u64::MAX)
}
