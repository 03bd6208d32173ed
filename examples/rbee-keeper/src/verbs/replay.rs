//! `rbee policy replay`: compares a policy with the active one, on past jobs.

use std::{collections::BTreeMap, time::Duration};

use rbee_transport_http::wire::policy::{
    POLICY_REPLAY, PolicyReplay, PolicyReplayRequest, PolicyText, ReplayOutcome, WaitsView,
    WorkerLoadView,
};

use crate::{
    Keeper,
    failure::Failure,
    names,
    screen::{Column, Table, human},
};

/// A timeout that is longer than any queen's own (its setting `replay_limit`).
const TIMEOUT: Duration = Duration::from_secs(3_660);
/// The maximum number of rows about workers, and about tenants.
const MOST_ROWS: usize = 20;

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
    let found: PolicyReplay = keeper.client.post_within(POLICY_REPLAY, &body, TIMEOUT).await?;
    let screen = &keeper.screen;
    if screen.is_json() {
        return screen.document(&found);
    }
    screen.table(&metrics(&found))?;
    let mut hidden = Vec::new();
    for (what, rows) in
        [("tenant", tenants(&found)), ("worker", workers(&found, screen.is_terminal()))]
    {
        if let Some((table, more)) = rows {
            screen.out("\n")?;
            screen.table(&table)?;
            if more > 0 {
                hidden.push(human::count(more, &format!("more {what}")));
            }
        }
    }
    if !hidden.is_empty() {
        screen.note(&format!("{} with --json", hidden.join(" and ")));
    }
    notes(&found).iter().for_each(|note| screen.note(note));
    Ok(())
}

/// Notes on the jobs.
fn notes(found: &PolicyReplay) -> Vec<String> {
    let since = human::moment(found.from_ms);
    let jobs = human::count(found.current.jobs, "job");
    let mut notes = vec![match found.cut {
        true => format!(
            "the newest {jobs}, since {since} UTC: a replay takes no more (setting replay_jobs)"
        ),
        false => format!("{jobs}, since {since} UTC"),
    }];
    if found.estimated > 0 {
        notes.push(format!(
            "{} never ran: replayed with the median of the model",
            human::count(found.estimated, "job")
        ));
    }
    if found.without_outline > 0 {
        notes.push(format!(
            "{} recorded by an older version: replayed without prefixes, deadline and longest answer",
            human::count(found.without_outline, "job")
        ));
    }
    if found.passed_over > 0 {
        notes.push(format!("left out: {}", counted(&found.left_out)));
    }
    notes
}

fn columns(first: impl IntoIterator<Item = Column>) -> Vec<Column> {
    let both = [Column::new("IN FORCE").right(), Column::new("THIS ONE").right()];
    first.into_iter().chain(both).collect()
}

fn metrics(found: &PolicyReplay) -> Table {
    let mut table = Table::new(columns([Column::new("").whole()]));
    let mut row = |name: &str, of: &dyn Fn(&ReplayOutcome) -> String| {
        table.row([name.to_owned(), of(&found.current), of(&found.candidate)]);
    };
    row("jobs", &|one| one.jobs.to_string());
    row("completed", &|one| one.completed.to_string());
    row("rejected", &|one| total(&one.rejected));
    row("failed", &|one| total(&one.failed));
    for code in codes(found) {
        row(&format!("  {code}"), &|one| {
            let count = |of: &BTreeMap<String, usize>| of.get(code).copied().unwrap_or(0);
            (count(&one.rejected) + count(&one.failed)).to_string()
        });
    }
    row("wait p50", &|one| wait(one.waits.p50_ms));
    row("wait p99", &|one| wait(one.waits.p99_ms));
    row("longest wait", &|one| wait(one.waits.max_ms));
    row("interactive p99", &|one| p99(one.waits_interactive));
    row("batch p99", &|one| p99(one.waits_batch));
    row("workers started", &|one| one.spawns.to_string());
    row("  for long queues", &|one| one.scale_ups.to_string());
    row("workers stopped", &|one| one.stops.to_string());
    row("  to make room", &|one| one.evictions.to_string());
    row("  idle", &|one| (one.scale_backs + one.expired).to_string());
    row("downloads", &|one| one.downloads.to_string());
    if found.current.prefixed > 0 {
        row("prompts begun warm", &|one| percent(one.prefix_hits as u64, one.prefixed as u64));
        row("prefixes warm", &|one| percent(one.prefix_keys_warm, one.prefix_keys));
        row("time spared", &|one| wait(one.prefill_saved_ms));
    }
    row("all workers busy", &|one| wait(one.workers.iter().map(|one| one.busy_ms).sum()));
    row("policy faults", &|one| match one.policy_suspended {
        true => format!("{}, suspended", one.policy_faults),
        false => one.policy_faults.to_string(),
    });
    table
}

