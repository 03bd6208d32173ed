//! Tenants of a running queen: created, given keys, limited, and restored after a restart.

use std::{pin::pin, task::Poll, time::Duration};

use crate::queen_support::{echo, quiet, read, request};
use rbee_core::{
    ErrorKind, MemoryRegistry, Priority, Queen, Registry, Request, Settings, SqliteRegistry,
    TenantId,
    queen::TenantSummary,
    registry::JobFilter,
    settings::Mode,
    tenant::TenantLimits,
    time::WallTime,
    worker::{EchoGate, EchoWorker},
};

fn acme() -> TenantId {
    TenantId::new("acme").unwrap()
}

/// The day (UTC) that usage counts for. Usage of one day says nothing about another, so a test that runs past midnight
/// compares no usage.
fn today() -> u64 {
    WallTime::now().as_millis() / (24 * 3600 * 1000)
}

/// The same tenant without its usage.
fn unused(tenant: &TenantSummary) -> TenantSummary {
    TenantSummary { used_today: 0, ..tenant.clone() }
}

fn models(names: &[&str]) -> TenantLimits {
    let names = names.iter().map(|name| (*name).to_owned());
    TenantLimits { models: Some(names.collect()), ..TenantLimits::default() }
}

async fn open(path: &std::path::Path) -> Queen {
    Queen::builder()
        .id("q".parse().unwrap())
        .registry(SqliteRegistry::open(path).unwrap())
        .worker(echo().build())
        .build()
        .await
        .unwrap()
}

#[tokio::test]
async fn limits_keys_and_usage_survive_a_restart_and_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    for is_crash in [false, true] {
        let path = dir.path().join(format!("{is_crash}.db"));
        let (queen, day) = (open(&path).await, today());
        let limits = TenantLimits { daily_tokens: Some(1_000_000), ..TenantLimits::default() };
        queen.tenants().put(acme(), limits.clone()).await.unwrap();
        let key = queen.tenants().issue_key(&acme(), "laptop").await.unwrap();
        read(queen.submit(request(1, 9).tenant(acme())).await.unwrap()).await.assert_whole(1, 9);
        quiet(&queen).await;
        let before = queen.tenants().get(&acme()).await.unwrap();
        match is_crash {
            true => queen.crash(),
            false => queen.hand_over().await.unwrap(),
        }
        drop(queen);

        let queen = open(&path).await;
        let after = queen.tenants().get(&acme()).await.unwrap();
        assert_eq!(unused(&after), unused(&before));
        assert_eq!(queen.tenants().list().await.unwrap().len(), 1);
        assert_eq!((&after.limits, after.keys[0].label.as_str()), (&limits, "laptop"));
        assert_eq!(queen.tenants().of_key(key.reveal()), Some(acme()));
        let used = before.used_today;
        let limits = TenantLimits { daily_tokens: Some(used), ..limits };
        queen.tenants().put(acme(), limits).await.unwrap();
        let refused = queen.submit(request(2, 9).tenant(acme())).await.map(drop);
        if day == today() {
            assert!(used >= 9 && after.used_today == used, "{before:?} {after:?}");
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::QuotaExceeded);
        }
        quiet(&queen).await;
        queen.tenants().remove(&acme()).await.unwrap();
        assert_eq!(queen.tenants().of_key(key.reveal()), None);
        assert_eq!(queen.tenants().get(&acme()).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn a_job_that_a_crash_interrupts_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let (path, gate, day) = (dir.path().join("rbee.db"), EchoGate::new(), today());
    let building = Queen::builder()
        .id("q".parse().unwrap())
        .registry(SqliteRegistry::open(&path).unwrap())
        .worker(echo().gate(&gate).build());
    let queen = building.build().await.unwrap();
    queen.tenants().put(acme(), TenantLimits::default()).await.unwrap();
    let request = |seed| request(seed, 9).tenant(acme());
    let first = queen.submit(request(1)).await.unwrap();
    gate.release(9);
    read(first).await.assert_whole(1, 9);
    let once = queen.tenants().get(&acme()).await.unwrap().used_today;
    let second = queen.submit(request(2).detached()).await.unwrap().detach();
    gate.release(4);
    queen.crash();
    drop(queen);

    let queen = open(&path).await;
    assert_eq!(*queen.status().await.unwrap().restored, [second]);
    read(queen.attach(second, None).await.unwrap()).await;
    quiet(&queen).await;
    let twice = queen.tenants().get(&acme()).await.unwrap();
    if day == today() {
        assert_eq!(twice.used_today, 2 * once);
    }
    assert_eq!(twice.live_jobs, 0);
}

