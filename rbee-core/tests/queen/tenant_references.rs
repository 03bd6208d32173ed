//! Models that tenants name by reference: refused by default; if allowed, downloaded without the operator's token and
//! within a budget.

use std::{path::Path, sync::Arc, time::Duration};

use crate::hub::{COMMIT, Fault, HubServer, TOKEN, weights};
use rbee_core::{
    Error, ErrorKind, HiveId, InProcessHive, ModelRef, Queen, Request, Result, Settings, TenantId,
    Worker, WorkerId, WorkerSpec, async_trait,
    hive::{Progress, WorkerFactory},
    models::{Hub, HubToken, ModelOnDisk, ModelStore, StoreOptions},
    settings::TenantReferences,
    tenant::TenantLimits,
    worker::EchoWorker,
};

/// Loads any model on the disk.
#[derive(Debug)]
struct Loads;

#[async_trait]
impl WorkerFactory for Loads {
    async fn load(
        &self,
        id: WorkerId,
        hive: &HiveId,
        spec: &WorkerSpec,
        _: Progress,
    ) -> Result<Arc<dyn Worker>> {
        Ok(EchoWorker::builder(spec.model.clone()).id(id).hive(hive.clone()).build())
    }

    async fn inspect(&self, model: &ModelRef, _: Option<&Path>) -> Result<ModelOnDisk> {
        Ok(ModelOnDisk::new(model.clone(), 1))
    }
}

struct Place {
    server: HubServer,
    store: ModelStore,
    queen: Queen,
    dir: tempfile::TempDir,
}

impl Place {
    /// A queen with a token, on a machine with a store, and a hub with `bee/tiny` and three more repositories of 1,000
    /// bytes each.
    async fn new(references: TenantReferences, budget: Option<u64>) -> Self {
        let (server, dir) = (HubServer::with_model(10), tempfile::tempdir().unwrap());
        for repo in ["bee/one", "bee/two", "bee/three"] {
            server.put(repo, "model.gguf", weights(repo.len() as u64, 1_000));
        }
        let hub_cache = Some(dir.path().join("hub"));
        let options = StoreOptions { hub_cache, head_room: 0, ..StoreOptions::default() };
        let store = ModelStore::open(dir.path().join("store"), options).unwrap();
        let settings = Settings {
            tenant_references: references,
            tenant_models_budget: budget,
            min_loaded: Duration::ZERO,
            ..Settings::default()
        };
        let hub = hub(&server, dir.path(), false);
        let queen = queen(&store, hub, settings).await;
        Self { server, store, queen, dir }
    }

    /// Another queen on the same disk, in offline mode.
    async fn go_offline(&mut self) {
        let settings = self.queen.settings().clone();
        self.unload().await;
        self.queen = queen(&self.store, hub(&self.server, self.dir.path(), true), settings).await;
    }

    /// All names of models that the operator has and the hub does not give to the tenant.
    async fn private(&self) -> Vec<String> {
        let mut names = Vec::new();
        for repo in ["bee/one", "bee/tiny"] {
            self.ask(None, &format!("hf:{repo}")).await.unwrap();
            names
                .push(self.queen.models().locate(&format!("hf:{repo}")).await.unwrap().to_string());
            names.extend(["", "@main"].map(|revision| format!("hf:{repo}{revision}")));
            names.push(format!("hf:{repo}@{COMMIT}"));
        }
        let with_file = ["", "@main", "@0123456789abcdef0123456789abcdef01234567"];
        names.extend(with_file.map(|revision| format!("hf:bee/one{revision}::file=model.gguf")));
        names
    }

    async fn ask(&self, tenant: Option<&str>, model: &str) -> Result<String> {
        let mut request = Request::chat(model).user("hi").max_tokens(1);
        if let Some(tenant) = tenant {
            request = request.tenant(TenantId::new(tenant).unwrap());
        }
        let answer = async { Ok(self.queen.submit(request).await?.answer().await?.text) };
        tokio::time::timeout(Duration::from_secs(30), answer).await.unwrap()
    }

    /// Whether any request had a token, and whether all had one.
    fn tokens(&self) -> (bool, bool) {
        let seen: Vec<_> = self.server.seen().into_iter().filter(|seen| !seen.cdn).collect();
        assert!(!seen.is_empty(), "the hub was not asked");
        (seen.iter().any(|seen| seen.token), seen.iter().all(|seen| seen.token))
    }

    fn stored(&self) -> Vec<String> {
        let models = self.store.models().into_iter();
        models.map(|one| one.model.as_str().split('@').next().unwrap().to_owned()).collect()
    }

