//! Workers: one loaded model each.

use axum::extract::{Request, State};
use http::{HeaderValue, StatusCode, header};
use rbee_core::{
    ClusterView, Error, ErrorKind, Queen, Result, WorkerId,
    cluster::WorkerState,
    queen::{LoadProgress, LoadRequest},
    time::Time,
};

use super::{
    Shared,
    catalog::{locate, refuse_unknown},
    local_user::Locality,
    middleware::{HandlerResult, Name},
};
use crate::{
    server::response,
    wire::{
        ErrorBody,
        queen::{Listing, SpawnWorker, WORKER, WORKER_PIN, WORKERS, WorkerView},
    },
};

/// List the workers.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = WORKERS,
        tag = "workers",
        responses(
            (status = 200, description = "The workers.", body = Listing<WorkerView>),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn list(State(shared): State<Shared>) -> HandlerResult {
    let cluster = shared.queen.cluster().await?;
    let now = shared.queen.status().await?.now;
    let loads = shared.queen.models().loading();
    let data = cluster.workers().map(|worker| describe(now, worker, &loads)).collect();
    Ok(response::json(StatusCode::OK, &Listing::<WorkerView> { data }))
}

/// Start a worker, or find the one that has the model or is loading it. The scheduler decides what the request leaves
/// open; a model that is not on the machine's disk is downloaded first.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = WORKERS,
        tag = "workers",
        request_body = SpawnWorker,
        responses(
            (status = 202, description = "The worker, which is ready or loading; see its state.", body = WorkerView),
            (status = "default", description = "No worker was started.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn spawn(
    State(shared): State<Shared>,
    locality: Locality,
    request: Request,
) -> HandlerResult {
    let order: SpawnWorker = shared.read_json(request).await?;
    if order.slots == Some(0) {
        let message = "slots is 0; allowed is at least 1";
        return Err(Error::new(ErrorKind::InvalidRequest, message).with_param("slots").into());
    }
    shared.check_model(&locality, &order.model).await?;
    let model = locate(&shared.queen, &order.model).await?;
    refuse_unknown(&shared.queen, &model).await?;
    let SpawnWorker { hive, devices, slots, pin, .. } = order;
    let wanted = LoadRequest { model, hive, devices, slots, pin };
    let worker = shared.queen.models().load(wanted).await?;
    let mut response = response::json(StatusCode::ACCEPTED, &view(&shared.queen, worker).await?);
    if let Ok(place) = HeaderValue::try_from(format!("{WORKERS}/{worker}")) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// Get a worker.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = WORKER,
        tag = "workers",
        params(("id" = String, Path, description = "The id of the worker.")),
        responses(
            (status = 200, description = "The worker.", body = WorkerView),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn show(State(shared): State<Shared>, Name(name): Name) -> HandlerResult {
    Ok(response::json(StatusCode::OK, &view(&shared.queen, worker_id(&name)?).await?))
}

/// Stop a worker as soon as its runs have ended.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        delete,
        path = WORKER,
        tag = "workers",
        params(("id" = String, Path, description = "The id of the worker.")),
        responses(
            (status = 202, description = "The worker accepts no more jobs, and ends.", body = WorkerView),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn stop(State(shared): State<Shared>, Name(name): Name) -> HandlerResult {
    let worker = worker_id(&name)?;
    let before = view(&shared.queen, worker).await?;
    shared.queen.fleet().unload(worker).await?;
    // An idle one may be gone by now.
    let draining =
        WorkerView { state: state(WorkerState::Draining, 0).into(), slots_available: 0, ..before };
    let after = view(&shared.queen, worker).await.unwrap_or(draining);
    Ok(response::json(StatusCode::ACCEPTED, &after))
}

/// Never evict a worker.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        put,
        path = WORKER_PIN,
        tag = "workers",
        params(("id" = String, Path, description = "The id of the worker.")),
        responses(
            (status = 200, description = "The worker is pinned.", body = WorkerView),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn pin(State(shared): State<Shared>, Name(name): Name) -> HandlerResult {
    set_pin(&shared.queen, &name, true).await
}

/// Let a worker be evicted again.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        delete,
        path = WORKER_PIN,
        tag = "workers",
        params(("id" = String, Path, description = "The id of the worker.")),
        responses(
            (status = 200, description = "The worker is no longer pinned.", body = WorkerView),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn unpin(State(shared): State<Shared>, Name(name): Name) -> HandlerResult {
    set_pin(&shared.queen, &name, false).await
}

async fn set_pin(queen: &Queen, name: &str, pin: bool) -> HandlerResult {
    let worker = worker_id(name)?;
    queen.fleet().pin(worker, pin).await?;
    Ok(response::json(StatusCode::OK, &view(queen, worker).await?))
}

/// Parses the id of a worker; one that is not a UUID does not exist.
fn worker_id(name: &str) -> Result<WorkerId> {
    name.parse().map_err(|_| {
        let shown: String = name.chars().take(60).collect();
        Error::new(ErrorKind::NotFound, format!("worker {shown:?} does not exist"))
    })
}

async fn view(queen: &Queen, id: WorkerId) -> Result<WorkerView> {
    let cluster: ClusterView = queen.cluster().await?;
    match cluster.worker(id) {
        Some(worker) => {
            let now = queen.status().await?.now;
            Ok(describe(now, worker, &queen.models().loading()))
        }
        // Who waits for a load wants to know why it came to nothing.
        None => Err(queen.models().load_failure(id).unwrap_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("worker {id} does not exist"))
        })),
    }
}

fn state(state: WorkerState, leased: u32) -> &'static str {
    match state {
        WorkerState::Loading => "loading",
        WorkerState::Ready if leased == 0 => "idle",
        WorkerState::Ready => "busy",
        WorkerState::Draining => "draining",
        WorkerState::Failed => "failed",
    }
}

fn describe(
    now: Time,
    worker: &rbee_core::cluster::WorkerView,
    loads: &[LoadProgress],
) -> WorkerView {
    let info = &worker.info;
    let load = loads.iter().find(|load| load.worker == Some(info.id));
    let idle = now - worker.last_used;
    WorkerView {
        id: info.id,
        hive: info.hive.clone(),
        model: info.model.to_string(),
        state: state(worker.state, worker.leased).into(),
        progress: load.map(|load| load.progress.into()),
        backend: info.backend.to_string(),
        devices: info.devices.clone(),
        url: info.url.as_deref().map(ToOwned::to_owned),
        slots: info.slots,
        slots_available: worker.free_slots(),
        memory_bytes: worker.memory_bytes,
        idle_ms: u64::try_from(idle.as_millis()).unwrap_or(u64::MAX),
        pinned: worker.pinned,
        reachable: worker.reachable,
        suspected: worker.suspected,
    }
}