#[tokio::test]
async fn a_revocation_is_made_whole_though_its_client_goes_away() {
    let registry = MemoryRegistry::new();
    let building = Queen::builder().registry(registry.clone()).worker(echo().build());
    let queen = building.build().await.unwrap();
    queen.tenants().put(acme(), TenantLimits::default()).await.unwrap();
    let stored = async || {
        let found = registry.open(&"looker".parse().unwrap(), Duration::from_secs(30)).await;
        found.unwrap().tenants.remove(0).keys
    };
    let acme = acme();
    for polls in 1.. {
        let key = queen.tenants().issue_key(&acme, "").await.unwrap();
        let is_done = {
            let mut revoking = pin!(queen.tenants().revoke_key(&acme, key.hash()));
            let mut is_done = false;
            for _ in 0..polls {
                is_done =
                    std::future::poll_fn(|cx| Poll::Ready(revoking.as_mut().poll(cx).is_ready()))
                        .await;
                if is_done {
                    break;
                }
                tokio::task::yield_now().await;
            }
            is_done
        };
        // A change waits for the one before, so what was left half-way is over then.
        let next = queen.tenants().issue_key(&acme, "next").await.unwrap();
        assert_eq!(queen.tenants().of_key(key.reveal()), None, "after {polls} polls");
        let keys = stored().await;
        assert!(keys.iter().all(|one| one.hash != key.hash()), "after {polls} polls: {keys:?}");
        queen.tenants().revoke_key(&acme, next.hash()).await.unwrap();
        if is_done {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn queens_on_one_store_learn_of_each_others_tenants_and_keys() {
    let registry = MemoryRegistry::new();
    let build = async |name: &str| {
        let building = Queen::builder().id(name.parse().unwrap()).registry(registry.clone());
        building.worker(echo().build()).build().await.unwrap()
    };
    let (one, two) = (build("one").await, build("two").await);
    let beat = || tokio::time::sleep(one.settings().owner_lease / 2);
    let limits = TenantLimits { concurrent_jobs: Some(3), ..TenantLimits::default() };
    one.tenants().put(acme(), limits.clone()).await.unwrap();
    let key = one.tenants().issue_key(&acme(), "").await.unwrap();
    beat().await;
    assert_eq!(two.tenants().of_key(key.reveal()), Some(acme()));
    assert_eq!(two.tenants().limits_of(&acme()), limits);
    let held = two.cluster().await.unwrap().tenant(&acme()).unwrap().limits.clone();
    assert_eq!(*held, limits, "what is held to is what is said");

    one.tenants().revoke_key(&acme(), key.hash()).await.unwrap();
    beat().await;
    assert_eq!(two.tenants().of_key(key.reveal()), None);
    let key = two.tenants().issue_key(&acme(), "").await.unwrap();
    beat().await;
    assert_eq!(one.tenants().of_key(key.reveal()), Some(acme()));
    one.tenants().remove(&acme()).await.unwrap();
    beat().await;
    assert_eq!(two.tenants().of_key(key.reveal()), None);
    assert_eq!(two.tenants().list().await.unwrap(), []);
}

#[tokio::test]
async fn an_alias_in_the_limits_means_whatever_it_stands_for() {
    let registry = MemoryRegistry::new();
    let build = async |settings: Settings, small: &str| {
        let worker = |model: &str| EchoWorker::builder(model.parse().unwrap()).build();
        let building = Queen::builder()
            .id("q".parse().unwrap())
            .registry(registry.clone())
            .settings(settings)
            .worker(worker("one"))
            .worker(worker("two"))
            .alias("small", small);
        building.build().await
    };
    let ask = async |queen: &Queen, tenant: &TenantId, model: &str| {
        let request = Request::chat(model).user("Hi").max_tokens(2).tenant(tenant.clone());
        queen.submit(request).await.map(drop)
    };
    let stranger = TenantId::new("stranger").unwrap();
    let default_limits = models(&["small"]);
    let settings = Settings { default_limits, ..Settings::default() };
    for (stands_for, other) in [("one", "two"), ("two", "one")] {
        let queen = build(settings.clone(), stands_for).await.unwrap();
        if stands_for == "one" {
            queen.tenants().put(acme(), models(&["small"])).await.unwrap();
        }
        for tenant in [acme(), stranger.clone()] {
            ask(&queen, &tenant, "small").await.unwrap();
            ask(&queen, &tenant, stands_for).await.unwrap();
            let error = ask(&queen, &tenant, other).await.unwrap_err();
            assert_eq!((error.kind(), error.param()), (ErrorKind::PermissionDenied, Some("model")));
            assert_eq!(
                error.message(),
                format!("model {other} is not for tenant {tenant}; allowed is small")
            );
        }
        // Another change does not write down what the names stand for.
        queen.tenants().issue_key(&acme(), "").await.unwrap();
        assert_eq!(queen.tenants().get(&acme()).await.unwrap().limits, models(&["small"]));
        queen.hand_over().await.unwrap();
    }
    let unknown = Settings { default_limits: models(&["a b"]), ..Settings::default() };
    let error = build(unknown, "one").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().starts_with("setting default_limits: models: "), "{error}");
}

#[tokio::test]
async fn requests_that_belong_together_are_admitted_all_or_none() {
    let gate = EchoGate::new();
    let settings = Settings { queue_capacity: 4, ..Settings::default() };
    let building = Queen::builder().settings(settings).worker(echo().slots(2).gate(&gate).build());
    let queen = building.build().await.unwrap();
    let some = async |n: u64, limits: &TenantLimits| {
        queen.tenants().put(acme(), limits.clone()).await.unwrap();
        queen.submit_all((0..n).map(|seed| request(seed, 9).tenant(acme()))).await
    };
    let count = async || queen.jobs(&JobFilter::default()).await.unwrap().len();
    // The duration of a job must be known.
    gate.release(9);
    let first = some(1, &TenantLimits::default()).await.unwrap().remove(0);
    read(first).await.assert_whole(0, 9);

    let limits = TenantLimits { concurrent_jobs: Some(3), ..TenantLimits::default() };
    let error = some(4, &limits).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::QuotaExceeded, None));
    assert_eq!(error.message(), "the request makes 4 jobs; tenant acme is allowed 3 at once");
    let a_minute = TenantLimits { requests_per_minute: Some(3), ..TenantLimits::default() };
    let error = some(4, &a_minute).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::RateLimited, None));
    let batch = TenantLimits { priorities: Some([Priority::Batch].into()), ..limits.clone() };
    assert_eq!(some(2, &batch).await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(count().await, 1, "nothing was recorded of what was refused");

    let two = some(2, &limits).await.unwrap();
    let error = some(2, &limits).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    assert!(error.retry_after().is_some(), "there is room when the others have ended");
    let three = some(3, &TenantLimits::default()).await.unwrap();
    let error = some(2, &TenantLimits::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SystemAtCapacity);
    assert_eq!(count().await, 6, "nothing was recorded of what was refused");
    gate.open();
    for (seed, handle) in two.into_iter().chain(three).enumerate() {
        let seed = if seed < 2 { seed } else { seed - 2 };
        read(handle).await.assert_whole(seed as u64, 9);
    }
    quiet(&queen).await;
    assert_eq!(queen.tenants().get(&acme()).await.unwrap().live_jobs, 0);
}