    /// Stops all workers, so that no model is in use.
    async fn unload(&self) {
        let gone = async {
            loop {
                let cluster = self.queen.cluster().await.unwrap();
                let workers: Vec<_> = cluster.workers().map(|worker| worker.info.id).collect();
                if workers.is_empty() {
                    return;
                }
                for worker in workers {
                    let _ = self.queen.fleet().unload(worker).await;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
    }
}

fn hub(server: &HubServer, dir: &Path, offline: bool) -> Hub {
    Hub::builder()
        .endpoint(server.endpoint())
        .cache(dir.join("hub"))
        .token(Some(HubToken::new(TOKEN).unwrap()))
        .stall(Duration::from_secs(5))
        .offline(offline)
        .build()
        .unwrap()
}

async fn queen(store: &ModelStore, hub: Hub, settings: Settings) -> Queen {
    let hive = InProcessHive::new().with_store(store.clone()).with_factory(Loads);
    let queen = Queen::builder().hive(hive).hub(hub).settings(settings);
    queen.alias("tiny", "hf:bee/tiny").build().await.unwrap()
}

fn told(error: &Error) -> String {
    error.redacted().message().to_owned()
}

#[tokio::test]
async fn a_tenant_may_name_no_reference_and_is_told_what_it_may_name() {
    let place = Place::new(TenantReferences::Off, None).await;
    for model in ["hf:bee/one", "file:/etc/passwd", "hf:bee/tiny"] {
        let error = place.ask(Some("acme"), model).await.unwrap_err();
        assert_eq!((error.kind(), error.param()), (ErrorKind::PermissionDenied, Some("model")));
        let told = told(&error);
        assert!(told.contains(model) && told.contains("allowed is tiny"), "{told}");
    }
    assert!(place.server.seen().is_empty(), "the hub was not asked");
    place.ask(Some("acme"), "tiny").await.unwrap();
    place.ask(None, "hf:bee/one").await.unwrap();
    assert_eq!(place.tokens(), (true, true), "both are the operator's models");
}

#[tokio::test]
async fn a_reference_in_a_tenants_limits_is_the_operators_word() {
    let place = Place::new(TenantReferences::Off, None).await;
    let models = Some(["hf:bee/one".to_owned()].into());
    let limits = TenantLimits { models, ..TenantLimits::default() };
    place.queen.tenants().put(TenantId::new("acme").unwrap(), limits).await.unwrap();
    place.ask(Some("acme"), "hf:bee/one").await.unwrap();
    assert_eq!(place.tokens(), (true, true));
    for other in ["tiny", "hf:bee/two", "hf:bee/one@main", "hf:bee/one::file=other.gguf"] {
        let error = place.ask(Some("acme"), other).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{other}");
        assert!(told(&error).contains("allowed is hf:bee/one"), "{error}");
    }
}

#[tokio::test]
async fn an_opt_in_does_not_widen_the_limits_of_a_tenant_whose_models_are_named() {
    let place = Place::new(TenantReferences::WithHubToken, Some(5_000)).await;
    let models = Some(["tiny".to_owned()].into());
    let limits = TenantLimits { models, ..TenantLimits::default() };
    place.queen.tenants().put(TenantId::new("acme").unwrap(), limits).await.unwrap();
    let error = place.ask(Some("acme"), "hf:bee/one").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    place.ask(Some("other"), "hf:bee/one").await.unwrap();
}

#[tokio::test]
async fn a_tenants_reference_is_fetched_without_the_operators_token() {
    let place = Place::new(TenantReferences::Public, Some(5_000)).await;
    place.ask(Some("acme"), "hf:bee/one").await.unwrap();
    assert_eq!(place.tokens(), (false, false));
    // The tenant does not get a model that is not public, but it still gets an alias of the operator.
    place.server.gate(true);
    let error = place.ask(Some("acme"), "hf:bee/two").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(told(&error), "the hub does not give this model to the service");
    assert_eq!(place.tokens(), (false, false));
    place.ask(Some("acme"), "tiny").await.unwrap();
    assert_eq!(place.tokens(), (true, false));
}

#[tokio::test]
async fn an_answer_of_the_hub_to_the_operator_is_none_to_a_tenant() {
    let place = Place::new(TenantReferences::Public, Some(5_000)).await;
    place.server.gate(true);
    let pinned = place.queen.models().locate("hf:bee/two").await.unwrap();
    assert!(pinned.as_str().contains('@'));
    let error = place.ask(Some("acme"), "hf:bee/two").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "it is asked again, without a token");
}

#[tokio::test]
async fn a_private_model_that_the_operator_has_is_no_tenants_by_any_name() {
    let place = Place::new(TenantReferences::Public, Some(5_000)).await;
    place.server.gate(true);
    let names = place.private().await;
    for is_loaded in [true, false] {
        if !is_loaded {
            place.unload().await;
        }
        for name in &names {
            let error = place.ask(Some("acme"), name).await.expect_err(name);
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{name}");
        }
    }
    place.ask(Some("acme"), "tiny").await.unwrap();
}

#[tokio::test]
async fn a_gated_model_that_the_hub_describes_to_everybody_is_no_tenants_by_any_name() {
    let place = Place::new(TenantReferences::Public, Some(5_000)).await;
    place.server.gate_files(true);
    for name in &place.private().await {
        let error = place.ask(Some("acme"), name).await.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{name}");
    }
    place.server.gate_files(false);
    place.ask(Some("acme"), "hf:bee/one").await.unwrap();
}

#[tokio::test]
async fn an_outage_of_the_hub_gives_a_tenant_no_model_of_the_operators() {
    let place = Place::new(TenantReferences::Public, Some(5_000)).await;
    for name in &place.private().await {
        place.server.fail("info", &[Fault::Status(429, Some(1_000))]);
        let error = place.ask(Some("acme"), name).await.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::HubUnreachable, "{name}");
    }
    place.ask(Some("acme"), "hf:bee/one").await.unwrap();
}

#[tokio::test]
async fn offline_a_tenant_has_the_operators_aliases_and_no_other_model() {
    let mut place = Place::new(TenantReferences::Public, Some(5_000)).await;
    let names = place.private().await;
    place.go_offline().await;
    for name in &names {
        place.ask(None, name).await.unwrap();
        let error = place.ask(Some("acme"), name).await.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::ModelNotFound, "{name}");
    }
    place.ask(Some("acme"), "tiny").await.unwrap();
}

