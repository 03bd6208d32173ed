use std::sync::atomic::{AtomicUsize, Ordering};

use futures_core::stream::BoxStream;

use super::*;
use crate::{
    cluster::HiveView,
    engine_support::EngineSupport,
    hive::{HiveEvent, HiveInfo, HiveReport, InProcessHive, ModelHost},
    id::{Epoch, HiveId, WorkerId},
    load_request::LoadRequest,
    model_info::{ModelFormat, ModelKind},
    queen::Queen,
    settings::TenantReferences,
    test_gguf::GgufFile,
    worker::Worker,
    worker_spec::WorkerSpec,
};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const OLDER: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// A hub that answers after a delay, or fails.
#[derive(Debug, Default)]
struct Slow {
    asked: AtomicUsize,
    takes: Duration,
    fails: Mutex<Option<ErrorKind>>,
}

impl Slow {
    fn fail(&self, kind: ErrorKind) {
        *lock(&self.fails) = Some(kind);
    }
}

#[async_trait]
impl Pin for Arc<Slow> {
    async fn pin(&self, model: &ModelRef, _: bool) -> Result<ModelRef> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(self.takes).await;
        let fails = *lock(&self.fails);
        match fails {
            Some(kind) => Err(Error::new(kind, "no")),
            None => format!("{model}@{COMMIT}").parse(),
        }
    }
    async fn config(&self, _: &ModelRef, _: bool) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }
    async fn bytes(&self, model: &ModelRef) -> Result<u64> {
        Err(Error::new(ErrorKind::ModelNotFound, model.to_string()))
    }
    fn access(&self) -> HubAccess {
        HubAccess::default()
    }
}

fn models(takes: u64, fails: Option<ErrorKind>) -> (ModelLocator, Arc<Slow>) {
    let (asked, takes) = (AtomicUsize::default(), Duration::from_secs(takes));
    let hub = Arc::new(Slow { asked, takes, fails: Mutex::new(fails) });
    (ModelLocator::new(Some(Arc::new(hub.clone())), &Settings::default()), hub)
}

fn model(text: &str) -> ModelRef {
    text.parse().unwrap()
}

/// A fleet with an older commit on a disk.
fn with_older() -> ClusterView {
    holding(OLDER)
}

fn holding(commit: &str) -> ClusterView {
    let mut cluster = ClusterView::default();
    let older = model(&format!("hf:a/b@{commit}"));
    cluster.put_hive(HiveView {
        id: HiveId::local(),
        online: true,
        draining: false,
        devices: Arc::from([]),
        memory_budget: None,
        labels: Arc::default(),
        models: Arc::new([(older.clone(), ModelOnDisk::new(older, 1))].into()),
        engines: None,
        reserved: BTreeMap::new(),
    });
    cluster
}

/// A hive of another machine, without a store, that has every file itself.
#[derive(Debug)]
struct Elsewhere(InProcessHive, HiveInfo);

impl Elsewhere {
    fn new() -> Self {
        Self(InProcessHive::new(), HiveInfo::http(HiveId::local(), "elsewhere", 7835))
    }
}

#[async_trait]
impl ModelHost for Elsewhere {
    fn info(&self) -> &HiveInfo {
        &self.1
    }
    async fn provision(
        &self,
        model: &ModelRef,
        from: ModelOrigin,
        _: Progress,
    ) -> Result<ModelOnDisk> {
        match from {
            ModelOrigin::Here => Ok(ModelOnDisk::new(model.clone(), 7)),
            _ => Err(Error::new(ErrorKind::Unsupported, "there is no store")),
        }
    }
    async fn remove_model(&self, model: &ModelRef) -> Result<()> {
        self.0.remove_model(model).await
    }
}

#[async_trait]
impl HiveBackend for Elsewhere {
    async fn report(&self) -> Result<HiveReport> {
        self.0.report().await
    }
    async fn watch(&self, owner: Epoch) -> Result<BoxStream<'static, HiveEvent>> {
        self.0.watch(owner).await
    }
    async fn spawn(
        &self,
        id: WorkerId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> Result<Arc<dyn Worker>> {
        self.0.spawn(id, spec, progress).await
    }
    async fn worker(&self, id: WorkerId) -> Result<Arc<dyn Worker>> {
        self.0.worker(id).await
    }
    async fn stop(&self, id: WorkerId, grace: Duration) -> Result<()> {
        self.0.stop(id, grace).await
    }
    async fn shutdown(&self, grace: Duration) -> Result<()> {
        self.0.shutdown(grace).await
    }
}

