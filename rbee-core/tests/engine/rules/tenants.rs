//! Tenants: jobs within their limits are admitted, and no more; usage is counted once, by the day.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rbee_core::{
    Error, ErrorKind, Finish, Priority, Settings, TenantId, Usage,
    engine::{AttemptEnd, AttemptResult, Command, CommandOutput, Effect, Input, Submission},
    id::LeaseId,
    registry::{Change, Snapshot, TenantRecord},
    request::{Prompt, Sampling, Task},
    settings::Mode,
    tenant::TenantLimits,
};

use super::{
    hand::{Hand, worker},
    parts,
};

fn acme() -> TenantId {
    TenantId::new("acme").unwrap()
}

/// One worker with 8 slots, and a tenant with these limits that has used this many tokens today.
fn with(limits: TenantLimits, used_tokens: u64) -> Hand {
    let mut hand = Hand::with(&[worker(1, 0, 8)]);
    let record = TenantRecord { id: acme(), limits, keys: Vec::new(), used_tokens };
    let snapshot = Snapshot { tenants: vec![record], ..Snapshot::default() };
    hand.feed(Input::Restore { snapshot: Box::new(snapshot) });
    hand
}

fn submit(hand: &mut Hand, n: u128, change: impl FnOnce(&mut rbee_core::Job)) -> Option<Error> {
    let mut job = parts::job(n, parts::model(0));
    job.tenant = Some(acme());
    change(&mut job);
    hand.submit(job);
    hand.effects.iter().find_map(|effect| match effect {
        Effect::Accept { answer: Err(error), .. } => Some(error.clone()),
        _ => None,
    })
}

/// The job completes, and has used this many tokens.
fn end(hand: &mut Hand, lease: LeaseId, tokens: u32) {
    let usage = Usage { prompt_tokens: 1, completion_tokens: tokens - 1, ..Usage::default() };
    let result = AttemptResult::Done { finish: Finish::Stop, usage, stop_text: None };
    let end = AttemptEnd { result, produced: 0, resumable: true };
    hand.feed(Input::AttemptEnded { lease, end });
}

fn used(hand: &Hand) -> u64 {
    hand.engine.view().tenant(&acme()).unwrap().used_today
}

#[test]
fn a_used_up_day_refuses_until_midnight_and_usage_is_counted_once() {
    let limits = TenantLimits { daily_tokens: Some(100), ..TenantLimits::default() };
    let mut hand = with(limits, 60);
    assert_eq!(submit(&mut hand, 1, |_| {}), None);
    let lease = hand.start().0;
    end(&mut hand, lease, 39);
    end(&mut hand, lease, 39);
    assert_eq!(used(&hand), 99, "what the store said and what the job used, once");
    assert_eq!(submit(&mut hand, 2, |_| {}), None, "there is one token left");
    let lease = hand.start().0;
    end(&mut hand, lease, 2);

    hand.wait(Duration::from_secs(23 * 3600));
    let error = submit(&mut hand, 3, |_| {}).unwrap();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    assert!(error.message().contains("101") && error.message().contains("100"), "{error}");
    let after = error.retry_after().unwrap();
    assert_eq!(after, Duration::from_secs(3600), "midnight is when it is true");
    hand.wait(after);
    assert_eq!(submit(&mut hand, 4, |_| {}), None);
    assert_eq!(hand.engine.view().tenant(&acme()).unwrap().used_today, 0);
}

#[test]
fn a_new_day_is_seen_by_all_and_a_clock_that_goes_back_finds_the_old_one() {
    const DAY: i64 = 24 * 3600 * 1000;
    let limits = TenantLimits { daily_tokens: Some(100), ..TenantLimits::default() };
    let mut hand = with(limits, 100);
    hand.wall_ahead = DAY;
    hand.wait(Duration::from_secs(1));
    assert_eq!(used(&hand), 0, "without anything that the tenant did");
    assert_eq!(submit(&mut hand, 1, |_| {}), None);
    let lease = hand.start().0;
    end(&mut hand, lease, 40);
    for (ahead, expected) in [(0, 100), (DAY, 40), (0, 100)] {
        hand.wall_ahead = ahead;
        hand.wait(Duration::from_secs(1));
        assert_eq!(used(&hand), expected);
        assert_eq!(hand.engine.tenants()[0].used_tokens, expected);
    }
    assert_eq!(submit(&mut hand, 2, |_| {}).unwrap().kind(), ErrorKind::QuotaExceeded);
}