#[tokio::test]
async fn the_operators_token_is_used_for_tenants_where_that_is_opted_into() {
    let place = Place::new(TenantReferences::WithHubToken, Some(5_000)).await;
    place.server.gate(true);
    place.ask(Some("acme"), "hf:bee/one").await.unwrap();
    assert_eq!(place.tokens(), (true, true));
}

#[tokio::test]
async fn models_of_tenants_stay_within_their_budget_and_leave_the_operators_alone() {
    let place = Place::new(TenantReferences::Public, Some(1_500)).await;
    place.ask(None, "hf:bee/three").await.unwrap();
    place.ask(Some("acme"), "hf:bee/one").await.unwrap();
    // The model is in use, so it is not evicted.
    let error = place.ask(Some("other"), "hf:bee/two").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage, "{error:?}");
    let said = told(&error);
    assert!(said.contains("1500 bytes in all") && said.contains("list of models"), "{said}");
    assert!(!said.contains("machine"), "{said}");
    assert_eq!(place.stored(), ["hf:bee/one", "hf:bee/three"]);
    place.unload().await;
    place.ask(Some("other"), "hf:bee/two").await.unwrap();
    assert_eq!(place.stored(), ["hf:bee/three", "hf:bee/two"], "its own made room, used or not");
}

#[tokio::test]
async fn a_model_larger_than_the_whole_budget_is_refused_and_nothing_is_written_for_it() {
    let place = Place::new(TenantReferences::Public, Some(999)).await;
    let error = place.ask(Some("acme"), "hf:bee/one").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage, "{error:?}");
    assert!(place.stored().is_empty());
    place.ask(None, "hf:bee/one").await.unwrap();
}

#[tokio::test]
async fn a_download_for_a_tenant_that_fails_leaves_nothing_on_the_disk() {
    let place = Place::new(TenantReferences::Public, Some(5_000)).await;
    let left = |repo: &str| {
        let blobs = place.dir.path().join(format!("hub/models--bee--{repo}/blobs"));
        let blobs = std::fs::read_dir(blobs).unwrap().count();
        let damaged = std::fs::read_dir(place.store.damaged()).into_iter().flatten().count();
        (blobs, damaged)
    };
    for (repo, faults, kind) in [
        ("one", &[Fault::Cut(500), Fault::Status(404, None)][..], ErrorKind::ModelNotFound),
        ("two", &[Fault::Corrupt], ErrorKind::ModelIncompatible),
    ] {
        place.server.fail("model.gguf", faults);
        let error = place.ask(Some("acme"), &format!("hf:bee/{repo}")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert_eq!(left(repo), (0, 0), "{repo}");
    }
    place.ask(Some("acme"), "hf:bee/one").await.unwrap();
}
