//! How the queen is.

use axum::extract::State;
use http::StatusCode;
use rbee_core::{Error, ErrorKind};

use super::{Shared, gate::Answer};
use crate::{
    server::{reply, routes},
    wire::{ErrorBody, HEALTH, METRICS, queen::Health},
};

/// Is the queen usable, and which one is it? Needs no token. 503 while its store cannot be written: it accepts no jobs
/// then, and answers of jobs that it has accepted go on.
#[utoipa::path(
    get,
    path = HEALTH,
    tag = "queen",
    responses(
        (status = 200, description = "How it is.", body = Health),
        (status = 503, description = "The same, while the store cannot be written.", body = Health),
        (status = "default", description = "She is not usable.", body = ErrorBody),
    ),
    security(()),
)]
pub(super) async fn health(State(shared): State<Shared>) -> Answer {
    let queen = &shared.queen;
    let (counters, cluster) = (queen.counters().await?, queen.cluster().await?);
    let store_failed = queen.store_fault().await?.map(|fault| queen.now() - fault.since);
    let status = match (shared.stop.is_cancelled(), &store_failed) {
        (true, _) => "draining",
        (false, Some(_)) => "store_failed",
        (false, None) => "ok",
    };
    let code = match &store_failed {
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
        None => StatusCode::OK,
    };
    let health = Health {
        status: status.into(),
        store_failed_ms: store_failed
            .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
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
    };
    Ok(reply::json(code, &health))
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