#[test]
fn a_tenant_that_was_removed_and_comes_back_has_used_what_it_had() {
    let limits = TenantLimits { daily_tokens: Some(100), ..TenantLimits::default() };
    let mut hand = with(limits.clone(), 70);
    hand.command(Command::RemoveTenant(acme())).unwrap();
    assert!(hand.engine.tenants().is_empty());
    let record = TenantRecord { id: acme(), limits, keys: Vec::new(), used_tokens: 0 };
    hand.command(Command::PutTenant(Box::new(record))).unwrap();
    assert_eq!(hand.engine.tenants()[0].used_tokens, 70);
}

#[test]
fn no_more_jobs_at_once_than_allowed_and_none_is_counted_twice() {
    let limits = TenantLimits { concurrent_jobs: Some(2), ..TenantLimits::default() };
    let mut hand = with(limits, 0);
    assert_eq!(submit(&mut hand, 1, |_| {}), None);
    let lease = hand.start().0;
    assert_eq!(submit(&mut hand, 2, |_| {}), None);
    let error = submit(&mut hand, 3, |_| {}).unwrap();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)), "they have just begun");
    hand.wait(Duration::from_secs(8));
    let error = submit(&mut hand, 3, |_| {}).unwrap();
    assert_eq!(
        error.retry_after(),
        Some(Duration::from_secs(4)),
        "one of two, live for 8 s so far"
    );
    assert_eq!(submit(&mut hand, 9, |job| job.tenant = None), None, "others are not concerned");
    hand.done(lease);
    assert_eq!(submit(&mut hand, 4, |_| {}), None);
    let error = submit(&mut hand, 5, |_| {}).unwrap();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(4)), "one of two that take 8 s");
}

#[test]
fn requests_and_tokens_a_minute_come_back_when_it_was_said() {
    let limits = TenantLimits { requests_per_minute: Some(2), ..TenantLimits::default() };
    let mut hand = with(limits, 0);
    assert_eq!(submit(&mut hand, 1, |_| {}), None);
    assert_eq!(submit(&mut hand, 2, |_| {}), None);
    let error = submit(&mut hand, 3, |_| {}).unwrap();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    let after = error.retry_after().unwrap();
    hand.wait(after - Duration::from_millis(10));
    assert!(submit(&mut hand, 4, |_| {}).is_some(), "not yet");
    hand.wait(Duration::from_millis(10));
    assert_eq!(submit(&mut hand, 5, |_| {}), None, "at the time that was said");

    let limits = TenantLimits { tokens_per_minute: Some(600), ..TenantLimits::default() };
    let mut hand = with(limits, 0);
    assert_eq!(submit(&mut hand, 1, |_| {}), None);
    let lease = hand.start().0;
    end(&mut hand, lease, 1_200);
    let error = submit(&mut hand, 2, |_| {}).unwrap();
    assert_eq!(error.kind(), ErrorKind::RateLimited, "the job used more than was expected");
    hand.wait(error.retry_after().unwrap());
    assert_eq!(submit(&mut hand, 3, |_| {}), None);
}

#[test]
fn models_and_priorities_that_are_not_for_a_tenant_are_refused_by_name() {
    let limits = TenantLimits {
        models: Some([parts::model(1).to_string()].into()),
        priorities: Some([Priority::Batch].into()),
        ..TenantLimits::default()
    };
    let mut hand = with(limits, 0);
    let error = submit(&mut hand, 1, |job| job.priority = Priority::Batch).unwrap();
    assert_eq!((error.kind(), error.param()), (ErrorKind::PermissionDenied, Some("model")));
    assert!(error.message().contains("acme") && error.message().contains("model-1"), "{error}");
    let error = submit(&mut hand, 2, |job| job.model = parts::model(1)).unwrap();
    assert_eq!((error.kind(), error.param()), (ErrorKind::PermissionDenied, Some("priority")));
}

