//! How the queen is.

use axum::extract::State;
use http::StatusCode;
use rbee_core::{Error, ErrorKind, Result};

use super::{Inner, Shared, caller::Caller, gate::Answer};
use crate::{
    server::{reply, routes},
    wire::{
        ErrorBody, HEALTH, METRICS,
        queen::{Health, HealthDetails},
    },
};

/// The status of a queen that goes down.
const DRAINING: &str = "draining";

/// Is she up? Needs no token; how she is, the operator alone is told.
#[utoipa::path(
    get,
    path = HEALTH,
    tag = "queen",
    responses(
        (status = 200, description = "She is up; for the operator, how she is.", body = Health),
        (status = 503, description = "She goes down, and takes no new jobs.", body = Health),
        (status = "default", description = "She is not usable.", body = ErrorBody),
    ),
    security((), ("token" = [])),
)]
pub(super) async fn health(State(shared): State<Shared>, caller: Caller) -> Answer {
    let is_draining = shared.stop.is_cancelled();
    // Her driver is asked in any case: without it she is not up.
    let details = match caller {
        Caller::Operator => details(&shared).await.map(Some),
        Caller::Tenant(_) => shared.queen.counters().await.map(|_| None),
    };
    let (status, details) = match details {
        Ok(details) => (if is_draining { DRAINING } else { "ok" }, details),
        Err(error) if error.kind() == ErrorKind::ShuttingDown => (DRAINING, None),
        Err(error) => return Err(error.into()),
    };
    let code = if status == DRAINING { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    Ok(reply::json(code, &Health { status: status.into(), details }))
}

/// What the operator is told.
async fn details(shared: &Inner) -> Result<HealthDetails> {
    let queen = &shared.queen;
    let (counters, cluster) = (queen.counters().await?, queen.cluster().await?);
    Ok(HealthDetails {
        queen: queen.id().to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        uptime_ms: u64::try_from(shared.began.elapsed().as_millis()).unwrap_or(u64::MAX),
        jobs_waiting: counters.waiting as u64,
        jobs_running: counters.leases as u64,
        hives_online: cluster.hives().filter(|hive| hive.online).count() as u64,
        workers_ready: cluster
            .workers()
            .filter(|worker| worker.reachable && worker.state == rbee_core::WorkerState::Ready)
            .count() as u64,
    })
}

/// Figures in Prometheus' text format.
#[utoipa::path(
    get,
    path = METRICS,
    tag = "queen",
    responses(
        (status = 200, description = "The figures.", content_type = "text/plain", body = String),
        (status = "default", description = "None are kept.", body = ErrorBody),
    ),
)]
pub(super) async fn metrics(State(shared): State<Shared>) -> Answer {
    let Some(render) = shared.metrics.clone() else {
        return Err(Error::new(ErrorKind::NotFound, "no metrics are kept here").into());
    };
    Ok(routes::exposition(render()))
}
