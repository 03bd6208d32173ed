//! Behavior of the in-process hive beyond what every hive must do.

use std::{
    path::Path,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt};
use rbee_core::{
    Error, ErrorKind, HiveBackend, HiveId, InProcessHive, ModelRef, Result, Worker, WorkerId,
    WorkerSpec, async_trait,
    hive::{
        EngineSupport, HiveEvent, ModelHost, ModelOrigin, Progress, ProgressUpdate, WorkerFactory,
    },
    id::Epoch,
    models::ModelOnDisk,
    worker::EchoWorker,
};
use tokio::sync::Semaphore;

/// Loads when the gate opens; the name of the model says how.
#[derive(Clone, Debug, Default)]
struct Gated(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    gate: Semaphore,
    begun: Semaphore,
    made: Mutex<Vec<Weak<EchoWorker>>>,
}

impl Default for Inner {
    fn default() -> Self {
        Self { gate: Semaphore::new(0), begun: Semaphore::new(0), made: Mutex::default() }
    }
}

impl Gated {
    async fn until_begun(&self) {
        self.0.begun.acquire().await.unwrap().forget();
    }

    fn made(&self) -> Vec<bool> {
        let made = self.0.made.lock().unwrap();
        made.iter().map(|worker| worker.strong_count() > 0).collect()
    }
}

#[async_trait]
impl WorkerFactory for Gated {
    async fn load(
        &self,
        id: WorkerId,
        hive: &HiveId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> Result<Arc<dyn Worker>> {
        progress.update(1, Some(2));
        self.0.begun.add_permits(1);
        self.0.gate.acquire().await.unwrap().forget();
        let id = match spec.model.as_str() {
            "panics" => panic!("out of luck"),
            "another" => WorkerId::random(),
            _ => id,
        };
        let worker = EchoWorker::builder(spec.model.clone()).id(id).hive(hive.clone()).build();
        self.0.made.lock().unwrap().push(Arc::downgrade(&worker));
        Ok(worker)
    }
}

fn spec(model: &str) -> WorkerSpec {
    WorkerSpec::new(model.parse().unwrap())
}

fn hive() -> (Arc<InProcessHive>, Gated) {
    let factory = Gated::default();
    let hive = InProcessHive::new().with_devices(Vec::new()).with_factory(factory.clone());
    (Arc::new(hive), factory)
}

type Spawned = tokio::task::JoinHandle<Result<Arc<dyn Worker>>>;

/// Spawns on a task of its own, and returns when the factory has started.
async fn loading(hive: &Arc<InProcessHive>, factory: &Gated, id: WorkerId) -> Spawned {
    let task = attach(hive, id, Progress::ignore());
    factory.until_begun().await;
    task
}

fn attach(hive: &Arc<InProcessHive>, id: WorkerId, progress: Progress) -> Spawned {
    let hive = hive.clone();
    tokio::spawn(async move { hive.spawn(id, &spec("m"), progress).await })
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    result.err().expect("an error").kind()
}

async fn names(hive: &InProcessHive) -> Vec<WorkerId> {
    let report = hive.report().await.unwrap();
    report.workers.iter().map(|worker| worker.info.id).collect()
}

const GRACE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn workers_from_the_start_are_reported_and_must_belong_to_the_hive() {
    let worker = EchoWorker::new("m".parse().unwrap());
    let id = worker.info().id;
    let hive = InProcessHive::new().with_worker(worker.clone());
    hive.start().await.unwrap();
    assert_eq!(names(&hive).await, [id]);

    let wrong = [
        InProcessHive::new().with_worker(worker.clone()).with_id("other".parse().unwrap()),
        InProcessHive::new().with_worker(worker.clone()).with_worker(worker),
        InProcessHive::new()
            .with_worker(EchoWorker::builder("m".parse().unwrap()).slots(0).build()),
    ];
    for hive in wrong {
        let error = hive.start().await.unwrap_err();
        assert_eq!(kind(hive.watch(Epoch(1)).await), ErrorKind::Config);
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("allowed is"), "{error}");
    }
}

#[tokio::test]
async fn a_load_goes_on_when_its_callers_go_away_and_ends_in_the_report() {
    let (hive, factory) = hive();
    let id = WorkerId::random();
    let mut events = hive.watch(Epoch(1)).await.unwrap();
    events.next().await.unwrap();
    loading(&hive, &factory, id).await.abort();
    factory.0.gate.add_permits(1);
    let Some(HiveEvent::Report(report)) = events.next().await else {
        panic!("no report");
    };
    assert_eq!(report.workers[0].info.id, id);
    assert_eq!(hive.worker(id).await.unwrap().info().id, id);
}

