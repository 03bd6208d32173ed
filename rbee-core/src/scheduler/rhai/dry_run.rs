//! The dry run of a policy before it is used: on a small fleet with something of everything, so that some job reaches a
//! line that cannot work.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use rhai::{CallFnOptions, Dynamic, EvalAltResult, Scope};

use super::{
    context::{DecisionContext, enter},
    engine,
    error::{HelperError, LimitExceeded, NoDecision, Res},
    eviction::Shortfall,
    faults,
    hives::Hives,
    job::JobObject,
    program::Program,
    queue::Queue,
    workers::Workers,
};
use crate::{
    chat::{Chat, Message, Role},
    cluster::{ClusterView, HiveView, LaneKey, LaneView, WorkerState, WorkerView},
    device::{Device, DeviceKind},
    error::Result,
    id::{CorrelationId, HiveId, JobId, TenantId, WorkerId},
    job::Job,
    model_on_disk::ModelOnDisk,
    model_ref::ModelRef,
    prefix::prefix_keys,
    priority::Priority,
    scheduler::{Ask, LeastLoaded},
    sizing::Memory,
    task::{Prompt, Sampling, Task},
    tenant::{TenantLimits, TenantView},
    time::{Now, Time, WallTime},
    worker::WorkerInfo,
};

/// The limit of one call. It is longer than that of a decision: a good script must not fail because the machine is busy
/// with something else.
const LIMIT: Duration = Duration::from_millis(500);
/// The limit of everything that runs before a script is in use: its constants, and the whole dry run.
pub(super) const LOADING: Duration = Duration::from_secs(1);
const GIB: u64 = 1 << 30;
/// A Tuesday, 22:30 UTC.
const WALL: WallTime = WallTime::from_millis(1_767_738_600_000);
const AT: Time = Time::from_micros(3_600_000_000);

/// Calls the script for a job of every kind, on the fleet and on an empty one.
pub(super) fn check(program: &Program, until: Instant) -> Result<()> {
    let Some(fleet) = fleet() else { return Ok(()) };
    let empty = ClusterView::default();
    let asks = asks(fleet);
    let missing = Memory { device: GIB, budget: 0 };
    let shortfall = Shortfall { hive: &fleet.cellar, device: &fleet.gpu, missing };
    let questions = asks.iter().flat_map(|ask| [(&fleet.cluster, ask), (&empty, ask)]);
    for (number, (cluster, ask)) in questions.enumerate() {
        // The first limit ends a script that hangs; the second one that is slow every time.
        let limit = LIMIT.min(until.saturating_duration_since(Instant::now()));
        match program.call_all(ask, cluster, &shortfall, limit) {
            // Every policy has an answer to the first question; to the others it may have none.
            Err(error) if number > 0 && is_no_decision(&error) => {}
            Err(error) if !may_be_the_fleet(&error) => return Err(faults::at_load(&error)),
            _ => {}
        }
    }
    Ok(())
}

/// Returns true for a failure that may not happen on another fleet: the script asked for something of its own fleet
/// that does not exist here, or threw something itself.
fn may_be_the_fleet(error: &EvalAltResult) -> bool {
    match error.unwrap_inner() {
        EvalAltResult::ErrorFunctionNotFound(signature, _) => signature.contains("()"),
        EvalAltResult::ErrorDotExpr(message, _) => message.contains("'()'"),
        EvalAltResult::ErrorMismatchDataType(_, found, _) => found == "()",
        EvalAltResult::ErrorRuntime(value, _) => !is_of_the_host(value),
        _ => false,
    }
}

/// Returns true for a value that the host has thrown, and not the script.
fn is_of_the_host(value: &Dynamic) -> bool {
    let value = value.clone();
    value.clone().try_cast::<HelperError>().is_some()
        || value.clone().try_cast::<NoDecision>().is_some()
        || value.try_cast::<LimitExceeded>().is_some()
}

fn is_no_decision(error: &EvalAltResult) -> bool {
    matches!(error.unwrap_inner(), EvalAltResult::ErrorRuntime(value, _)
        if value.clone().try_cast::<NoDecision>().is_some())
}