/// Every code with which a job ended in either run.
fn codes(found: &PolicyReplay) -> Vec<&str> {
    let both = [&found.current, &found.candidate];
    let ends = both.into_iter().flat_map(|one| one.rejected.keys().chain(one.failed.keys()));
    let codes: std::collections::BTreeSet<&str> = ends.map(String::as_str).collect();
    codes.into_iter().collect()
}

/// The waits of the tenants, those with the most jobs first, and the number of tenants that are not shown.
fn tenants(found: &PolicyReplay) -> Option<(Table, usize)> {
    let mut jobs: BTreeMap<&str, usize> = BTreeMap::new();
    for (tenant, waits) in
        found.current.waits_by_tenant.iter().chain(&found.candidate.waits_by_tenant)
    {
        let most = jobs.entry(tenant).or_default();
        *most = waits.jobs.max(*most);
    }
    let mut names: Vec<_> = jobs.into_iter().collect();
    names.sort_by_key(|(_, jobs)| std::cmp::Reverse(*jobs));
    let more = names.len().saturating_sub(MOST_ROWS);
    names.truncate(MOST_ROWS);
    let mut table = Table::new(columns([Column::new("WAITS OF TENANT")]));
    for (tenant, _) in &names {
        let of = |one: &ReplayOutcome| {
            one.waits_by_tenant.get(*tenant).map_or_else(
                || "-".into(),
                |waits| format!("p50 {}, p99 {}", wait(waits.p50_ms), wait(waits.p99_ms)),
            )
        };
        table.row([(*tenant).to_owned(), of(&found.current), of(&found.candidate)]);
    }
    (!names.is_empty()).then_some((table, more))
}

/// The load of a worker, or of all workers that the replay started on a hive with a model.
#[derive(Clone, Copy, Default)]
struct Load {
    workers: usize,
    slots: u64,
    jobs: usize,
    busy_ms: u64,
}

impl Load {
    fn add(&mut self, worker: &WorkerLoadView) {
        self.workers += 1;
        self.slots += u64::from(worker.slots);
        self.jobs += worker.jobs;
        self.busy_ms += worker.busy_ms;
    }

    /// `12 jobs, 40%`: the share of its slots' time, as if it had existed the whole time.
    fn shown(&self, elapsed_ms: u64, is_started: bool) -> String {
        if self.workers == 0 {
            return "-".into();
        }
        let busy = percent(self.busy_ms, elapsed_ms.saturating_mul(self.slots));
        let jobs = format!("{}, {busy}", human::count(self.jobs, "job"));
        if is_started { format!("{}: {jobs}", self.workers) } else { jobs }
    }
}

/// The load of every worker, the busiest first, and the number of workers that are not shown.
fn workers(found: &PolicyReplay, is_terminal: bool) -> Option<(Table, usize)> {
    // Started workers have different ids in the two runs, so their load is shown by hive and model.
    let mut loads: BTreeMap<(&str, &str, Option<String>), [Load; 2]> = BTreeMap::new();
    for (side, one) in [&found.current, &found.candidate].into_iter().enumerate() {
        for worker in &one.workers {
            let name = (!worker.started).then(|| worker.worker.to_string());
            let key = (worker.hive.as_str(), worker.model.as_str(), name);
            loads.entry(key).or_default()[side].add(worker);
        }
    }
    let mut loads: Vec<_> = loads.into_iter().collect();
    loads.sort_by_key(|(_, [one, other])| std::cmp::Reverse(one.busy_ms.max(other.busy_ms)));
    let more = loads.len().saturating_sub(MOST_ROWS);
    loads.truncate(MOST_ROWS);
    let mut table = Table::new(columns([
        Column::new("WORKER").whole(),
        Column::new("MODEL").middle(),
        Column::new("HIVE").keep(50),
    ]));
    for ((hive, model, name), [one, other]) in &loads {
        let is_started = name.is_none();
        table.row([
            name.as_ref().map_or_else(|| "started".into(), |id| names::short(id, is_terminal)),
            (*model).to_owned(),
            (*hive).to_owned(),
            one.shown(found.current.elapsed_ms, is_started),
            other.shown(found.candidate.elapsed_ms, is_started),
        ]);
    }
    (!loads.is_empty()).then_some((table, more))
}

