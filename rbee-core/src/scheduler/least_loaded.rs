//! The built-in policy: the least loaded worker that will do; else a new worker where it fits best.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    Ask, Candidate, Explanation, Placement, Scheduler, spawn,
    trace::{Reasons, Silent, Trace},
};
use crate::{
    ClusterView, DeviceKind, Error, ErrorKind, HiveView, MemoryNeed, ModelFormat, ModelOnDisk,
    ModelRef, Result, Task, WorkerId, WorkerState, WorkerView,
};

/// The built-in policy.
///
/// 1. A free worker of the model that can do the task and has the numerics asked for: the least loaded, of equals the
///    one used longest ago. One on which the job has failed is taken only where no other is free.
/// 2. Where such a worker exists but is busy, or one is being loaded, the job waits. More workers for one model are
///    not this policy's business, so that a moment's load does not drive other models out of memory.
/// 3. Else a worker is started: where the model is on the disk already; where nothing has to be stopped for it; on a
///    GPU; on the device with the most free memory; on the hive with the fewest workers. Where idle workers must be
///    stopped to make room, [`plan_eviction`](crate::plan_eviction) says which.
/// 4. Where the model does not fit now but may later, the job waits. It is rejected where every hive has refused the
///    model, or no device is large enough for it.
///
/// ```
/// use rbee_core::LeastLoaded;
///
/// let policy = LeastLoaded::default().with_slots(8).with_head_room_percent(20);
/// assert_eq!(policy.expected_bytes(1_000_000), 1_200_000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeastLoaded {
    slots: u32,
    memory_percent: u32,
    head_room_percent: u32,
    gpu_head_room: u64,
    context: Option<u32>,
}

/// What a worker of a model needs, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Need {
    /// What it is expected to take, over all its devices; 0 where nothing is known of the model.
    pub(crate) expected: u64,
    /// What must be free for it.
    pub(crate) required: u64,
}

/// Tokens of a sequence where nobody says how long they are.
const CONTEXT: u32 = 4_096;

impl Default for LeastLoaded {
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

impl LeastLoaded {
    /// Runs that a new worker shall do at once, where its engine can; at least 1. 4 by default.
    pub fn with_slots(mut self, slots: u32) -> Self {
        self.slots = slots.max(1);
        self
    }

    /// How long the sequences are, in tokens, that memory is reckoned with: one for every slot. By default as long as
    /// the machine allows, where that was set there, and 4,096 elsewhere; shorter where the model's own context is.
    pub fn with_context(mut self, tokens: u32) -> Self {
        self.context = Some(tokens);
        self
    }

    /// Memory a worker is expected to take whose model's files do not say what it takes, in percent of their size: the
    /// weights, and what it keeps of the running sequences. 120 by default.
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

    /// Memory that a worker is expected to take whose model has files of this size; both in bytes.
    pub fn expected_bytes(&self, file_bytes: u64) -> u64 {
        percent(file_bytes, self.memory_percent)
    }

    /// Memory that a worker of this model is expected to take on a device of this kind, in bytes: by what its files say,
    /// or else by their size.
    pub(crate) fn expected_of(&self, model: &ModelOnDisk, kind: DeviceKind) -> u64 {
        let Some(info) = model.info.as_deref() else { return self.expected_bytes(model.bytes) };
        let is_widened = kind == DeviceKind::Cpu && info.format == ModelFormat::Safetensors;
        let numbers = if is_widened { MemoryNeed::in_f32() } else { MemoryNeed::default() };
        let allowed = model.limits.context.unwrap_or(u32::MAX);
        let context = self.context.or(model.limits.context).unwrap_or(CONTEXT).min(allowed);
        let slots = self.slots_of(Some(model));
        let need = MemoryNeed { context: Some(context), slots, ..numbers };
        let estimate = info.memory(&need);
        match estimate.kv_cache {
            Some(cache) => estimate.weights.saturating_add(cache),
            None => percent(estimate.weights, self.memory_percent),
        }
    }

    /// What a worker of this model needs on a device of this kind.
    pub(crate) fn need(
        &self,
        cluster: &ClusterView,
        model: &ModelRef,
        known: Option<&ModelOnDisk>,
        kind: DeviceKind,
    ) -> Need {
        self.need_spread(cluster, model, known, kind, 1)
    }

