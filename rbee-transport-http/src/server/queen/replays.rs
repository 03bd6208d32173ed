//! Replays of past jobs under a policy.

use std::time::Duration;

use axum::extract::{Request, State};
use http::StatusCode;
use rbee_core::{
    Priority,
    scheduler::PolicySource,
    sim::{ReplayReport, Waits},
};

use super::{Shared, middleware::HandlerResult};
use crate::{
    server::response,
    wire::{
        ErrorBody,
        policy::{
            POLICY_REPLAY, PolicyReplay, PolicyReplayRequest, ReplayOutcome, WaitsView,
            WorkerLoadView,
        },
    },
};

/// A day, in milliseconds.
const DAY_MS: u64 = 24 * 3600 * 1000;

/// Replay past jobs under a policy and under the one in force, in virtual time, without changing anything. The replay
/// ends if the client disconnects.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = POLICY_REPLAY,
        tag = "policy",
        request_body = PolicyReplayRequest,
        responses(
            (status = 200, description = "The results of both policies.", body = PolicyReplay),
            (status = "default", description = "There is nothing to compare, another replay runs, or it took too long.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn replay(State(shared): State<Shared>, request: Request) -> HandlerResult {
    let asked: PolicyReplayRequest = shared.read_json(request).await?;
    let since = Duration::from_millis(asked.since_ms.unwrap_or(DAY_MS));
    let source = PolicySource { language: asked.language, text: asked.source.into() };
    let replayed = shared.queen.policy().replay(source, since).await?;
    let found = PolicyReplay {
        since_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        from_ms: replayed.from.as_millis(),
        cut: replayed.is_cut,
        estimated: replayed.estimated,
        without_outline: replayed.without_outline,
        passed_over: replayed.ignored(),
        left_out: replayed.left_out,
        current: outcome(replayed.current),
        candidate: outcome(replayed.candidate),
    };
    Ok(response::json(StatusCode::OK, &found))
}

fn outcome(report: ReplayReport) -> ReplayOutcome {
    let of = |priority| report.waits_by_priority.get(&priority).map(|found| waits(*found));
    let (waits_interactive, waits_batch) = (of(Priority::Interactive), of(Priority::Batch));
    let by_tenant = report.waits_by_tenant.into_iter();
    let workers = report.workers.into_iter().map(|(worker, load)| WorkerLoadView {
        worker,
        hive: load.hive,
        model: load.model.to_string(),
        slots: load.slots,
        started: load.started,
        jobs: load.jobs,
        busy_ms: load.busy_ms,
    });
    ReplayOutcome {
        jobs: report.jobs,
        completed: report.completed,
        rejected: report.rejected,
        failed: report.failed,
        waits: waits(report.waits),
        waits_interactive,
        waits_batch,
        waits_by_tenant: by_tenant.map(|(tenant, found)| (tenant, waits(found))).collect(),
        spawns: report.spawns,
        stops: report.stops,
        evictions: report.evictions,
        scale_ups: report.scale_ups,
        scale_backs: report.scale_backs,
        expired: report.expired,
        downloads: report.downloads,
        policy_faults: report.policy_faults,
        policy_suspended: report.policy_suspended,
        prefixed: report.prefixed,
        prefix_hits: report.prefix_hits,
        prefix_keys: report.prefix_keys,
        prefix_keys_warm: report.prefix_keys_warm,
        prefill_saved_ms: report.prefill_saved_ms,
        elapsed_ms: report.elapsed_ms,
        workers: workers.collect(),
    }
}

fn waits(waits: Waits) -> WaitsView {
    WaitsView {
        jobs: waits.jobs,
        p50_ms: waits.p50_ms,
        p90_ms: waits.p90_ms,
        p99_ms: waits.p99_ms,
        max_ms: waits.max_ms,
    }
}
