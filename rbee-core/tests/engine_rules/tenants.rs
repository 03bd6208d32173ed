//! Tenants: what is within their limits is admitted, and no more; usage is counted once and by the day.

use std::time::Duration;

use rbee_core::{
    Error, ErrorKind, Finish, LeaseId, Mode, Priority, Settings, Snapshot, TenantId, TenantLimits,
    TenantRecord, Usage,
    engine::{AttemptEnd, AttemptResult, Command, Effect, HiveFact, Input},
};

use super::{
    hand::{Hand, worker},
    parts,
};

fn acme() -> TenantId {
    TenantId::new("acme").unwrap()
}

/// One worker with 8 slots, and a tenant with these limits that has used so many tokens today.
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

/// The job ends well, and has used so many tokens.
fn end(hand: &mut Hand, lease: LeaseId, tokens: u32) {
    let usage = Usage { prompt_tokens: 1, completion_tokens: tokens - 1 };
    let result = AttemptResult::Done { finish: Finish::Stop, usage };
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
fn no_more_jobs_at_once_than_allowed_and_none_is_counted_twice() {
    let limits = TenantLimits { concurrent_jobs: Some(2), ..TenantLimits::default() };
    let mut hand = with(limits, 0);
    assert_eq!(submit(&mut hand, 1, |_| {}), None);
    let lease = hand.start().0;
    assert_eq!(submit(&mut hand, 2, |_| {}), None);
    let error = submit(&mut hand, 3, |_| {}).unwrap();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    assert!(error.retry_after().is_some());
    assert_eq!(submit(&mut hand, 9, |job| job.tenant = None), None, "others are not concerned");
    hand.done(lease);
    assert_eq!(submit(&mut hand, 4, |_| {}), None);
    hand.feed(Input::Cancel { job: parts::job_id(2) });
    for lease in hand.first_leases.values().copied().collect::<Vec<_>>() {
        hand.done(lease);
    }
    assert!(submit(&mut hand, 5, |_| {}).is_some_and(|error| error.retry_after().is_some()));
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

#[test]
fn a_platform_serves_tenants_alone_and_holds_them_to_its_own_limits() {
    let default_limits = TenantLimits { concurrent_jobs: Some(1), ..TenantLimits::default() };
    let settings = Settings { mode: Mode::Platform, default_limits, ..Settings::default() };
    let mut hand = Hand::new(settings);
    let workers = [worker(1, 0, 8)];
    hand.hive(0, HiveFact::Added);
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
    assert_eq!(answer(&hand), Some(Ok(())));
    assert_eq!(submit(&mut hand, 3, |_| {}).unwrap().kind(), ErrorKind::QuotaExceeded);
}

#[test]
fn what_cannot_be_done_in_time_is_refused_at_once() {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    let far = Some(Duration::from_secs(1));
    assert_eq!(submit(&mut hand, 1, |job| job.deadline = far), None, "nothing is learned yet");
    let mut lease = hand.start().0;
    for n in 2..5 {
        assert_eq!(submit(&mut hand, n, |_| {}), None);
    }
    // Each takes ten seconds; the first misses its own deadline.
    hand.wait(Duration::from_millis(900));
    hand.done(lease);
    for _ in 0..2 {
        lease = hand.start().0;
        hand.wait(Duration::from_secs(10));
        hand.done(lease);
    }
    (5..9).for_each(|n| assert_eq!(submit(&mut hand, n, |_| {}), None));
    let error = submit(&mut hand, 9, |job| job.deadline = far).unwrap();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(error.message().contains("jobs wait before it for 1 slots"), "{error}");
    let near = Some(Duration::from_secs(100));
    assert_eq!(submit(&mut hand, 10, |job| job.deadline = near), None);
}
