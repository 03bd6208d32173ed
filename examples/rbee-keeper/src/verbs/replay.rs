//! `rbee policy replay`: a policy beside the one in force, on the jobs of the past.

use std::{collections::BTreeMap, time::Duration};

use rbee_transport_http::wire::policy::{
    POLICY_REPLAY, PolicyReplay, PolicyReplayRequest, PolicyText, ReplayOutcome, WaitsView,
};

use crate::{
    Keeper,
    failure::Failure,
    screen::{Column, Table, human},
};

pub(super) async fn replay(
    keeper: &Keeper,
    policy: PolicyText,
    since: Duration,
) -> Result<(), Failure> {
    let body = PolicyReplayRequest {
        language: policy.language,
        source: policy.source,
        since_ms: Some(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
    };
    let found: PolicyReplay = keeper.client.post(POLICY_REPLAY, &body).await?;
    if keeper.screen.is_json() {
        return keeper.screen.document(&found);
    }
    let (now, then) = (&found.current, &found.candidate);
    let mut table = Table::new([
        Column::new("").whole(),
        Column::new("IN FORCE").right(),
        Column::new("THIS ONE").right(),
    ]);
    let mut row = |name: &str, of: &dyn Fn(&ReplayOutcome) -> String| {
        table.row([name.to_owned(), of(now), of(then)]);
    };
    row("jobs", &|one| one.jobs.to_string());
    row("completed", &|one| one.completed.to_string());
    row("rejected", &|one| counted(&one.rejected));
    row("failed", &|one| counted(&one.failed));
    row("wait p50", &|one| human::span(one.waits.p50_ms));
    row("wait p99", &|one| human::span(one.waits.p99_ms));
    row("longest wait", &|one| human::span(one.waits.max_ms));
    row("interactive p99", &|one| p99(one.waits_interactive));
    row("batch p99", &|one| p99(one.waits_batch));
    row("workers started", &|one| one.spawns.to_string());
    row("evictions", &|one| one.evictions.to_string());
    row("policy faults", &|one| one.policy_faults.to_string());
    row("busiest worker", &|one| {
        let busiest = one.workers.iter().map(|worker| worker.busy_ms).max();
        busiest.map_or_else(|| "-".into(), human::span)
    });
    row("all workers busy", &|one| human::span(one.workers.iter().map(|one| one.busy_ms).sum()));
    keeper.screen.table(&table)?;
    if found.passed_over > 0 {
        keeper.screen.note(&format!(
            "{} jobs were passed over: they did not end properly",
            found.passed_over
        ));
    }
    Ok(())
}

fn p99(waits: Option<WaitsView>) -> String {
    waits.map_or_else(|| "-".into(), |waits| human::span(waits.p99_ms))
}

/// `3`, or `3 (QUEUE_TIMEOUT 2, REJECTED 1)`.
fn counted(codes: &BTreeMap<String, usize>) -> String {
    let all: usize = codes.values().sum();
    if all == 0 {
        return "0".into();
    }
    let each: Vec<String> = codes.iter().map(|(code, count)| format!("{code} {count}")).collect();
    format!("{all} ({})", each.join(", "))
}
