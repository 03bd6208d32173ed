//! The health checks of the queen and its fleet.

use std::{fmt, time::Duration};

use axum::extract::State;
use http::StatusCode;
use rbee_core::{
    ClusterView, Queen, async_trait,
    cluster::WorkerState,
    queen::HiveSummary,
    registry::{HiveStatus, JobFilter},
};
use tokio::time::Instant;

use super::{Shared, middleware::HandlerResult};
use crate::{
    server::response,
    wire::{
        ErrorBody,
        queen::{Check, DOCTOR, Doctor, Verdict},
    },
};

/// The time limit of one check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// A store that takes longer than this to respond is slow.
const SLOW_STORE: Duration = Duration::from_millis(250);

/// A health check of something that the queen cannot see: the daemon's ports, its disk, its programs.
#[async_trait]
pub trait HealthCheck: fmt::Debug + Send + Sync + 'static {
    /// Its name in a message if it does not answer, such as `backups`.
    fn name(&self) -> &str;

    /// Runs the check and returns its findings. A check that takes longer than ten seconds is abandoned.
    async fn check(&self) -> Vec<Check>;
}

/// Run all health checks.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = DOCTOR,
        tag = "queen",
        responses(
            (status = 200, description = "The findings.", body = Doctor),
            (status = "default", description = "The checks could not run.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn doctor(State(shared): State<Shared>) -> HandlerResult {
    let queen = &shared.queen;
    let id = queen.status().await?.id;
    let mut checks =
        vec![check("queen", "version", Verdict::Ok, format!("{id} {}", env!("CARGO_PKG_VERSION")))];
    checks.push(store(queen).await);
    checks.push(store_writes(queen).await?);
    let cluster = queen.cluster().await?;
    let hives = queen.fleet().list().await?;
    if hives.is_empty() {
        let message = "there is no hive: add one with `rbee hive add`, or start the queen with one";
        checks.push(check("queen", "hives", Verdict::Failed, message));
    }
    for hive in &hives {
        checks.extend(machine(hive, &cluster));
    }
    checks.extend(cluster.workers().map(|worker| engine(worker)));
    checks.extend(queue(queen, &cluster).await?);
    for health_check in &shared.health_checks {
        checks.extend(findings(&**health_check).await);
    }
    let verdict = checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Ok);
    Ok(response::json(StatusCode::OK, &Doctor { verdict, checks }))
}

/// The findings of a check, or that it did not answer in time.
async fn findings(health_check: &dyn HealthCheck) -> Vec<Check> {
    tokio::time::timeout(CHECK_TIMEOUT, health_check.check()).await.unwrap_or_else(|_| {
        let message = format!("{} did not answer within {CHECK_TIMEOUT:?}", health_check.name());
        vec![check("queen", "health check", Verdict::Failed, message)]
    })
}

fn check(
    subject: impl Into<String>,
    property: &str,
    verdict: Verdict,
    message: impl Into<String>,
) -> Check {
    Check { subject: subject.into(), check: property.into(), verdict, message: message.into() }
}

/// Checks that the store responds, and how fast.
async fn store(queen: &Queen) -> Check {
    let began = Instant::now();
    let filter = JobFilter { limit: 1, ..JobFilter::default() };
    match tokio::time::timeout(CHECK_TIMEOUT, queen.jobs(&filter)).await {
        Ok(Ok(_)) => {
            let took = began.elapsed();
            let verdict = if took > SLOW_STORE { Verdict::Warning } else { Verdict::Ok };
            check("store", "answers", verdict, format!("within {took:.1?}"))
        }
        Ok(Err(error)) => check("store", "answers", Verdict::Failed, error.message()),
        Err(_) => {
            let message = format!("not within {CHECK_TIMEOUT:?}; is its disk full or gone?");
            check("store", "answers", Verdict::Failed, message)
        }
    }
}

