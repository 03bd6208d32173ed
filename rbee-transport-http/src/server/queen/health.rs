//! The health of the queen.

use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use rbee_core::{Error, ErrorKind, Result, engine::StoreFault, queen::QueenStatus};

use super::{Inner, Shared, caller::Caller, middleware::HandlerResult, retry};
use crate::{
    server::{response, routes},
    wire::{
        ErrorBody, HEALTH, METRICS,
        queen::{Health, HealthDetails},
    },
};

/// The prefix of the names of all metrics of single tenants.
#[cfg(feature = "metrics")]
const TENANT_PREFIX: &str = rbee_core::metrics::TENANT_PREFIX;
/// Metrics of an application that records them itself, with the same names.
#[cfg(not(feature = "metrics"))]
const TENANT_PREFIX: &str = "rbee_tenant_";
/// How long the queen may take to tell its gauges.
#[cfg(feature = "metrics")]
const MEASURE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);
/// The status of a queen that is usable.
const OK: &str = "ok";
/// The status of a queen that shuts down.
pub(super) const DRAINING: &str = "draining";
/// The status of a queen whose store cannot be written.
const STORE_FAILED: &str = "store_failed";

/// Check that the queen is usable. Needs no token; only the operator gets details. 503 once the queen shuts down, and
/// while its store cannot be written: it then accepts no jobs, and the answers of accepted jobs continue.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = HEALTH,
        tag = "queen",
        responses(
            (status = 200, description = "The queen is usable; the operator also gets details.", body = Health),
            (status = 503, description = "The same, while it accepts no jobs.", body = Health),
            (status = "default", description = "The queen is not usable.", body = ErrorBody),
        ),
        security((), ("token" = [])),
    )
)]
pub(super) async fn health(State(shared): State<Shared>, caller: Caller) -> HandlerResult {
    let is_draining = shared.stop.is_cancelled();
    // The driver is asked in any case: without it the queen is not up.
    let asked = async {
        let status = shared.queen.status().await?;
        let store_failed = status.store_fault.as_ref().map(StoreFault::retry_after);
        let details = match caller {
            Caller::Operator => Some(details(&shared, status).await?),
            Caller::Tenant(_) => None,
        };
        Ok::<_, Error>((store_failed, details))
    };
    let (status, details, after) = match asked.await {
        Ok((_, details)) if is_draining => (DRAINING, details, retry::RESTART),
        Ok((Some(after), details)) => (STORE_FAILED, details, after),
        Ok((None, details)) => (OK, details, Duration::ZERO),
        Err(error) if error.kind() == ErrorKind::ShuttingDown => (DRAINING, None, retry::RESTART),
        Err(error) => return Err(error.into()),
    };
    let code = if status == OK { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = response::json(code, &Health { status: status.into(), details });
    if status != OK {
        response::put_retry_after(response.headers_mut(), after);
    }
    Ok(response)
}

/// The details of the queen, for its operator.
///
/// # Errors
/// [`ErrorKind::ShuttingDown`] if the queen has stopped.
pub(super) async fn details_of(shared: &Inner) -> Result<HealthDetails> {
    details(shared, shared.queen.status().await?).await
}

/// The answer to the operator.
async fn details(shared: &Inner, status: QueenStatus) -> Result<HealthDetails> {
    let cluster = shared.queen.cluster().await?;
    let (now, counters) = (status.now, status.counters);
    let store_failed = status.store_fault.map(|fault| now - fault.since);
    Ok(HealthDetails {
        store_failed_ms: store_failed
            .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        queen: status.id.to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        uptime_ms: u64::try_from(shared.began.elapsed().as_millis()).unwrap_or(u64::MAX),
        jobs_waiting: counters.waiting as u64,
        jobs_running: counters.leases as u64,
        hives_online: cluster.hives().filter(|hive| hive.online).count() as u64,
        workers_ready: cluster
            .workers()
            .filter(|worker| {
                worker.reachable && worker.state == rbee_core::cluster::WorkerState::Ready
            })
            .count() as u64,
    })
}

/// Get metrics in Prometheus' text format. The metrics of single tenants are for the operator only.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = METRICS,
        tag = "queen",
        responses(
            (status = 200, description = "The metrics.", content_type = "text/plain", body = String),
            (status = "default", description = "No metrics are kept.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn metrics(State(shared): State<Shared>, caller: Caller) -> HandlerResult {
    let Some(render) = shared.metrics.clone() else {
        return Err(Error::new(ErrorKind::NotFound, "no metrics are kept here").into());
    };
    #[cfg(feature = "metrics")]
    measure(&shared.queen).await;
    let text = render();
    Ok(routes::exposition(match caller {
        Caller::Operator => text,
        Caller::Tenant(_) => without_tenants(&text),
    }))
}

/// Sets the gauges of the queen. Without an answer in time, for example because it has stopped, the others are shown.
#[cfg(feature = "metrics")]
async fn measure(queen: &rbee_core::Queen) {
    match tokio::time::timeout(MEASURE_TIMEOUT, rbee_core::queen::measure(queen)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the gauges could not be read"),
        Err(_) => tracing::warn!("the gauges could not be read within {MEASURE_TIMEOUT:?}"),
    }
}

/// The metrics without those of single tenants.
fn without_tenants(text: &str) -> String {
    let is_of_tenant = |line: &str| {
        let comment = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
        comment.unwrap_or(line).starts_with(TENANT_PREFIX)
    };
    text.split_inclusive('\n').filter(|line| !is_of_tenant(line)).collect()
}