/// The usage of the job in the end that was recorded last.
fn recorded_use(hand: &Hand) -> Option<u64> {
    hand.find(|effect| match effect {
        Effect::Record { changes, .. } => changes.iter().find_map(|change| match change {
            Change::JobEnded { used_tokens, .. } => Some(*used_tokens),
            _ => None,
        }),
        _ => None,
    })
}

#[test]
fn what_the_client_or_a_clock_ended_costs_what_there_is_of_it_and_a_fault_of_ours_nothing() {
    let limits = TenantLimits { daily_tokens: Some(1_000_000), ..TenantLimits::default() };
    let mut hand = with(limits, 0);
    let mut run = |n, end: &dyn Fn(&mut Hand, LeaseId)| {
        assert_eq!(submit(&mut hand, n, |_| {}), None);
        let lease = hand.start().0;
        let before = used(&hand);
        end(&mut hand, lease);
        let cost = used(&hand) - before;
        assert_eq!(recorded_use(&hand), Some(cost), "the store counts the same");
        cost
    };
    // The prompt is "hello", which counts as one token.
    let cancelled = run(1, &|hand, lease| {
        hand.feed(Input::Cancel { job: parts::job_id(1) });
        hand.end(lease, AttemptResult::Aborted, 4_000);
    });
    assert_eq!(cancelled, 4_001);
    let timed_out = run(2, &|hand, lease| {
        hand.wait(Duration::from_secs(30));
        hand.end(lease, AttemptResult::Aborted, 70);
    });
    assert_eq!(timed_out, 71);
    let failed = run(3, &|hand, lease| {
        let error = Error::new(ErrorKind::WorkerFault, "it broke");
        let end =
            AttemptEnd { result: AttemptResult::Failed(error), produced: 500, resumable: false };
        hand.feed(Input::AttemptEnded { lease, end });
    });
    assert_eq!(failed, 0);
}

#[test]
fn a_cancelled_job_that_never_ran_costs_nothing_and_gives_its_minute_back() {
    let limits = TenantLimits { tokens_per_minute: Some(600), ..TenantLimits::default() };
    let mut hand = with(limits, 0);
    for n in 1..20 {
        let job = parts::job_id(n);
        assert_eq!(submit(&mut hand, n, |job| job.model = parts::model(1)), None);
        hand.feed(Input::Cancel { job });
    }
    assert_eq!(used(&hand), 0);
}

#[test]
fn a_day_counts_what_the_jobs_under_way_are_expected_to_use() {
    let limits = TenantLimits { daily_tokens: Some(1_000), ..TenantLimits::default() };
    let mut hand = with(limits, 0);
    let of_400 = |job: &mut rbee_core::Job| {
        let sampling = Sampling { max_tokens: Some(400), ..Sampling::default() };
        job.task = Task::Generate { prompt: Prompt::Text("hello".into()), sampling };
    };
    for n in 1..4 {
        assert_eq!(submit(&mut hand, n, of_400), None, "{n}");
    }
    let error = submit(&mut hand, 4, of_400).unwrap();
    let soon = Some(Duration::from_secs(1));
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::QuotaExceeded, soon));
    assert!(error.message().contains("1203 more"), "{error}");
    assert_eq!(used(&hand), 0);
    hand.wait(Duration::from_secs(7));
    let lease = *hand.first_leases.values().next().unwrap();
    end(&mut hand, lease, 100);
    assert_eq!(submit(&mut hand, 5, of_400), None, "it used less: 100, and 802 under way");
    let error = submit(&mut hand, 6, of_400).unwrap();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)), "as long as a job takes");
}