/// The result of an expression on the fleet of the dry run.
pub(super) fn example(expression: &str) -> Result<String, String> {
    let fleet = fleet().ok_or("there is no fleet")?;
    let (engine, _) = engine::shared();
    let text = format!("fn example(job, workers, hives, queue) {{ {expression} }}");
    let script = engine.compile(&text).map_err(|error| error.to_string())?;
    let ask = &asks(fleet)[0];
    let context = DecisionContext::new(ask, &fleet.cluster, &LeastLoaded::default(), false);
    let (answer, _) = enter(context, Instant::now() + LIMIT, || -> Res<String> {
        let options = CallFnOptions::new().eval_ast(false);
        let arguments = (JobObject::new(ask), Workers::default(), Hives::default(), Queue);
        let value: Dynamic = engine.call_fn_with_options(
            options,
            &mut Scope::new(),
            &script,
            "example",
            arguments,
        )?;
        Ok(shown(&engine, value))
    });
    answer.map_err(|error| error.to_string())
}

fn shown(engine: &rhai::Engine, value: Dynamic) -> String {
    if value.is_unit() {
        return "()".into();
    }
    let named = ["worker", "hive", "workers", "hives"];
    let kind = engine.map_type_name(value.type_name()).to_owned();
    if let Some(decision) = value.clone().try_cast::<super::decisions::Decision>() {
        return decision.to_string();
    }
    if let Some(model) = value.clone().try_cast::<super::job::Model>() {
        return model.0.to_string();
    }
    if named.contains(&&*kind) { kind } else { value.to_string() }
}

struct Fleet {
    cluster: ClusterView,
    /// A hive and a device of it, on which a worker is idle.
    cellar: HiveId,
    gpu: Device,
    known: ModelRef,
    unknown: ModelRef,
    tenant: TenantId,
    correlation_id: CorrelationId,
}

/// `None` only if a name in `build` is not valid.
fn fleet() -> Option<&'static Fleet> {
    static FLEET: OnceLock<Option<Fleet>> = OnceLock::new();
    FLEET.get_or_init(|| build().ok()).as_ref()
}

fn build() -> Result<Fleet> {
    let known: ModelRef = "hf:meta-llama/Llama-3.1-8B@main".parse()?;
    let big: ModelRef = "hf:meta-llama/Llama-3.1-70B@main".parse()?;
    let mut cluster = ClusterView::default();
    let hives = [
        ("attic", ["eu", "2.5", "asleep"], vec![24], vec![&known]),
        ("cellar", ["us", "1.0", "awake"], vec![80, 80], vec![&known, &big]),
        ("shed", ["eu", "0.5", "asleep"], vec![], vec![]),
    ];
    for (name, labels, gpus, models) in hives {
        let labels = ["region", "cost", "power"].into_iter().zip(labels);
        cluster.put_hive(HiveView {
            id: HiveId::new(name)?,
            online: name != "shed",
            draining: false,
            devices: devices(&gpus),
            memory_budget: None,
            labels: Arc::new(labels.map(|(key, value)| (key.into(), value.into())).collect()),
            models: Arc::new(models.into_iter().map(|model| on_disk(model, &big)).collect()),
            engines: None,
            reserved: BTreeMap::new(),
        });
    }
    let attic = HiveId::new("attic")?;
    let cellar = HiveId::new("cellar")?;
    let mut worker = |number: u128, hive: &HiveId, model: &ModelRef, device, leased, state| {
        let mut info = WorkerInfo::new(model.clone(), "candle");
        info.id = WorkerId::from_random_bits(number << 64 | number);
        info.hive = hive.clone();
        info.devices = vec![device];
        info.slots = 4;
        info.capabilities.embed = true;
        info.capabilities.rerank = true;
        info.capabilities.context_tokens = Some(8192);
        let mut view = WorkerView::ready(Arc::new(info), AT);
        view.leased = leased;
        view.state = state;
        view.memory_bytes = 10 * GIB;
        view.last_used = Time::from_micros(AT.as_micros() - u64::from(leased) * 1_000_000);
        cluster.put_worker(view);
    };
    worker(1, &attic, &known, 1, 1, WorkerState::Ready);
    worker(2, &cellar, &known, 1, 0, WorkerState::Ready);
    worker(3, &cellar, &known, 2, 4, WorkerState::Ready);
    worker(4, &cellar, &big, 2, 2, WorkerState::Ready);
    worker(5, &attic, &big, 1, 0, WorkerState::Loading);
    for (name, used) in [("alice", 1_000), ("bob", 50_000)] {
        let limits = TenantLimits { daily_tokens: Some(50_000), ..TenantLimits::default() };
        let id = TenantId::new(name)?;
        cluster.put_tenant(TenantView {
            id,
            limits: Arc::new(limits),
            used_today: used,
            live_jobs: 3,
        });
    }
    let oldest = Time::from_micros(AT.as_micros() - 1_500_000);
    let lane = LaneKey { model: known.clone(), tenant: None };
    cluster.put_lane(&lane, Some(LaneView { depth: 7, oldest }));
    Ok(Fleet {
        cluster,
        cellar,
        gpu: gpu(1, 80),
        known,
        unknown: "nobody-has-it".parse()?,
        tenant: TenantId::new("alice")?,
        correlation_id: CorrelationId::new("dry-run")?,
    })
}