#[tokio::test]
async fn callers_attach_to_the_load_under_way_and_hear_of_its_progress() {
    let (hive, factory) = hive();
    let id = WorkerId::random();
    let first = loading(&hive, &factory, id).await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let progress = Progress::new(move |update| tell.send(update).unwrap());
    let second = attach(&hive, id, progress);
    let update = ProgressUpdate { done: 1, total: Some(2) };
    assert_eq!(told.recv().await, Some(update));
    factory.0.gate.add_permits(2);
    let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(factory.made(), [true]);
}

#[tokio::test]
async fn a_worker_appears_at_the_revision_that_first_lists_it() {
    let (hive, factory) = hive();
    let id = WorkerId::random();
    let (slow, quick) = (loading(&hive, &factory, id).await, WorkerId::random());
    // A change while the first model loads.
    let file = tempfile::NamedTempFile::new().unwrap();
    let model = ModelRef::file(file.path()).unwrap();
    provision(&hive, &model).await.unwrap();
    let before = hive.report().await.unwrap().rev;
    factory.0.gate.add_permits(2);
    let worker = slow.await.unwrap().unwrap();
    assert!(worker.info().since > before);
    hive.spawn(quick, &spec("m"), Progress::ignore()).await.unwrap();
    let report = hive.report().await.unwrap();
    assert!(report.workers.iter().all(|worker| worker.info.since <= report.rev));
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_a_load_ends_it_when_the_load_ends() {
    let (hive, factory) = hive();
    let id = WorkerId::random();
    let load = loading(&hive, &factory, id).await;
    let mut stop = Box::pin(hive.stop(id, GRACE));
    assert!((&mut stop).now_or_never().is_none(), "it waits for the load");
    // A request for the worker now gets a new one, not the one that is being stopped.
    let again = attach(&hive, id, Progress::ignore());
    factory.0.gate.add_permits(1);
    stop.await.unwrap();
    assert_eq!(kind(load.await.unwrap()), ErrorKind::Cancelled);
    assert_eq!(factory.made(), [false], "what it made is dropped");
    factory.0.gate.add_permits(1);
    assert_eq!(again.await.unwrap().unwrap().info().id, id);
    assert_eq!(names(&hive).await, [id]);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_does_not_end_is_forced_after_the_grace() {
    let (hive, factory) = hive();
    let id = WorkerId::random();
    let load = loading(&hive, &factory, id).await;
    let start = tokio::time::Instant::now();
    hive.stop(id, GRACE).await.unwrap();
    assert_eq!(start.elapsed(), GRACE);
    assert_eq!(kind(load.await.unwrap()), ErrorKind::Cancelled);
    let other = loading(&hive, &factory, WorkerId::random()).await;
    hive.shutdown(GRACE).await.unwrap();
    assert_eq!(start.elapsed(), 2 * GRACE);
    assert_eq!(kind(other.await.unwrap()), ErrorKind::HiveUnreachable);
    hive.start().await.unwrap();
    assert!(names(&hive).await.is_empty());
}

#[tokio::test]
async fn a_factory_that_breaks_its_contract_is_an_error_of_its_own() {
    let (hive, factory) = hive();
    factory.0.gate.add_permits(2);
    let spawn = async |model| {
        let (id, spec) = (WorkerId::random(), spec(model));
        let spawn = hive.spawn(id, &spec, Progress::ignore()).await;
        spawn.unwrap_err()
    };
    let error = spawn("panics").await;
    assert_eq!(error.kind(), ErrorKind::WorkerFault);
    assert!(error.message().contains("out of luck"), "{error}");
    assert_eq!(spawn("another").await.kind(), ErrorKind::Internal);
    assert!(names(&hive).await.is_empty());
    assert_eq!(factory.made(), [false]);
}

#[tokio::test]
async fn a_spec_the_hive_cannot_meet_is_refused_by_name() {
    let (hive, _) = hive();
    let mut wrong = spec("m");
    wrong.devices = vec![7];
    let id = WorkerId::random();
    let error = hive.spawn(id, &wrong, Progress::ignore()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert!(error.message().contains("no device 7"), "{error}");
    let plain = InProcessHive::new().with_devices(Vec::new());
    let spawn = plain.spawn(id, &spec("m"), Progress::ignore()).await;
    assert_eq!(kind(spawn), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_subscriber_that_lags_gets_the_whole_state_in_place_of_what_it_missed() {
    let (hive, factory) = hive();
    let mut events = hive.watch(Epoch(1)).await.unwrap();
    events.next().await.unwrap();
    for _ in 0..300 {
        let id = WorkerId::random();
        factory.0.gate.add_permits(1);
        hive.spawn(id, &spec("m"), Progress::ignore()).await.unwrap();
        assert!(hive.kill(id));
    }
    // Enough events that the first one not lost is a death, which comes only after the report.
    for _ in 0..2 {
        factory.0.gate.add_permits(1);
        let id = WorkerId::random();
        hive.spawn(id, &spec("m"), Progress::ignore()).await.unwrap();
    }
    let Some(HiveEvent::Report(report)) = events.next().await else {
        panic!("no report");
    };
    assert_eq!(report.rev, hive.report().await.unwrap().rev);
    assert_eq!(report.workers.len(), 2);
}

#[tokio::test]
async fn a_cut_link_ends_calls_and_subscriptions_and_spares_the_workers() {
    let (hive, factory) = hive();
    let (id, late) = (WorkerId::random(), WorkerId::random());
    factory.0.gate.add_permits(1);
    loading(&hive, &factory, id).await.await.unwrap().unwrap();
    let mut events = hive.watch(Epoch(1)).await.unwrap();
    events.next().await.unwrap();
    let load = loading(&hive, &factory, late).await;
    hive.disconnect();
    assert!(events.next().await.is_none());
    assert_eq!(kind(load.await.unwrap()), ErrorKind::HiveUnreachable);
    assert_eq!(kind(hive.report().await), ErrorKind::HiveUnreachable);
    assert_eq!(kind(hive.start().await), ErrorKind::HiveUnreachable);
    assert_eq!(kind(hive.stop(id, GRACE).await), ErrorKind::HiveUnreachable);
    assert_eq!(kind(hive.watch(Epoch(2)).await), ErrorKind::HiveUnreachable);
    hive.reconnect();
    assert_eq!(names(&hive).await, [id]);
    let mut events = hive.watch(Epoch(1)).await.unwrap();
    events.next().await.unwrap();
    factory.0.gate.add_permits(1);
    events.next().await.unwrap();
    assert_eq!(names(&hive).await.len(), 2, "the load went on behind the cut");
}

#[tokio::test]
async fn a_hive_that_was_shut_down_is_made_ready_again_by_whoever_watches_it() {
    let (hive, _) = hive();
    hive.shutdown(GRACE).await.unwrap();
    assert_eq!(kind(hive.report().await), ErrorKind::HiveUnreachable);
    let mut events = hive.watch(Epoch(1)).await.unwrap();
    assert!(matches!(events.next().await, Some(HiveEvent::Report(_))));
    hive.report().await.unwrap();
}

#[tokio::test]
async fn a_hive_that_is_dropped_lets_go_of_its_workers() {
    let (hive, factory) = hive();
    factory.0.gate.add_permits(1);
    let worker = loading(&hive, &factory, WorkerId::random()).await;
    drop(worker.await.unwrap().unwrap());
    let mut events = hive.watch(Epoch(1)).await.unwrap();
    events.next().await.unwrap();
    assert_eq!(factory.made(), [true]);
    drop(hive);
    assert_eq!(factory.made(), [false]);
    assert!(events.next().await.is_none());
}

fn file(path: &Path) -> ModelRef {
    ModelRef::file(path).unwrap()
}

/// Provisions from the hive's own machine.
async fn provision(hive: &InProcessHive, model: &ModelRef) -> Result<ModelOnDisk> {
    hive.provision(model, ModelOrigin::Here, Progress::ignore()).await
}

#[tokio::test]
async fn a_file_is_checked_where_it_lies_and_never_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    std::fs::write(&path, [0; 11]).unwrap();
    for hive in [InProcessHive::new(), InProcessHive::new().with_factory(Gated::default())] {
        let model = file(&path);
        assert_eq!(provision(&hive, &model).await.unwrap().bytes, 11);
        let report = hive.report().await.unwrap();
        assert_eq!(report.models, [ModelOnDisk::new(model.clone(), 11)]);
        hive.remove_model(&model).await.unwrap();
        let after = hive.report().await.unwrap();
        assert!(after.models.is_empty() && after.rev > report.rev);
        assert!(path.exists());

        let missing = dir.path().join("none");
        let error = provision(&hive, &file(&missing)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ModelNotFound);
        assert!(error.message().contains(missing.to_str().unwrap()), "{error}");
        let hub = "hf:a/b".parse().unwrap();
        assert_eq!(kind(provision(&hive, &hub).await), ErrorKind::Unsupported);
    }
}

/// An engine that refuses every model in this way.
#[derive(Debug)]
struct Refusing {
    kind: ErrorKind,
    engines: Option<Vec<EngineSupport>>,
}

#[async_trait]
impl WorkerFactory for Refusing {
    async fn load(
        &self,
        _: WorkerId,
        _: &HiveId,
        _: &WorkerSpec,
        _: Progress,
    ) -> Result<Arc<dyn Worker>> {
        Err(Error::new(self.kind, "refused"))
    }

    fn engines(&self) -> Option<Vec<EngineSupport>> {
        self.engines.clone()
    }
}

#[tokio::test]
async fn a_file_that_proves_to_be_no_model_is_not_listed_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("readme.txt");
    std::fs::write(&path, "no model").unwrap();
    let model = file(&path);
    for (refusal, is_listed) in [
        (ErrorKind::ModelIncompatible, false),
        (ErrorKind::ModelNotFound, false),
        (ErrorKind::Unsupported, false),
        (ErrorKind::InsufficientVram, true),
        (ErrorKind::WorkerLost, true),
    ] {
        let hive = InProcessHive::new().with_factory(Refusing { kind: refusal, engines: None });
        provision(&hive, &model).await.unwrap();
        let before = hive.report().await.unwrap();
        let spec = WorkerSpec::new(model.clone());
        let spawned = hive.spawn(WorkerId::random(), &spec, Progress::ignore()).await;
        assert_eq!(kind(spawned), refusal);
        let after = hive.report().await.unwrap();
        assert_eq!(after.models.len(), usize::from(is_listed), "after {refusal}");
        assert_eq!(after.rev > before.rev, !is_listed, "a change is reported");
    }
    // Every engine says what it reads: nothing has to be loaded to find out.
    let engines = Some(vec![EngineSupport::candle()]);
    let kind = ErrorKind::WorkerLost;
    let hive = InProcessHive::new().with_factory(Refusing { kind, engines });
    let error = provision(&hive, &model).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ModelIncompatible);
    assert!(error.message().contains("candle reads unquantized safetensors"), "{error}");
    assert!(hive.report().await.unwrap().models.is_empty());
    let engines = Some(vec![EngineSupport::new("other").for_models(["*.txt"])]);
    let hive = InProcessHive::new().with_factory(Refusing { kind, engines });
    provision(&hive, &model).await.unwrap();
}

#[tokio::test]
async fn a_model_that_only_a_worker_has_needs_no_file() {
    let model: ModelRef = "alias".parse().unwrap();
    let hive = InProcessHive::new().with_worker(EchoWorker::new(model.clone()));
    assert_eq!(provision(&hive, &model).await.unwrap().bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_say_how_it_is_holds_up_no_report() {
    let worker = EchoWorker::new("m".parse().unwrap());
    worker.set_health_error(Some(Error::new(ErrorKind::WorkerLost, "ill")));
    let hive = InProcessHive::new().with_devices(Vec::new()).with_worker(worker);
    assert_eq!(names(&hive).await.len(), 1);
}

#[tokio::test]
async fn a_queen_tells_what_the_files_of_a_model_say() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/bee-tiny");
    let model = file(&path.canonicalize().unwrap());
    let hive = InProcessHive::new().with_factory(Gated::default());
    let queen =
        rbee_core::Queen::builder().alias("tiny", model.as_str()).hive(hive).build().await.unwrap();
    assert_eq!(kind(queen.models().info("tiny").await), ErrorKind::ModelNotFound);
    queen.models().provision(HiveId::local(), model, Progress::ignore()).await.unwrap();
    let info = queen.models().info("tiny").await.unwrap();
    assert_eq!((info.architecture.as_str(), info.context), ("llama", Some(512)));
}
