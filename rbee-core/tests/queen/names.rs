//! Names of models: aliases and workers' names with slashes, colons and `:latest`.

use crate::queen_support::echo;
use rbee_core::{
    ErrorKind, Queen, Request, SqliteRegistry, TenantId, registry::JobFilter, tenant::TenantLimits,
    worker::EchoWorker,
};

fn worker(model: &str) -> std::sync::Arc<EchoWorker> {
    EchoWorker::builder(model.parse().unwrap()).build()
}

/// The model that a request for this name runs on.
async fn runs_on(queen: &Queen, name: &str) -> String {
    let handle = queen.submit(Request::chat(name).user("Hi").max_tokens(1)).await.unwrap();
    let id = handle.id();
    handle.answer().await.unwrap();
    let jobs = queen.jobs(&JobFilter::one(id)).await.unwrap();
    jobs[0].model.to_string()
}

#[tokio::test]
async fn latest_is_the_model_without_a_tag_unless_there_is_one_of_that_name() {
    let queen = Queen::builder()
        .worker(worker("plain"))
        .worker(worker("org/tagged"))
        .worker(worker("org/tagged:latest"))
        .alias("short", "plain")
        .build()
        .await
        .unwrap();
    for (name, model) in [
        ("plain", "plain"),
        ("plain:latest", "plain"),
        ("short:latest", "plain"),
        ("org/tagged", "org/tagged"),
        ("org/tagged:latest", "org/tagged:latest"),
    ] {
        assert_eq!(runs_on(&queen, name).await, model, "{name}");
    }
    let error = queen.submit(Request::chat("plain:3b").user("Hi")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ModelNotFound);
    // A name that must exist exactly is not looked up.
    assert_eq!(queen.models().alias("short:latest").unwrap().0, "short");
    assert!(queen.models().alias("plain").is_none());
}

#[tokio::test]
async fn a_tenant_with_a_model_has_it_with_latest_and_not_another_one_of_that_name() {
    let queen = Queen::builder()
        .worker(worker("plain"))
        .worker(worker("org/tagged"))
        .worker(worker("org/tagged:latest"))
        .build()
        .await
        .unwrap();
    let acme = TenantId::new("acme").unwrap();
    let models = ["plain", "org/tagged"].map(str::to_owned).into();
    let limits = TenantLimits { models: Some(models), ..TenantLimits::default() };
    queen.tenants().put(acme.clone(), limits.clone()).await.unwrap();
    let ask = |name: &str| queen.submit(Request::chat(name).user("Hi").tenant(acme.clone()));
    for name in ["plain", "plain:latest", "org/tagged"] {
        ask(name).await.unwrap().answer().await.unwrap();
    }
    let error = ask("org/tagged:latest").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    // As the limits name it.
    let limits = TenantLimits { models: Some(["plain:latest".into()].into()), ..limits };
    queen.tenants().put(acme.clone(), limits).await.unwrap();
    ask("plain:latest").await.unwrap().answer().await.unwrap();
}

#[tokio::test]
async fn an_alias_that_is_none_ends_the_start_with_its_reason() {
    for (name, why) in [
        ("hf:org/repo", "it begins with the scheme hf:"),
        ("/models/bee", "it looks like an absolute path"),
        ("gpt 4", "' ' is in it"),
    ] {
        let error = Queen::builder().alias(name, "echo").build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(name) && error.message().contains(why), "{error}");
    }
}

#[tokio::test]
async fn names_with_slashes_and_colons_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("queen.db");
    let acme = TenantId::new("acme").unwrap();
    let open = async || {
        let queen = Queen::builder().id("q".parse().unwrap()).worker(echo().build());
        let queen = queen.registry(SqliteRegistry::open(&path).unwrap());
        queen.worker(worker("org/model:3b")).alias("a/b:c", "echo").build().await.unwrap()
    };
    let queen = open().await;
    let models = ["a/b:c", "org/model:3b"].map(str::to_owned).into();
    let limits = TenantLimits { models: Some(models), ..TenantLimits::default() };
    queen.tenants().put(acme.clone(), limits.clone()).await.unwrap();
    let request = |name: &str| Request::chat(name).user("Hi").max_tokens(1).tenant(acme.clone());
    let handle = queen.submit(request("org/model:3b")).await.unwrap();
    let id = handle.id();
    handle.answer().await.unwrap();
    queen.shutdown(std::time::Duration::ZERO).await.unwrap();
    let queen = open().await;
    assert_eq!(queen.tenants().limits_of(&acme), limits);
    assert_eq!(queen.jobs(&JobFilter::one(id)).await.unwrap()[0].model.as_str(), "org/model:3b");
    queen.submit(request("a/b:c")).await.unwrap().answer().await.unwrap();
    queen.shutdown(std::time::Duration::ZERO).await.unwrap();
}