/// Checks that the store can be written: by a write, and by what the queen itself has seen.
async fn store_writes(queen: &Queen) -> rbee_core::Result<Check> {
    let began = Instant::now();
    let tried = tokio::time::timeout(CHECK_TIMEOUT, queen.check_store()).await;
    let status = queen.status().await?;
    let failed = |message| check("store", "writes", Verdict::Failed, message);
    Ok(match (tried, status.store_fault) {
        (_, Some(fault)) => failed(format!(
            "not for {:.0?}, and no job is accepted: {}",
            status.now - fault.since,
            fault.error.message()
        )),
        (Ok(Err(error)), None) => failed(error.message().to_owned()),
        (Err(_), None) => {
            failed(format!("not within {CHECK_TIMEOUT:?}; is its disk full, or the file locked?"))
        }
        (Ok(Ok(())), None) => {
            let took = began.elapsed();
            let verdict = if took > SLOW_STORE { Verdict::Warning } else { Verdict::Ok };
            check("store", "writes", verdict, format!("within {took:.1?}"))
        }
    })
}

fn machine(hive: &HiveSummary, cluster: &ClusterView) -> Vec<Check> {
    let subject = format!("hive {}", hive.id);
    let why = hive.error.as_ref().map_or("it has not answered yet", |error| error.message());
    if hive.status != HiveStatus::Online {
        return vec![check(subject, "answers", Verdict::Failed, why)];
    }
    let mut checks = vec![check(subject.clone(), "answers", Verdict::Ok, "online")];
    let Some(view) = cluster.hive(&hive.id) else { return checks };
    if view.draining {
        let message = format!("it takes no workers; `rbee hive start {}` ends that", hive.id);
        checks.push(check(subject.clone(), "draining", Verdict::Warning, message));
    }
    if view.devices.is_empty() && cluster.on_hive(&hive.id).next().is_none() {
        let message = "it has no device to load a model on";
        checks.push(check(subject.clone(), "devices", Verdict::Failed, message));
    }
    for device in view.devices.iter() {
        const GIB: f64 = (1u64 << 30) as f64;
        let (free, total) =
            (view.free_bytes(device) as f64 / GIB, device.memory_total as f64 / GIB);
        let verdict = if device.memory_free == 0 { Verdict::Warning } else { Verdict::Ok };
        let message = format!("{}: {free:.1} of {total:.1} GiB free", device.name);
        checks.push(check(subject.clone(), &format!("device {}", device.index), verdict, message));
    }
    checks
}

fn engine(worker: &rbee_core::cluster::WorkerView) -> Check {
    let subject = format!("worker {}", worker.info.id);
    let model = &worker.info.model;
    match worker.state {
        _ if !worker.reachable => {
            check(subject, "answers", Verdict::Failed, format!("{model}: its hive does not answer"))
        }
        WorkerState::Failed => {
            let message = format!("{model}: {} faults in a row; it gets no jobs", worker.faults);
            check(subject, "answers", Verdict::Failed, message)
        }
        WorkerState::Ready if worker.faults > 0 => {
            let message = format!("{model}: {} faults since its last proper answer", worker.faults);
            check(subject, "answers", Verdict::Warning, message)
        }
        WorkerState::Ready => check(subject, "answers", Verdict::Ok, format!("{model}: ready")),
        WorkerState::Loading => check(subject, "answers", Verdict::Ok, format!("{model}: loading")),
        WorkerState::Draining => check(subject, "answers", Verdict::Ok, format!("{model}: ending")),
    }
}

/// Checks for waiting jobs that no worker will serve.
async fn queue(queen: &Queen, cluster: &ClusterView) -> rbee_core::Result<Vec<Check>> {
    let status = queen.status().await?;
    let mut checks = Vec::new();
    for (lane, view) in cluster.lanes() {
        if cluster.with_model(&lane.model).next().is_none() {
            let message = format!(
                "{} jobs wait for {}, which has no worker, the first for {:.0?}",
                view.depth,
                lane.model,
                view.oldest_wait(status.now)
            );
            checks.push(check("queue", "served", Verdict::Warning, message));
        }
    }
    if checks.is_empty() {
        checks.push(check(
            "queue",
            "served",
            Verdict::Ok,
            format!("{} jobs wait", status.counters.waiting),
        ));
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Never answers.
    #[derive(Debug)]
    struct Stuck;

    #[async_trait]
    impl HealthCheck for Stuck {
        fn name(&self) -> &str {
            "the disk of backups"
        }

        async fn check(&self) -> Vec<Check> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_does_not_answer_is_named() {
        let found = findings(&Stuck).await;
        assert_eq!(found[0].message, "the disk of backups did not answer within 10s");
        assert_eq!((found.len(), found[0].verdict), (1, Verdict::Failed));
    }
}
