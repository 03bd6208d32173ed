//! The decisions of a script.

use std::{collections::BTreeSet, fmt, sync::Arc};

use rhai::{Array, Dynamic, INT, Map};

use super::{
    budget::looked,
    collection::or_unit,
    context::{DecisionContext, with},
    error::{Res, fault},
    hives::{Hive, on_hive},
    registry::{Helper, HelperRegistry},
    workers::{Worker, Workers},
};
use crate::{
    error::{Error, ErrorKind},
    id::{HiveId, WorkerId},
    scheduler::{
        Placement, Scheduler,
        least_loaded::{Presence, incapable, presence},
        spawn::Start,
        trace::Silent,
    },
};

/// A decision, as a function of the script returns it.
#[derive(Clone, Debug)]
pub(super) enum Decision {
    /// A final decision.
    Place(Placement),
    /// The start of a worker; the workers to stop for it are chosen after the script has returned.
    Spawn { hive: HiveId, start: Arc<Start> },
    /// The job may join the queue.
    Accept { rank: i64 },
}

/// The most characters of a reason; longer ones are cut.
const MOST_REASON: usize = 500;
/// The codes that a policy may reject a job with.
const CODES: &[ErrorKind] = &[
    ErrorKind::Rejected,
    ErrorKind::QuotaExceeded,
    ErrorKind::RateLimited,
    ErrorKind::SystemAtCapacity,
    ErrorKind::InsufficientVram,
    ErrorKind::ModelNotFound,
    ErrorKind::DeadlineExceeded,
    ErrorKind::PermissionDenied,
    ErrorKind::Unsupported,
    ErrorKind::InvalidRequest,
];

fn run_on(worker: &Worker) -> Res<Dynamic> {
    with(|context| {
        let (info, wanted) = (&worker.0.info, &context.ask.job.model);
        if info.model != *wanted {
            return Err(fault(format!(
                "run_on: worker {} has model {}, the job wants {wanted}; filter the workers by with_model(job.model)",
                info.id, info.model
            )));
        }
        if let Some(why) = context.unable(&worker.0) {
            return Err(fault(format!(
                "run_on: worker {}: {why}; filter the workers by with_capacity()",
                info.id
            )));
        }
        context.step(|| format!("run_on: worker {} on hive {}", info.id, info.hive));
        Ok(Dynamic::from(Decision::Place(Placement::Assign(info.id))))
    })
}

/// The job waits for one of these, if one of them will take it.
fn wait_for(context: &DecisionContext, set: &Workers) -> Res<Dynamic> {
    let workers = set.list(context)?;
    let (ask, model) = (&context.ask, &context.ask.job.model);
    let suited = workers.iter().map(|worker| &worker.0).filter(|view| view.info.model == *model);
    let (decision, why) = match presence(ask, &context.cluster, suited, &mut Silent) {
        Presence::Usable => {
            (Some(Placement::Wait), "one of them is busy or loading, and will take the job")
        }
        Presence::Incapable(worker) => {
            (Some(Placement::Reject(incapable(ask, worker))), "they cannot do such a job")
        }
        Presence::Absent => (None, "none of them will take the job"),
    };
    context.step(|| format!("wait_for: {why}"));
    Ok(or_unit(decision.map(Decision::Place)))
}

fn spawn(hive: &Hive, devices: Option<&[u32]>, slots: Option<u32>) -> Res<Dynamic> {
    with(|context| {
        looked(1)?;
        // The memory is that of the slots that it is going to have.
        let sizing = slots.map(|slots| context.builtin.sizing().with_slots(slots));
        let mut question = on_hive(context, hive)?;
        if let Some(sizing) = &sizing {
            question.sizing = sizing;
        }
        let start = match devices {
            Some(devices) => question.on(devices),
            None => question.anywhere(),
        };
        match start {
            Ok(start) => {
                context.step(|| {
                    format!("spawn_on: hive {}, devices {:?}", hive.0.id, start.spec.devices)
                });
                let hive = hive.0.id.clone();
                Ok(Dynamic::from(Decision::Spawn { hive, start: Arc::new(start) }))
            }
            Err(why) => {
                context.step(|| format!("spawn_on: not on hive {}: {why}", hive.0.id));
                context.dropped(crate::scheduler::Candidate::Hive(hive.0.id.clone()), || why);
                Ok(Dynamic::UNIT)
            }
        }
    })
}

fn index(value: &Dynamic) -> Res<u32> {
    let number = value.as_int().ok().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| fault(format!("spawn_on: {value} is not the index of a device")))
}

fn indices(values: &[Dynamic]) -> Res<Vec<u32>> {
    let distinct: BTreeSet<u32> = values.iter().map(index).collect::<Res<_>>()?;
    if distinct.is_empty() || distinct.len() != values.len() {
        return Err(fault("spawn_on takes one device or more, each once"));
    }
    Ok(distinct.into_iter().collect())
}