    /// The same, where it is `required` on each of so many devices.
    pub(crate) fn need_spread(
        &self,
        cluster: &ClusterView,
        model: &ModelRef,
        known: Option<&ModelOnDisk>,
        kind: DeviceKind,
        devices: u64,
    ) -> Need {
        let estimated = known.map_or(0, |model| self.expected_of(model, kind));
        // What a worker was seen to take counts where it is more. Where it is less, its sequences may yet grow.
        let measured = cluster.measured(model, kind).filter(|_| estimated > 0).unwrap_or(0);
        let required = self.required_bytes(estimated.div_ceil(devices), kind);
        Need {
            expected: estimated.max(measured),
            // No head room on what is certain: a model that fills a GPU would not fit where it has just run.
            required: required.max(measured.div_ceil(devices)),
        }
    }

    /// Memory that must be free before a worker is started, in bytes. Nothing is known of a model whose size is not,
    /// so nothing is asked for it.
    fn required_bytes(&self, expected: u64, kind: DeviceKind) -> u64 {
        if expected == 0 {
            return 0;
        }
        let least = match kind {
            DeviceKind::Cuda => self.gpu_head_room,
            DeviceKind::Cpu | DeviceKind::Metal => 0,
        };
        expected.saturating_add(percent(expected, self.head_room_percent).max(least))
    }

    /// Runs that a new worker of this model shall do at once.
    pub(super) fn slots_of(&self, model: Option<&ModelOnDisk>) -> u32 {
        let most = model.and_then(|model| model.limits.slots);
        most.map_or(self.slots, |most| self.slots.min(most).max(1))
    }

    fn decide(&self, ask: &Ask, cluster: &ClusterView, trace: &mut impl Trace) -> Placement {
        let present = || cluster.with_model(&ask.job.model);
        if let Some(worker) = free_worker(ask, cluster, trace) {
            if trace.wants_more() {
                presence(ask, cluster, present(), trace);
            }
            trace.chosen(|| Candidate::Worker(worker));
            return Placement::Assign(worker);
        }
        match presence(ask, cluster, present(), trace) {
            Presence::Usable => Placement::Wait,
            Presence::Incapable(worker) => Placement::Reject(incapable(ask, worker)),
            Presence::Absent => spawn::place(self, ask, cluster, trace),
        }
    }
}

impl Scheduler for LeastLoaded {
    fn place(&self, ask: &Ask, cluster: &ClusterView) -> Result<Placement> {
        Ok(self.decide(ask, cluster, &mut Silent))
    }

    fn explain(&self, ask: &Ask, cluster: &ClusterView) -> Explanation {
        let mut reasons = Reasons::default();
        Explanation {
            placement: Ok(self.decide(ask, cluster, &mut reasons)),
            steps: Vec::new(),
            candidates: reasons.0,
        }
    }

    fn name(&self) -> String {
        "least-loaded".into()
    }

    fn description(&self) -> String {
        "the least loaded free worker that has the model; where none has it, one is started where it fits best"
            .into()
    }
}

fn percent(bytes: u64, percent: u32) -> u64 {
    let exact = u128::from(bytes) * u128::from(percent) / 100;
    u64::try_from(exact).unwrap_or(u64::MAX)
}

/// Why a worker cannot take the job now.
pub(super) enum Obstacle<'a> {
    Offline,
    Loading,
    Draining,
    Failed { faults: u32 },
    Suspected,
    Incapable,
    Numerics { has: &'a str, wants: &'a str },
    Taken { slots: u32 },
}

impl Obstacle<'_> {
    /// Will it be gone in a while by itself?
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Loading | Self::Suspected | Self::Taken { .. })
    }
}

impl fmt::Display for Obstacle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline => f.write_str("its hive is offline"),
            Self::Loading => f.write_str("it is still loading"),
            Self::Draining => f.write_str("it is being stopped"),
            Self::Failed { faults } => {
                write!(f, "it has failed {faults} times and waits for a probe")
            }
            Self::Suspected => {
                f.write_str("it does not answer or is silent, and is being asked how it is")
            }
            Self::Incapable => f.write_str("it cannot do this kind of task"),
            Self::Numerics { has, wants } => {
                write!(f, "other numerics: it has {has:?}, the stream was begun with {wants:?}")
            }
            Self::Taken { slots: 1 } => f.write_str("its only slot is taken"),
            Self::Taken { slots } => write!(f, "all {slots} slots taken"),
        }
    }
}