fn devices(gpus: &[u64]) -> Arc<[Device]> {
    let cpu = Device {
        index: 0,
        kind: DeviceKind::Cpu,
        name: "processor".into(),
        memory_total: 64 * GIB,
        memory_free: 48 * GIB,
    };
    let gpus = gpus.iter().zip(1..).map(|(gib, index)| gpu(index, *gib));
    std::iter::once(cpu).chain(gpus).collect()
}

/// A GPU with half of its memory free.
fn gpu(index: u32, gib: u64) -> Device {
    Device {
        index,
        kind: DeviceKind::Cuda,
        name: "gpu".into(),
        memory_total: gib * GIB,
        memory_free: gib * GIB / 2,
    }
}

fn on_disk(model: &ModelRef, big: &ModelRef) -> (ModelRef, ModelOnDisk) {
    let bytes = if model == big { 140 * GIB } else { 5 * GIB };
    (model.clone(), ModelOnDisk::new(model.clone(), bytes))
}

/// Questions about jobs that differ in everything that a script may ask about.
fn asks(fleet: &Fleet) -> Vec<Ask> {
    let chat = Task::Generate {
        prompt: Prompt::Chat(Chat::from(vec![
            Message::new(Role::System, "Be brief."),
            Message::new(Role::User, "Hello!"),
        ])),
        sampling: Sampling { max_tokens: Some(200), ..Sampling::default() },
    };
    let text =
        Task::Generate { prompt: Prompt::Text("Once".into()), sampling: Sampling::default() };
    let embed = Task::embed(["hello"]);
    let rerank = Task::rerank("hello", ["a greeting"]);
    let day = 24 * 3_600_000;
    let ask = |(number, task, model, priority, tenant, deadline, wall): (
        u64,
        &Task,
        &ModelRef,
        Priority,
        Option<&TenantId>,
        Option<u64>,
        u64,
    )| Ask {
        job: Arc::new(Job {
            id: JobId::from_random_bits(u128::from(number)),
            model: model.clone(),
            priority,
            prefix: prefix_keys(task),
            task: task.clone(),
            seed: 1,
            timeout: Duration::from_secs(300),
            deadline: deadline.map(Duration::from_secs),
            detached: false,
            stored: false,
            metadata: None,
            tenant: tenant.cloned(),
            rank: 0,
            correlation_id: fleet.correlation_id.clone(),
            idempotency: None,
            streamed: true,
        }),
        now: Now { at: AT, wall: WallTime::from_millis(WALL.as_millis() + wall) },
        random: number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        waited: Duration::ZERO,
        attempts: 0,
        avoid: Arc::default(),
        must_match: None,
        refused: Arc::default(),
    };
    let (known, unknown, alice) = (&fleet.known, &fleet.unknown, Some(&fleet.tenant));
    let (interactive, batch) = (Priority::Interactive, Priority::Batch);
    [
        (1, &chat, known, interactive, alice, Some(30), 0),
        (2, &text, known, batch, None, None, day / 2),
        (3, &embed, known, interactive, None, None, 4 * day),
        (4, &chat, unknown, batch, alice, None, day / 3),
        (5, &text, unknown, interactive, None, Some(2), 0),
        (6, &rerank, known, batch, None, None, day / 2),
    ]
    .map(ask)
    .into()
}