#[tokio::test]
async fn a_file_of_another_machine_is_used_for_the_operator_and_not_for_a_tenant() {
    let hive: Arc<dyn HiveBackend> = Arc::new(Elsewhere::new());
    let put = async |models: &ModelLocator, model: &ModelRef| {
        models.put(&hive, model, Vec::new(), Readers::default(), Progress::ignore()).await
    };
    let settings =
        Settings { tenant_references: TenantReferences::WithHubToken, ..Settings::default() };
    let (models, none) = (ModelLocator::new(None, &settings), ClusterView::default());
    let file = model("file:/no/such/file/on/the/machine/of/the/queen");
    models.pinned(file.clone(), Grant::Tenant, &none).await.unwrap();
    assert_eq!(put(&models, &file).await.unwrap_err().kind(), ErrorKind::ModelNotFound);
    let there = tempfile::NamedTempFile::new().unwrap();
    let there = model(&format!("file:{}", there.path().display()));
    assert_eq!(put(&models, &there).await.unwrap_err().kind(), ErrorKind::Unsupported);
    models.pinned(file.clone(), Grant::Operator, &none).await.unwrap();
    assert_eq!(put(&models, &file).await.unwrap().bytes, 7);
    // If tenants may not use references, the operator has named or allowed every file.
    let closed = ModelLocator::new(None, &Settings::default());
    assert_eq!(put(&closed, &file).await.unwrap().bytes, 7);
}

#[tokio::test]
async fn an_estimate_for_a_missing_file_fails_only_if_no_hive_can_have_it() {
    let request = LoadRequest::new(model("file:/no/such/file/on/the/machine/of/the/queen"));
    let near = Queen::builder().hive(InProcessHive::new()).build().await.unwrap();
    let error = near.models().estimate(&request, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ModelNotFound, "{error}");
    let far = Queen::builder().hive(Elsewhere::new()).build().await.unwrap();
    far.models().estimate(&request, None).await.unwrap();
}

#[tokio::test]
async fn a_file_that_no_engine_of_the_hive_can_read_is_refused_before_it_is_copied() {
    let hive: Arc<dyn HiveBackend> = Arc::new(Elsewhere::new());
    let (models, directory) =
        (ModelLocator::new(None, &Settings::default()), tempfile::tempdir().unwrap());
    let path = directory.path().join("bee.gguf");
    let put = async |engines: Vec<EngineSupport>, kind: Option<ModelKind>| {
        let readers = Readers { engines: Some(engines.into()), kind: kind.map(Arc::new) };
        let file = model(&format!("file:{}", path.display()));
        models.put(&hive, &file, Vec::new(), readers, Progress::ignore()).await
    };
    // No tensors or values: a whole file.
    let bytes = GgufFile::empty().to_bytes();
    for content in [&bytes[..], b"GGUF and more"] {
        // Its kind comes from its header, and damage is found there too.
        std::fs::write(&path, content).unwrap();
        let error = put(vec![EngineSupport::candle()], None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ModelIncompatible, "{error}");
    }
    // The hive is asked only if it can read the model.
    let mut known = ModelKind::new(ModelFormat::Gguf);
    known.architecture = Some("mamba".into());
    let any = put(vec![EngineSupport::new("any")], Some(known.clone())).await;
    assert_eq!(any.unwrap().bytes, 7);
    let none = put(vec![EngineSupport::candle()], Some(known)).await.unwrap_err();
    assert!(none.message().contains("hive local: candle reads unquantized safetensors"), "{none}");
}

