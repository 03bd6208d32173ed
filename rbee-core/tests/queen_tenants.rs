//! Tenants of a running queen: set up, given keys, held to their limits, found again after a restart.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "sqlite")]

#[path = "support/queen.rs"]
mod queen_support;

use queen_support::{echo, quiet, read, request};
use rbee_core::{
    EchoGate, ErrorKind, Mode, Queen, Settings, SqliteRegistry, TenantId, TenantLimits,
};

fn acme() -> TenantId {
    TenantId::new("acme").unwrap()
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
async fn limits_keys_and_usage_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rbee.db");
    let queen = open(&path).await;
    let limits = TenantLimits { daily_tokens: Some(1_000_000), ..TenantLimits::default() };
    queen.put_tenant(acme(), limits.clone()).await.unwrap();
    let key = queen.issue_key(&acme(), "laptop").await.unwrap();
    read(queen.submit(request(1, 9).tenant(acme())).await.unwrap()).await.assert_whole(1, 9);
    quiet(&queen).await;
    let before = queen.tenants().await.unwrap();
    assert!(before[0].used_today >= 9, "{before:?}");
    queen.hand_over().await.unwrap();
    drop(queen);

    let queen = open(&path).await;
    assert_eq!(queen.tenants().await.unwrap(), before);
    assert_eq!((&before[0].limits, before[0].keys[0].label.as_str()), (&limits, "laptop"));
    assert_eq!(queen.tenant_of(key.reveal()), Some(acme()));
    let used = before[0].used_today;
    let limits = TenantLimits { daily_tokens: Some(used), ..limits };
    queen.put_tenant(acme(), limits).await.unwrap();
    let error = queen.submit(request(2, 9).tenant(acme())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    queen.remove_tenant(&acme()).await.unwrap();
    assert_eq!(queen.tenant_of(key.reveal()), None);
}

#[tokio::test]
async fn a_key_is_known_until_it_is_revoked_and_shows_itself_once() {
    let dir = tempfile::tempdir().unwrap();
    let queen = open(&dir.path().join("rbee.db")).await;
    let error = queen.issue_key(&acme(), "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    queen.put_tenant(acme(), TenantLimits::default()).await.unwrap();
    let (one, two) = (
        queen.issue_key(&acme(), "one").await.unwrap(),
        queen.issue_key(&acme(), "two").await.unwrap(),
    );
    assert!(one.reveal().len() >= 69 && one != two);
    let shown = format!("{one:?} {:?}", queen.tenants().await.unwrap());
    assert!(!shown.contains(&one.reveal()[5..]), "{shown}");
    assert_eq!(queen.tenant_of(&one.reveal()[..40]), None);

    assert_eq!(queen.revoke_key(&acme(), "").await.unwrap_err().kind(), ErrorKind::NotFound);
    queen.revoke_key(&acme(), &one.hash()[..12]).await.unwrap();
    assert_eq!(queen.tenant_of(one.reveal()), None);
    assert_eq!(queen.tenant_of(two.reveal()), Some(acme()));
    for n in 1..16 {
        queen.issue_key(&acme(), &n.to_string()).await.unwrap();
    }
    assert_eq!(queen.issue_key(&acme(), "").await.unwrap_err().kind(), ErrorKind::Conflict);
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
        let error = queen.put_tenant(acme(), limits).await.unwrap_err();
        assert_eq!((error.kind(), error.param()), (ErrorKind::InvalidRequest, Some(name)));
    }
    assert_eq!(queen.tenants().await.unwrap(), []);
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
            (queen.policy().name.as_str(), queen.policy().is_fixed),
            (name, name == "platform")
        );
        // The first job is expected to leave a token, and does not.
        let limits = TenantLimits { daily_tokens: Some(11), ..TenantLimits::default() };
        queen.put_tenant(acme(), limits).await.unwrap();
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