#[test]
fn jobs_together_that_the_rest_of_the_day_is_too_little_for_may_come_back_at_midnight() {
    let limits = TenantLimits { daily_tokens: Some(100), ..TenantLimits::default() };
    let mut hand = with(limits, 90);
    hand.wait(Duration::from_secs(23 * 3600));
    let of_ten_tokens = |n: u128| {
        let mut job = parts::job(n, parts::model(0));
        job.tenant = Some(acme());
        let sampling = Sampling { max_tokens: Some(10), ..Sampling::default() };
        job.task = Task::Generate { prompt: Prompt::Text("hello".into()), sampling };
        Submission::new(n as u64, Arc::new(job))
    };
    hand.feed(Input::SubmitAll([1, 2].map(of_ten_tokens).into()));
    let errors: Vec<_> = hand
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Accept { answer: Err(error), .. } => Some(error),
            _ => None,
        })
        .collect();
    assert_eq!(errors.len(), 2);
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)), "{error}");
    }
}

#[test]
fn of_several_limits_the_one_that_takes_longest_to_pass_is_told() {
    let limits = TenantLimits {
        requests_per_minute: Some(1),
        tokens_per_minute: Some(300),
        ..TenantLimits::default()
    };
    let mut hand = with(limits, 0);
    assert_eq!(submit(&mut hand, 1, |_| {}), None);
    let lease = hand.start().0;
    end(&mut hand, lease, 900);
    let error = submit(&mut hand, 2, |_| {}).unwrap();
    assert!(error.message().contains("300 tokens a minute"), "{error}");
    let after = error.retry_after().unwrap();
    hand.wait(after - Duration::from_millis(10));
    assert!(submit(&mut hand, 3, |_| {}).is_some());
    hand.wait(Duration::from_millis(10));
    assert_eq!(submit(&mut hand, 4, |_| {}), None);
}

#[test]
fn default_limits_hold_field_by_field_for_those_that_are_set_up_and_in_full_for_strangers() {
    let default_limits =
        TenantLimits { concurrent_jobs: Some(1), daily_tokens: Some(0), ..TenantLimits::default() };
    let mut hand = Hand::new(Settings { default_limits, ..Settings::default() });
    let workers = [worker(1, 0, 8)];
    hand.hive(0, parts::added());
    hand.report(0, 1, &workers);
    hand.connect(&workers);
    let stranger = submit(&mut hand, 1, |_| {}).unwrap();
    assert_eq!(stranger.kind(), ErrorKind::QuotaExceeded, "from the first job");
    assert_eq!(stranger.retry_after(), None, "tomorrow is no better");

    let limits = TenantLimits { daily_tokens: Some(1_000), ..TenantLimits::default() };
    let record = TenantRecord { id: acme(), limits, keys: Vec::new(), used_tokens: 0 };
    hand.command(Command::PutTenant(Box::new(record.clone()))).unwrap();
    assert_eq!(hand.engine.tenants(), [record], "its record is its own limits");
    assert_eq!(submit(&mut hand, 2, |_| {}), None);
    let error = submit(&mut hand, 3, |_| {}).unwrap();
    assert!(error.message().contains("1 jobs at once; allowed are 1"), "{error}");
    let shown = hand.engine.view().tenant(&acme()).unwrap();
    assert_eq!(shown.limits.concurrent_jobs, Some(1));
}

#[test]
fn a_tenant_that_fills_the_queue_does_not_lock_out_another() {
    let mut hand = Hand::new(Settings { queue_capacity: 4, ..Settings::default() });
    let workers = [worker(1, 0, 1)];
    hand.hive(0, parts::added());
    hand.report(0, 1, &workers);
    hand.connect(&workers);
    for n in 1..=5 {
        assert_eq!(submit(&mut hand, n, |_| {}), None, "one runs and four wait");
    }
    let refused = |hand: &mut Hand, n, tenant: &str| {
        let error = submit(hand, n, |job| job.tenant = Some(TenantId::new(tenant).unwrap()));
        error.map(|error| error.kind())
    };
    let full = Some(ErrorKind::SystemAtCapacity);
    assert_eq!(refused(&mut hand, 6, "acme"), full);
    assert_eq!(refused(&mut hand, 7, "bob"), None);
    assert_eq!(refused(&mut hand, 8, "bob"), None);
    assert_eq!(refused(&mut hand, 9, "bob"), full, "half of the queue is its share");
    assert_eq!(refused(&mut hand, 10, "carol"), None);
    assert_eq!(refused(&mut hand, 11, "carol"), full, "a third of it, rounded down");
    assert_eq!(refused(&mut hand, 12, "dave"), None);
    assert_eq!(refused(&mut hand, 13, "eve"), full, "twice the limit is the end");
}