fn spawn_with(hive: &Hive, options: &Map) -> Res<Dynamic> {
    let (mut devices, mut slots, mut evict) = (None, None, None);
    for (key, value) in options {
        match key.as_str() {
            "device" => devices = Some(vec![index(value)?]),
            "devices" => {
                let array = value.as_array_ref();
                let array = array
                    .map_err(|kind| fault(format!("spawn_on: devices is an array, not {kind}")))?;
                devices = Some(indices(&array)?);
            }
            "slots" => {
                let number = value.as_int().ok().and_then(|number| u32::try_from(number).ok());
                let number = number.filter(|number| (1..=1024).contains(number));
                slots = Some(number.ok_or_else(|| {
                    fault(format!("spawn_on: slots is {value}; allowed are 1 to 1024"))
                })?);
            }
            "evict" => evict = Some(workers(value.clone())?),
            other => {
                return Err(fault(format!(
                    "spawn_on: there is no option {other:?}; allowed are device, devices, slots, evict"
                )));
            }
        }
    }
    let decision = spawn(hive, devices.as_deref(), slots)?;
    let (Some(evict), Some(Decision::Spawn { hive, start })) =
        (evict, decision.clone().try_cast::<Decision>())
    else {
        return Ok(decision);
    };
    let placement = Placement::Spawn { hive, spec: start.spec.clone(), evict };
    Ok(Dynamic::from(Decision::Place(placement)))
}

/// The ids of the workers that a script returned: one, a collection, an array, or none.
pub(super) fn workers(value: Dynamic) -> Res<Vec<WorkerId>> {
    let kind = value.type_name();
    let wrong = || fault(format!("expected workers, not a value of type {kind}"));
    if value.is_unit() {
        return Ok(Vec::new());
    }
    if let Some(worker) = value.clone().try_cast::<Worker>() {
        return Ok(vec![worker.0.info.id]);
    }
    if let Some(set) = value.clone().try_cast::<Workers>() {
        let set = with(|context| set.list(context))?;
        return Ok(set.iter().map(|worker| worker.0.info.id).collect());
    }
    let array: Array = value.into_array().map_err(|_| wrong())?;
    let ids =
        array.into_iter().map(|one| Ok(one.try_cast::<Worker>().ok_or_else(wrong)?.0.info.id));
    ids.collect()
}

fn reject(reason: &str, kind: ErrorKind) -> Decision {
    Decision::Place(Placement::Reject(rejection(reason, kind)))
}

/// The error of a job that the policy refuses. Its submitter reads the reason.
pub(super) fn rejection(reason: &str, kind: ErrorKind) -> Error {
    let end = reason.char_indices().nth(MOST_REASON).map_or(reason.len(), |(end, _)| end);
    Error::for_client(kind, reason[..end].to_owned())
}

fn code(name: &str) -> Res<ErrorKind> {
    let kind = ErrorKind::from_code(name).filter(|kind| CODES.contains(kind));
    kind.ok_or_else(|| {
        let codes: Vec<_> = CODES.iter().map(|kind| kind.code()).collect();
        fault(format!("reject: there is no code {name:?}; allowed are {}", codes.join(", ")))
    })
}

fn builtin(context: &DecisionContext) -> Res<Decision> {
    looked(1)?;
    let placement = context.builtin.place(&context.ask, &context.cluster);
    let placement = placement.map_err(|error| fault(error.message()))?;
    context.step(|| format!("builtin: the built-in policy decides: {}", summary(&placement)));
    // The workers to stop are chosen as for the script's own spawn_on.
    if let Placement::Spawn { hive, spec, evict } = &placement
        && !evict.is_empty()
        && let Some(view) = context.cluster.hive(hive)
        && let Ok(start) = on_hive(context, &Hive(view.clone()))?.on(&spec.devices)
    {
        return Ok(Decision::Spawn { hive: hive.clone(), start: Arc::new(start) });
    }
    Ok(Decision::Place(placement))
}

/// The decision as a sentence.
pub(super) fn summary(placement: &Placement) -> String {
    match placement {
        Placement::Assign(worker) => format!("run on worker {worker}"),
        Placement::Spawn { hive, spec, evict } if evict.is_empty() => {
            format!("start a worker on hive {hive}, devices {:?}", spec.devices)
        }
        Placement::Spawn { hive, spec, evict } => format!(
            "start a worker on hive {hive}, devices {:?}, and stop {} idle ones first",
            spec.devices,
            evict.len()
        ),
        Placement::Wait => "wait".into(),
        Placement::Reject(error) => format!("reject: {error}"),
    }
}