#[tokio::test]
async fn a_repeat_of_requests_that_belong_together_is_the_same_jobs() {
    let queen = Queen::builder().worker(echo().build()).build().await.unwrap();
    let limits = TenantLimits { requests_per_minute: Some(3), ..TenantLimits::default() };
    queen.tenants().put(acme(), limits).await.unwrap();
    let some = || {
        let keyed = |seed| request(seed, 9).tenant(acme()).idempotency_key(format!("k#{seed}"));
        queen.submit_all((0..3).map(keyed))
    };
    let ids =
        |handles: &[rbee_core::JobHandle]| handles.iter().map(|one| one.id()).collect::<Vec<_>>();
    let first = some().await.unwrap();
    let again = some().await.unwrap();
    assert_eq!(ids(&first), ids(&again));
    for (seed, handle) in again.into_iter().enumerate() {
        read(handle).await.assert_whole(seed as u64, 9);
    }
    assert_eq!(ids(&some().await.unwrap()), ids(&first));
}

#[tokio::test]
async fn a_key_is_known_until_it_is_revoked_and_shows_itself_once() {
    let dir = tempfile::tempdir().unwrap();
    let queen = open(&dir.path().join("rbee.db")).await;
    let error = queen.tenants().issue_key(&acme(), "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    queen.tenants().put(acme(), TenantLimits::default()).await.unwrap();
    let (one, two) = (
        queen.tenants().issue_key(&acme(), "one").await.unwrap(),
        queen.tenants().issue_key(&acme(), "two").await.unwrap(),
    );
    assert!(one.reveal().len() >= 69 && one != two);
    let shown = format!("{one:?} {:?}", queen.tenants().list().await.unwrap());
    assert!(!shown.contains(&one.reveal()[5..]), "{shown}");
    assert_eq!(queen.tenants().of_key(&one.reveal()[..40]), None);

    assert_eq!(
        queen.tenants().revoke_key(&acme(), "").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    queen.tenants().revoke_key(&acme(), &one.hash()[..12]).await.unwrap();
    assert_eq!(queen.tenants().of_key(one.reveal()), None);
    assert_eq!(queen.tenants().of_key(two.reveal()), Some(acme()));
    for n in 1..16 {
        queen.tenants().issue_key(&acme(), &n.to_string()).await.unwrap();
    }
    assert_eq!(
        queen.tenants().issue_key(&acme(), "").await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
}

#[tokio::test]
async fn a_limit_that_cannot_be_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let queen = open(&dir.path().join("rbee.db")).await;
    for (limits, name) in [
        (TenantLimits { weight: 0, ..TenantLimits::default() }, "weight"),
        (
            TenantLimits { tokens_per_minute: Some(0), ..TenantLimits::default() },
            "tokens_per_minute",
        ),
        (TenantLimits { models: Some(["a b".into()].into()), ..TenantLimits::default() }, "models"),
    ] {
        let error = queen.tenants().put(acme(), limits).await.unwrap_err();
        assert_eq!((error.kind(), error.param()), (ErrorKind::InvalidRequest, Some(name)));
    }
    assert_eq!(queen.tenants().list().await.unwrap(), []);
}

#[tokio::test]
async fn what_waits_on_a_platform_does_not_outlast_the_tokens_of_the_day() {
    for (mode, name) in [(Mode::Platform, "platform"), (Mode::Home, "least-loaded")] {
        let gate = EchoGate::new();
        let queen = Queen::builder()
            .settings(Settings { mode, ..Settings::default() })
            .worker(echo().slots(1).gate(&gate).build())
            .build()
            .await
            .unwrap();
        assert_eq!(
            (queen.policy().status().name.as_str(), queen.policy().status().is_fixed),
            (name, name == "platform")
        );
        // The first job is expected to leave one token, and leaves none.
        let limits = TenantLimits { daily_tokens: Some(11), ..TenantLimits::default() };
        queen.tenants().put(acme(), limits).await.unwrap();
        let first = queen.submit(request(1, 9).tenant(acme())).await.unwrap();
        let second = queen.submit(request(2, 9).tenant(acme())).await.unwrap();
        gate.open();
        read(first).await.assert_whole(1, 9);
        let second = read(second).await;
        match mode {
            Mode::Platform => assert_eq!(second.error().kind(), ErrorKind::QuotaExceeded),
            Mode::Home => second.assert_whole(2, 9),
        }
        quiet(&queen).await;
    }
}