/// What keeps the worker from taking the job now; none where it could.
pub(super) fn obstacle<'a>(
    ask: &'a Ask,
    cluster: &ClusterView,
    worker: &'a WorkerView,
) -> Option<Obstacle<'a>> {
    let info = &*worker.info;
    // One that is not in the list of hives was put into the cluster without one, and is reached some other way.
    let offline = |hive: &HiveView| !hive.online;
    if cluster.hive(&info.hive).is_some_and(|hive| offline(hive)) {
        return Some(Obstacle::Offline);
    }
    // What a worker can do is known for certain only when it is loaded.
    if worker.state == WorkerState::Loading {
        return Some(Obstacle::Loading);
    }
    if !can(ask, worker) {
        return Some(Obstacle::Incapable);
    }
    match worker.state {
        WorkerState::Draining => return Some(Obstacle::Draining),
        WorkerState::Failed => {
            return Some(Obstacle::Failed { faults: worker.faults });
        }
        WorkerState::Loading | WorkerState::Ready => {}
    }
    if let Some(wants) = ask.must_match.as_deref()
        && *info.numerics != *wants
    {
        return Some(Obstacle::Numerics { has: &info.numerics, wants });
    }
    if worker.suspected {
        return Some(Obstacle::Suspected);
    }
    (worker.free_slots() == 0).then_some(Obstacle::Taken { slots: info.slots })
}

fn can(ask: &Ask, worker: &WorkerView) -> bool {
    match ask.job.task {
        Task::Generate { .. } => worker.info.capabilities.generate,
        Task::Embed { .. } => worker.info.capabilities.embed,
    }
}

/// The best worker that can take the job now.
fn free_worker(ask: &Ask, cluster: &ClusterView, trace: &mut impl Trace) -> Option<WorkerId> {
    let mut best = None;
    let mut avoided = None;
    for worker in cluster.available(&ask.job.model) {
        let id = worker.info.id;
        if let Some(obstacle) = obstacle(ask, cluster, worker) {
            trace.refused(|| Candidate::Worker(id), || obstacle.to_string());
        } else if ask.avoid.contains(&id) {
            avoided.get_or_insert(id);
            trace.refused(|| Candidate::Worker(id), || "the job has failed on it before".into());
        } else {
            best.get_or_insert(id);
            trace.eligible(|| Candidate::Worker(id));
        }
        if best.is_some() && !trace.wants_more() {
            break;
        }
    }
    // Between two tries the engine has let time pass already, so the same worker may do better now.
    best.or(avoided.filter(|_| ask.attempts > 0))
}

/// Is there a worker that helps, although none can take the job now?
pub(super) enum Presence<'a> {
    /// One will be usable by itself: it is busy or loading.
    Usable,
    /// There are some, but none of them can do the task; this is one of them.
    Incapable(&'a WorkerView),
    /// None that would help.
    Absent,
}

/// What these workers of the job's model are to it.
pub(super) fn presence<'a>(
    ask: &Ask,
    cluster: &ClusterView,
    workers: impl Iterator<Item = &'a Arc<WorkerView>>,
    trace: &mut impl Trace,
) -> Presence<'a> {
    let mut usable = false;
    let mut incapable = None;
    let mut capable = false;
    for worker in workers {
        let obstacle = obstacle(ask, cluster, worker);
        match &obstacle {
            None => usable = true,
            Some(obstacle) if obstacle.is_passing() => usable = true,
            Some(Obstacle::Incapable) => incapable = Some(&**worker),
            Some(_) => capable = true,
        }
        // Those with a free slot have been noted when one was looked for.
        if let Some(obstacle) = obstacle.filter(|_| worker.free_slots() == 0) {
            trace.refused(|| Candidate::Worker(worker.info.id), || obstacle.to_string());
        }
        if usable && !trace.wants_more() {
            break;
        }
    }
    match incapable {
        _ if usable => Presence::Usable,
        Some(worker) if !capable => Presence::Incapable(worker),
        _ => Presence::Absent,
    }
}

/// No worker of the model can do such a task; this is one of them.
pub(super) fn incapable(ask: &Ask, worker: &WorkerView) -> Error {
    let what = match ask.job.task {
        Task::Generate { .. } => "generate text",
        Task::Embed { .. } => "make vectors",
    };
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "model {} cannot {what}: worker {} ({}) has it loaded and cannot",
            ask.job.model, worker.info.id, worker.info.backend
        ),
    )
    .with_client_message(format!("the model cannot {what}"))
}