#[tokio::test(start_paused = true)]
async fn many_who_ask_for_a_branch_ask_the_hub_once_and_again_only_later() {
    let ((models, hub), none) = (models(1, None), ClusterView::default());
    let asks = (0..50).map(|_| models.pinned(model("hf:a/b"), Grant::Operator, &none));
    for pinned in futures_util::future::join_all(asks).await {
        assert_eq!(pinned.unwrap().as_str(), format!("hf:a/b@{COMMIT}"));
    }
    assert_eq!(hub.asked.load(Ordering::SeqCst), 1);
    tokio::time::advance(PIN_KEPT).await;
    models.pinned(model("hf:a/b"), Grant::Operator, &none).await.unwrap();
    assert_eq!(hub.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_a_hive_has_is_used_while_the_hub_does_not_answer() {
    for (takes, fails) in [(0, Some(ErrorKind::HubUnreachable)), (3_600, None)] {
        let ((models, _), began) = (models(takes, fails), Instant::now());
        let pinned = models.pinned(model("hf:a/b"), Grant::Operator, &with_older()).await.unwrap();
        assert_eq!(pinned.as_str(), format!("hf:a/b@{OLDER}"));
        assert!(began.elapsed() <= PIN_TIMEOUT.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_on_a_hive_is_not_given_to_tenants_until_the_hub_says_that_it_is_public() {
    let pinned = format!("hf:a/b@{OLDER}");
    let with_file = format!("{pinned}::file=c.gguf");
    for (takes, fails) in [(0, Some(ErrorKind::HubUnreachable)), (3_600, None)] {
        for name in ["hf:a/b", "hf:a/b@main", &pinned, &with_file] {
            let (models, hub) = models(takes, fails);
            let own = models.pinned(model(name), Grant::Operator, &with_older()).await;
            own.unwrap();
            let before = hub.asked.load(Ordering::SeqCst);
            let error = models.pinned(model(name), Grant::Tenant, &with_older()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::HubUnreachable, "{name}");
            assert_eq!(hub.asked.load(Ordering::SeqCst), before + 1, "{name}");
        }
    }
    let without = ModelLocator::new(None, &Settings::default());
    for name in ["hf:a/b", &pinned, &with_file] {
        let error = without.pinned(model(name), Grant::Tenant, &with_older()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ModelNotFound, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_public_model_serves_tenants_through_an_outage_until_the_hub_denies_it() {
    let (models, hub) = models(0, None);
    let ask = |fleet| {
        let models = models.clone();
        async move {
            tokio::time::advance(PIN_KEPT).await;
            let pinned = models.pinned(model("hf:a/b"), Grant::Tenant, &fleet).await;
            pinned.map(|model| model.to_string()).map_err(|error| error.kind())
        }
    };
    let pinned = format!("hf:a/b@{COMMIT}");
    assert_eq!(ask(holding(COMMIT)).await, Ok(pinned.clone()));
    hub.fail(ErrorKind::HubUnreachable);
    assert_eq!(ask(holding(COMMIT)).await, Ok(pinned));
    assert_eq!(ask(with_older()).await, Err(ErrorKind::HubUnreachable), "another commit");
    hub.fail(ErrorKind::Unauthorized);
    assert_eq!(ask(holding(COMMIT)).await, Err(ErrorKind::Unauthorized));
    hub.fail(ErrorKind::HubUnreachable);
    assert_eq!(ask(holding(COMMIT)).await, Err(ErrorKind::HubUnreachable));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_no_hive_has_needs_the_hub_and_every_wait_is_bounded() {
    let none = ClusterView::default();
    let kind = |result: Result<ModelRef>| result.unwrap_err().kind();
    let (gated, _) = models(0, Some(ErrorKind::Unauthorized));
    assert_eq!(
        kind(gated.pinned(model("hf:a/b"), Grant::Operator, &with_older()).await),
        ErrorKind::Unauthorized
    );
    let (silent, _) = models(3_600, None);
    assert_eq!(
        kind(silent.pinned(model("hf:a/b"), Grant::Operator, &none).await),
        ErrorKind::HubUnreachable
    );
    let without = ModelLocator::new(None, &Settings::default());
    assert_eq!(
        kind(without.pinned(model("hf:a/b"), Grant::Operator, &none).await),
        ErrorKind::ModelNotFound
    );
    let file = model("file:/a");
    assert_eq!(without.pinned(file.clone(), Grant::Operator, &none).await.unwrap(), file);
}