/// A duration for comparison with another: `340ms`, `12.3s`, `14m`.
fn wait(ms: u64) -> String {
    if (1_000..600_000).contains(&ms) {
        return format!("{}.{}s", ms / 1_000, ms % 1_000 / 100);
    }
    human::span(ms)
}

fn percent(part: u64, all: u64) -> String {
    let percent = part.saturating_mul(100).checked_div(all);
    percent.map_or_else(|| "-".into(), |percent| format!("{percent}%"))
}

fn p99(waits: Option<WaitsView>) -> String {
    waits.map_or_else(|| "-".into(), |waits| wait(waits.p99_ms))
}

fn total(codes: &BTreeMap<String, usize>) -> String {
    codes.values().sum::<usize>().to_string()
}

/// `QUEUE_TIMEOUT 2, REJECTED 1`.
fn counted(codes: &BTreeMap<String, usize>) -> String {
    let each: Vec<String> = codes.iter().map(|(code, count)| format!("{code} {count}")).collect();
    each.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(number: u128, started: bool, jobs: usize, busy_ms: u64) -> WorkerLoadView {
        WorkerLoadView {
            worker: rbee_core::WorkerId::from_random_bits(number << 96),
            hive: "attic".parse().unwrap(),
            model: "hf:some-org/a-model-with-a-very-long-name-indeed@main".into(),
            slots: 4,
            started,
            jobs,
            busy_ms,
        }
    }

    fn outcome(workers: Vec<WorkerLoadView>) -> ReplayOutcome {
        let text = serde_json::json!({
            "jobs": 12, "completed": 10, "rejected": {"QUEUE_TIMEOUT": 1, "REJECTED": 1},
            "failed": {}, "waits": WaitsView::default(), "spawns": 2, "evictions": 1,
            "policy_faults": 5, "policy_suspended": true, "elapsed_ms": 10_000, "workers": workers,
            "prefixed": 4, "prefix_hits": 3, "prefix_keys": 8, "prefix_keys_warm": 2,
            "waits_by_tenant": {"ann": {"jobs": 9, "p50_ms": 1_250, "p90_ms": 0, "p99_ms": 900_000, "max_ms": 0}},
        });
        serde_json::from_value(text).unwrap()
    }

    fn found() -> PolicyReplay {
        PolicyReplay {
            since_ms: 1,
            from_ms: 1_795_460_389_123,
            cut: true,
            estimated: 1,
            without_outline: 0,
            passed_over: 3,
            left_out: [("CANCELLED".to_owned(), 3)].into(),
            current: outcome(vec![load(1, false, 8, 20_000), load(2, false, 0, 0)]),
            candidate: outcome(vec![
                load(1, false, 4, 4_000),
                load(2, false, 1, 400),
                load(3, true, 4, 3_000),
                load(4, true, 3, 1_000),
            ]),
        }
    }

    #[test]
    fn both_policies_stand_beside_each_other_and_every_line_fits_a_terminal() {
        let found = found();
        let (tenants, workers) = (tenants(&found).unwrap(), workers(&found, true).unwrap());
        let shown: Vec<String> = [metrics(&found), tenants.0, workers.0]
            .map(|table| table.render(Some(80), false))
            .into();
        for line in shown.iter().flat_map(|table| table.lines()) {
            assert!(crate::screen::text::width(line) <= 80, "{line}");
        }
        let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let has = |table: usize, line: &str| {
            assert!(shown[table].lines().any(|one| squeezed(one) == line), "{}", shown[table]);
        };
        has(0, "QUEUE_TIMEOUT 1 1");
        has(0, "prefixes warm 25% 25%");
        has(0, "policy faults 5, suspended 5, suspended");
        has(1, "ann p50 1.2s, p99 15m p50 1.2s, p99 15m");
        let rows: Vec<String> = shown[2].lines().skip(1).map(squeezed).collect();
        assert!(rows[0].starts_with("00000001 ") && rows[0].ends_with("8 jobs, 50% 4 jobs, 10%"));
        assert!(
            rows[1].starts_with("started ") && rows[1].ends_with(" - 2: 7 jobs, 5%"),
            "{rows:?}"
        );
        assert!(rows[2].ends_with(" attic 0 jobs, 0% 1 job, 1%"), "{rows:?}");
    }

    #[test]
    fn what_the_jobs_are_and_which_are_not_there_is_said() {
        let notes = notes(&found());
        assert!(notes[0].starts_with("the newest 12 jobs, since 2026-11-23 18:59:49 UTC"));
        assert!(notes[1].starts_with("1 job never ran: "), "{notes:?}");
        assert_eq!(notes[2..], ["left out: CANCELLED 3"]);
    }
}