#[test]
fn a_job_that_is_tried_again_is_charged_to_its_tenants_share_once() {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    for n in 1..=12 {
        let tenant = if n % 2 == 0 { "steady" } else { "unlucky" };
        let mut job = parts::job(n, parts::model(0));
        job.tenant = Some(TenantId::new(tenant).unwrap());
        hand.submit(job);
    }
    let (mut tried, mut order) = (BTreeSet::new(), Vec::new());
    let mut running = hand.first_leases.values().next().map(|lease| (*lease, parts::job_id(1)));
    while let Some((lease, job)) = running {
        let n = (1..=12).find(|n| parts::job_id(*n) == job).unwrap();
        if n % 2 == 1 && tried.insert(n) {
            hand.fail(lease, ErrorKind::WorkerBusy);
        } else {
            hand.wait(Duration::from_secs(1));
            end(&mut hand, lease, 257);
            order.push(n);
        }
        running = hand.starts().first().map(|(lease, job, _)| (*lease, *job));
        if running.is_none() && order.len() < 12 {
            hand.wait(Duration::from_secs(1));
            running = hand.starts().first().map(|(lease, job, _)| (*lease, *job));
        }
    }
    assert_eq!(order.len(), 12);
    for end in 1..=12 {
        let steady = order[..end].iter().filter(|n| **n % 2 == 0).count();
        assert!(steady.abs_diff(end - steady) <= 2, "{order:?}");
    }
}

#[test]
fn a_platform_serves_tenants_alone_and_holds_them_to_its_own_limits() {
    let default_limits = TenantLimits { concurrent_jobs: Some(1), ..TenantLimits::default() };
    let settings = Settings { mode: Mode::Platform, default_limits, ..Settings::default() };
    let mut hand = Hand::new(settings);
    let workers = [worker(1, 0, 8)];
    hand.hive(0, parts::added());
    hand.report(0, 1, &workers);
    hand.connect(&workers);
    let error = submit(&mut hand, 1, |job| job.tenant = None).unwrap();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(submit(&mut hand, 2, |_| {}), None);
    let lease = hand.start().0;
    assert_eq!(submit(&mut hand, 3, |_| {}).unwrap().kind(), ErrorKind::QuotaExceeded);
    hand.done(lease);
    assert!(hand.engine.is_quiet());
}

#[test]
fn a_tenant_with_jobs_is_not_removed_and_a_change_holds_when_it_is_recorded() {
    let mut hand = with(TenantLimits::default(), 0);
    assert_eq!(submit(&mut hand, 1, |_| {}), None);
    let lease = hand.start().0;
    hand.feed(Input::Command { n: 1, command: Command::RemoveTenant(acme()) });
    let answer = |hand: &Hand| {
        hand.effects.iter().find_map(|effect| match effect {
            Effect::Answer { result, .. } => Some(result.clone()),
            _ => None,
        })
    };
    assert_eq!(answer(&hand).unwrap().unwrap_err().kind(), ErrorKind::Conflict);
    hand.done(lease);

    hand.records = false;
    let limits = TenantLimits { concurrent_jobs: Some(0), ..TenantLimits::default() };
    let record = TenantRecord { id: acme(), limits, keys: Vec::new(), used_tokens: 0 };
    let command = Command::PutTenant(Box::new(record));
    hand.feed(Input::Command { n: 2, command });
    assert_eq!(answer(&hand), None);
    let n = hand.effects.iter().find_map(|effect| match effect {
        Effect::Record { n, .. } => *n,
        _ => None,
    });
    assert_eq!(submit(&mut hand, 2, |_| {}), None, "it does not hold yet");
    hand.feed(Input::Recorded { n: n.unwrap(), result: Ok(()) });
    assert_eq!(answer(&hand), Some(Ok(CommandOutput::Done)));
    assert_eq!(submit(&mut hand, 3, |_| {}).unwrap().kind(), ErrorKind::QuotaExceeded);
}