pub(super) fn register(registry: &mut HelperRegistry) {
    registry.section(
        "Decisions",
        "`schedule` returns one of these. `run_on` and `spawn_on` of `()` are `()`, so that `??` can continue with the \
         next best: `run_on(one) ?? spawn_on(other) ?? builtin()`.",
    );
    registry.object::<Decision>("decision");
    let f = |name, signature, doc, example| Helper { on: "", name, signature, doc, example };
    registry.function(
        f(
            "run_on",
            "run_on(worker) -> decision or ()",
            "The job runs on this worker, which must be able to take it. `()` for `()`.",
            "run_on(workers.with_model(job.model).with_capacity().least_loaded())",
        ),
        |worker: Worker| run_on(&worker),
    );
    registry.overload("run_on", |(): ()| Dynamic::UNIT);
    registry.function(
        f("spawn_on", "spawn_on(hive) -> decision or ()", "A worker for the job's model is started on the best device of this hive, and the job waits for it. `spawn_on(hive, 1)` names the device, `spawn_on(hive, [1, 2])` spreads the model over several, and `spawn_on(hive, #{devices: [1], slots: 8, evict: workers})` sets everything. If memory is short, idle workers are stopped: those that the script's `evict` names, else the cheapest set. `()` if it cannot be started there, and for `()`.", "spawn_on(hives.with_model(job.model).available().most_vram_free())"),
        |hive: Hive| spawn(&hive, None, None),
    );
    registry.overload("spawn_on", |hive: Hive, device: INT| {
        spawn(&hive, Some(&[index(&Dynamic::from(device))?]), None)
    });
    registry.overload("spawn_on", |hive: Hive, devices: Array| {
        spawn(&hive, Some(&indices(&devices)?), None)
    });
    registry.overload("spawn_on", |hive: Hive, options: Map| spawn_with(&hive, &options));
    registry.overload("spawn_on", |(): ()| Dynamic::UNIT);
    registry.overload("spawn_on", |(): (), _: Dynamic| Dynamic::UNIT);
    registry.function(
        f("wait", "wait() -> decision", "The job waits. The policy is asked again when a slot is free, when the fleet changes, and with every tick.", "wait()"),
        || Decision::Place(Placement::Wait),
    );
    registry.function(
        f("wait_for", "wait_for(workers) -> decision or ()", "The job waits if one of these workers will take it later: one that is busy or loading. It ends as `UNSUPPORTED` if none of those with its model can do such a job. `()` if none will take it, because all have failed, are being stopped or are unreachable: then another worker may be started.", "wait_for(workers.with_model(job.model))"),
        |set: Workers| with(|context| wait_for(context, &set)),
    );
    registry.function(
        f("reject", "reject(reason) -> decision", "The job ends with this reason, as `REJECTED`; `reject(reason, code)` names another code: `QUOTA_EXCEEDED`, `RATE_LIMITED`, `SYSTEM_AT_CAPACITY`, `INSUFFICIENT_VRAM`, `MODEL_NOT_FOUND`, `DEADLINE_EXCEEDED`, `PERMISSION_DENIED`, `UNSUPPORTED` or `INVALID_REQUEST`.", "reject(\"not during the night\", \"SYSTEM_AT_CAPACITY\")"),
        |reason: &str| reject(reason, ErrorKind::Rejected),
    );
    registry.overload("reject", |reason: &str, name: &str| -> Res<Decision> {
        Ok(reject(reason, code(name)?))
    });
    registry.function(
        f("builtin", "builtin() -> decision", "The decision of the built-in policy: the least loaded free worker of the model; else a new one where it fits best; else wait.", "builtin()"),
        || with(builtin),
    );
    registry.function(
        f(
            "accept",
            "accept() -> decision",
            "For `admit`: the job may join the queue. `accept(rank)` sets its rank: lower goes first. The result of `order` is added.",
            "accept(-1)",
        ),
        || Decision::Accept { rank: 0 },
    );
    registry.overload("accept", |rank: INT| Decision::Accept { rank });
    registry.function(
        f(
            "note",
            "note(text)",
            "Adds a line to the explanation of the decision, if one is wanted.",
            "note(`looked at ${workers.count()} workers`)",
        ),
        |text: &str| {
            with(|context| {
                context.step(|| text.chars().take(MOST_REASON).collect());
                Ok(())
            })
        },
    );
    registry.engine().register_fn("to_string", |decision: &mut Decision| decision.to_string());
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(placement) => f.write_str(&summary(placement)),
            Self::Spawn { hive, start } => {
                write!(f, "start a worker on hive {hive}, devices {:?}", start.spec.devices)
            }
            Self::Accept { rank } => write!(f, "accept at rank {rank}"),
        }
    }
}
