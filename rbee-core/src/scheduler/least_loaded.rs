//! The built-in policy: the least loaded worker that can take the job; else a new worker where it fits best.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    Scheduler,
    decision::{Ask, Candidate, Explanation, Placement},
    info::SchedulerInfo,
    spawn,
    trace::{Reasons, Silent, Trace},
};
use crate::{
    cluster::{ClusterView, WorkerState, WorkerView},
    error::{Error, Result},
    id::WorkerId,
    sizing::Sizing,
};

/// The built-in policy.
///
/// 1. A job goes to a free worker of its model that can do the task and has the required numerics: the least loaded one,
///    of equals the one used longest ago. One on which the job has failed is taken only if no other is free.
/// 2. If such a worker is busy or loading, the job waits. This policy does not start more workers for a model, so that
///    a short peak does not evict other models.
/// 3. Else a worker is started, in this order of preference: where the model is on the disk; where nothing has to be
///    stopped for it; on a GPU; on the device with the most free memory; on the hive with the fewest workers. If idle
///    workers must be stopped, [`plan_eviction`](crate::scheduler::plan_eviction) chooses them.
/// 4. If the model does not fit now but may later, the job waits. It is rejected if every hive has refused the model,
///    or if no device is large enough for it.
///
/// ```
/// use rbee_core::{scheduler::Sizing, LeastLoaded};
///
/// let policy = LeastLoaded::new(Sizing::default().with_slots(8));
/// assert_eq!(policy.sizing(), &Sizing::default().with_slots(8));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeastLoaded {
    sizing: Sizing,
}

impl LeastLoaded {
    /// Plans the memory and slots of new workers with this sizing.
    pub fn new(sizing: Sizing) -> Self {
        Self { sizing }
    }

    /// How it estimates the memory and slots of new workers.
    pub fn sizing(&self) -> &Sizing {
        &self.sizing
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
            Presence::Absent => spawn::place(&self.sizing, ask, cluster, trace),
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

    fn info(&self) -> SchedulerInfo {
        SchedulerInfo::new("least-loaded").with_description(
            "the least loaded free worker that has the model; if none has it, one is started where it fits best",
        )
    }
}

/// The reason that a worker cannot take the job now.
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
    /// Returns true if it will pass by itself.
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
                write!(f, "other numerics: it has \"{has}\", the stream was begun with \"{wants}\"")
            }
            Self::Taken { slots: 1 } => f.write_str("its only slot is taken"),
            Self::Taken { slots } => write!(f, "all {slots} slots taken"),
        }
    }
}

/// The reason that the worker cannot take the job now; `None` if it can.
pub(super) fn obstacle<'a>(
    ask: &'a Ask,
    cluster: &ClusterView,
    worker: &'a WorkerView,
) -> Option<Obstacle<'a>> {
    let info = &*worker.info;
    // A worker without a hive in the cluster is reached some other way.
    let is_offline = cluster.hive(&info.hive).is_some_and(|hive| !hive.online);
    // The capabilities of a worker are certain only when it is loaded.
    if worker.state == WorkerState::Loading {
        return Some(if is_offline { Obstacle::Offline } else { Obstacle::Loading });
    }
    // That it cannot do the task stays true while its hive is offline.
    if !info.capabilities.can(&ask.job.task) {
        return Some(Obstacle::Incapable);
    }
    if is_offline {
        return Some(Obstacle::Offline);
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
    // The engine has let time pass between the tries, so the same worker may succeed now.
    best.or(avoided.filter(|_| ask.attempts > 0))
}

/// Whether a worker will take the job later, if none can now.
pub(super) enum Presence<'a> {
    /// One will be usable by itself: it is busy or loading.
    Usable,
    /// There are workers, but none of them can do the task; this is one of them.
    Incapable(&'a WorkerView),
    /// There is none that would help.
    Absent,
}

/// Whether one of these workers of the job's model will take it.
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
            // It was lost before it had said what it can do.
            Some(_) if worker.state == WorkerState::Loading => {}
            Some(_) => capable = true,
        }
        // Workers with a free slot were noted when one was searched for.
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

/// The error if no worker of the model can do such a task; this is one of them.
pub(super) fn incapable(ask: &Ask, worker: &WorkerView) -> Error {
    worker.info.incapable(&ask.job.task)
}
