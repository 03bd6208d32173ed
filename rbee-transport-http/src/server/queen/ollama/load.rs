//! Loads and unloads models: what a request without a prompt asks for.

use std::time::Duration;

use rbee_core::{
    Error, ErrorKind, Queen, Result, WorkerId, cluster::WorkerState, queen::LoadRequest,
};

use super::keep_alive::KeepAlive;
use crate::server::queen::{
    Inner,
    caller::Caller,
    catalog::{locate, named, refuse_unknown},
    local_user::Locality,
};

/// How long a model may take until it is loaded. The queen gives up much sooner if there is no progress.
const TIMEOUT: Duration = Duration::from_secs(3_600);
/// How often the state of the worker is looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// Loads the model, or unloads it if it is not to stay loaded at all. Returns which of the two.
///
/// # Errors
/// [`ErrorKind::PermissionDenied`] for a tenant, and as [`Models::load`](rbee_core::queen::Models::load).
pub(super) async fn run(
    shared: &Inner,
    (caller, locality): (&Caller, &Locality),
    name: &str,
    keep_alive: Option<KeepAlive>,
) -> Result<&'static str> {
    shared.check_model_of(caller, locality, name).await?;
    if caller.tenant().is_some() {
        let message = "the request has no prompt, which loads or unloads a model; only the operator may do that, and a \
                       model is loaded for the first request with a prompt";
        return Err(Error::for_client(ErrorKind::PermissionDenied, message));
    }
    if keep_alive == Some(KeepAlive::Unload) {
        unload(shared, name).await?;
        return Ok("unload");
    }
    let model = locate(&shared.queen, name).await?;
    refuse_unknown(&shared.queen, &model).await?;
    let pin = keep_alive == Some(KeepAlive::Forever);
    let worker = shared.queen.models().load(LoadRequest { pin, ..LoadRequest::new(model) }).await?;
    let ready = ready(&shared.queen, worker);
    tokio::time::timeout(TIMEOUT, ready).await.unwrap_or_else(|_| {
        let message = format!("the model {name:?} was not loaded within {TIMEOUT:?}");
        Err(Error::new(ErrorKind::DeadlineExceeded, message))
    })?;
    Ok("load")
}

/// Stops the workers of a model as soon as their runs have ended.
async fn unload(shared: &Inner, name: &str) -> Result<()> {
    let cluster = shared.queen.cluster().await?;
    let model = named(&shared.queen, name, &cluster)?;
    refuse_unknown(&shared.queen, &model).await?;
    for worker in cluster.workers().filter(|worker| worker.info.model.is_of(&model)) {
        match shared.queen.fleet().unload(worker.info.id).await {
            // It has ended in the meantime.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            unloaded => unloaded?,
        }
    }
    Ok(())
}

/// Waits until the worker takes jobs.
async fn ready(queen: &Queen, worker: WorkerId) -> Result<()> {
    loop {
        let cluster = queen.cluster().await?;
        match cluster.worker(worker).map(|view| view.state) {
            Some(WorkerState::Ready) => return Ok(()),
            Some(WorkerState::Loading) => {}
            Some(WorkerState::Draining | WorkerState::Failed) | None => {
                return Err(queen.models().load_failure(worker).unwrap_or_else(|| {
                    let message = format!("worker {worker} was stopped before it was ready");
                    Error::new(ErrorKind::Conflict, message)
                }));
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
