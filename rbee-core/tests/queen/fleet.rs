//! Commands of an operator to the fleet.

use std::{sync::Arc, time::Duration};

use crate::queen_support::{EchoFactory, echo, hive, queen, quiet, read, request};
use rbee_core::{
    Ask, ClusterView, ErrorKind, FnScheduler, HiveId, LeastLoaded, MemoryRegistry, ModelRef, Queen,
    Scheduler, Settings,
    cluster::WorkerState,
    hive::Progress,
    id::QueenId,
    models::{ModelStore, StoreOptions},
    queen::LoadRequest,
    registry::HiveStatus,
    worker::EchoGate,
};

/// A model on the disk of this machine.
struct Model {
    _directory: tempfile::TempDir,
    reference: ModelRef,
}

fn model() -> Model {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.bin");
    std::fs::write(&path, [0; 1000]).unwrap();
    let reference = format!("file:{}", path.display()).parse().unwrap();
    Model { _directory: directory, reference }
}

fn id(name: &str) -> HiveId {
    HiveId::new(name).unwrap()
}

async fn two_hives() -> Queen {
    let hives = ["a", "b"].map(|name| hive(name).with_factory(EchoFactory::new().0));
    let [a, b] = hives;
    queen().hive(a).hive(b).build().await.unwrap()
}

/// Waits until the fleet looks like this.
async fn until(queen: &Queen, what: &str, holds: impl Fn(&rbee_core::ClusterView) -> bool) {
    let wait = async {
        while !holds(&queen.cluster().await.unwrap()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect(what);
}

fn ready(cluster: &rbee_core::ClusterView, hive: &str) -> usize {
    cluster.on_hive(&id(hive)).filter(|worker| worker.state == WorkerState::Ready).count()
}

#[tokio::test]
async fn a_model_is_loaded_where_it_may_be_and_only_once() {
    let (queen, model) = (two_hives().await, model());
    let mut load = LoadRequest::new(model.reference.clone());
    load.hive = Some(id("b"));
    load.slots = Some(3);
    load.pin = true;
    let worker = queen.models().load(load.clone()).await.unwrap();
    assert_eq!(queen.models().load(load).await.unwrap(), worker);
    // Anywhere means: where it is.
    let anywhere = LoadRequest::new(model.reference.clone());
    assert_eq!(queen.models().load(anywhere).await.unwrap(), worker);
    until(&queen, "the worker is ready", |cluster| ready(cluster, "b") == 1).await;
    let cluster = queen.cluster().await.unwrap();
    let view = cluster.worker(worker).unwrap();
    assert!(view.pinned && view.info.slots == 3 && ready(&cluster, "a") == 0);
    quiet(&queen).await;
}

#[tokio::test]
async fn a_load_that_cannot_be_says_what_is_wrong() {
    let (queen, model) = (two_hives().await, model());
    let kind = |load: LoadRequest| async { queen.models().load(load).await.unwrap_err().kind() };
    let load = LoadRequest::new(model.reference.clone());
    let nowhere = LoadRequest { hive: Some(id("c")), ..load.clone() };
    assert_eq!(kind(nowhere).await, ErrorKind::NotFound);
    let no_device = LoadRequest { devices: Some(vec![7]), ..load };
    assert_eq!(kind(no_device).await, ErrorKind::InvalidRequest);
    let absent = LoadRequest::new("file:/nonexistent/model".parse().unwrap());
    assert_eq!(kind(absent).await, ErrorKind::ModelNotFound);
    quiet(&queen).await;
}

#[tokio::test]
async fn a_load_goes_on_when_whoever_ordered_it_is_gone() {
    let (asked, mut is_asked) = tokio::sync::mpsc::unbounded_channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    // The policy answers only after the caller of the load is gone.
    let policy = FnScheduler::new("slow", move |ask: &Ask, cluster: &ClusterView| {
        asked.send(()).unwrap();
        let _ = released.lock().unwrap().recv();
        LeastLoaded::default().place(ask, cluster)
    });
    let attic = hive("a").with_factory(EchoFactory::new().0);
    let queen = queen().hive(attic).scheduler(policy).build().await.unwrap();
    let model = model();
    let load = {
        let (queen, load) = (queen.clone(), LoadRequest::new(model.reference.clone()));
        tokio::spawn(async move { queen.models().load(load).await })
    };
    is_asked.recv().await.unwrap();
    load.abort();
    assert!(load.await.unwrap_err().is_cancelled());
    drop(release);
    until(&queen, "the worker is ready", |cluster| ready(cluster, "a") == 1).await;
    quiet(&queen).await;
}

#[tokio::test]
async fn models_are_put_on_disks_and_removed_but_not_under_a_worker() {
    let (queen, model) = (two_hives().await, model());
    let told = Arc::new(std::sync::Mutex::new(0));
    let seen = told.clone();
    let progress = Progress::new(move |update| *seen.lock().unwrap() = update.done);
    let on_disk =
        queen.models().provision(id("a"), model.reference.clone(), progress).await.unwrap();
    assert_eq!((on_disk.bytes, *told.lock().unwrap()), (1000, 1000));
    let has = |cluster: &rbee_core::ClusterView| {
        cluster.hive(&id("a")).unwrap().models.contains_key(&model.reference)
    };
    until(&queen, "the hive has it", has).await;
    let worker = queen.models().load(LoadRequest::new(model.reference.clone())).await.unwrap();
    until(&queen, "the worker is ready", |cluster| ready(cluster, "a") == 1).await;
    let refused = queen.models().remove(id("a"), model.reference.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    queen.fleet().unload(worker).await.unwrap();
    until(&queen, "the worker is gone", |cluster| cluster.worker_count() == 0).await;
    queen.models().remove(id("a"), model.reference.clone()).await.unwrap();
    until(&queen, "the hive has it no more", |cluster| !has(cluster)).await;
    quiet(&queen).await;
}

#[tokio::test]
async fn a_disk_that_is_full_of_a_model_nobody_uses_takes_the_one_that_is_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let models: Vec<ModelRef> = ["a", "b"]
        .map(|name| format!("hf:org/{name}@{}", "0123456789".repeat(4)))
        .iter()
        .map(|model| model.parse().unwrap())
        .collect();
    let store = |name: &str, budget| {
        let path = directory.path().join(name);
        let hub_cache = Some(path.join("hub"));
        let options = StoreOptions { hub_cache, budget, head_room: 0, ..StoreOptions::default() };
        ModelStore::open(path, options).unwrap()
    };
    let source = store("source", None);
    for (n, model) in (0..).zip(&models) {
        let file = directory.path().join(format!("{n}.bin"));
        std::fs::write(&file, [n; 1000]).unwrap();
        let files = source.local(&ModelRef::file(file).unwrap(), Progress::ignore()).await.unwrap();
        source.import(model, files, Progress::ignore()).await.unwrap();
    }
    // One hive keeps the models and loads none; the other has space for one of them.
    let shelf = rbee_core::InProcessHive::new().with_id(id("shelf")).with_store(source);
    let small = hive("small").with_store(store("small", Some(1500)));
    let settings = Settings {
        min_loaded: Duration::ZERO,
        retry_delay: Duration::from_millis(20),
        ..Settings::default()
    };
    let queen = queen()
        .settings(settings)
        .hive(shelf)
        .hive(small.with_factory(EchoFactory::new().0))
        .build()
        .await
        .unwrap();
    for model in models.iter().chain(&models) {
        let job = rbee_core::Request::completion(model.as_str(), "x").max_tokens(3);
        queen.submit(job).await.unwrap().answer().await.unwrap();
        quiet(&queen).await;
        let cluster = queen.cluster().await.unwrap();
        let loaded: Vec<_> = cluster.workers().map(|worker| worker.info.model.clone()).collect();
        assert_eq!(loaded, std::slice::from_ref(model));
    }
}

#[tokio::test]
async fn a_hive_that_is_stopped_stays_in_the_fleet_and_can_be_started_again() {
    let (queen, model) = (two_hives().await, model());
    let load = LoadRequest { hive: Some(id("a")), ..LoadRequest::new(model.reference.clone()) };
    queen.models().load(load.clone()).await.unwrap();
    until(&queen, "the worker is ready", |cluster| ready(cluster, "a") == 1).await;
    queen.fleet().stop(id("a"), Duration::from_secs(1)).await.unwrap();
    assert_eq!(queen.cluster().await.unwrap().worker_count(), 0);
    let status = |queen: Queen| async move {
        let hives = queen.fleet().list().await.unwrap();
        hives.into_iter().map(|hive| (hive.id.to_string(), hive.status)).collect::<Vec<_>>()
    };
    let expected = [("a".to_owned(), HiveStatus::Offline), ("b".to_owned(), HiveStatus::Online)];
    assert_eq!(status(queen.clone()).await, expected);
    assert_eq!(
        queen.models().load(load.clone()).await.unwrap_err().kind(),
        ErrorKind::HiveUnreachable
    );
    queen.fleet().start(id("a")).await.unwrap();
    let online = |cluster: &rbee_core::ClusterView| cluster.hive(&id("a")).unwrap().online;
    until(&queen, "the hive is back", online).await;
    queen.models().load(load).await.unwrap();
    until(&queen, "the worker is ready", |cluster| ready(cluster, "a") == 1).await;
    assert_eq!(
        queen.fleet().stop(id("c"), Duration::ZERO).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    quiet(&queen).await;
}

#[tokio::test]
async fn a_hive_that_is_drained_ends_its_runs_and_gets_no_workers_until_it_is_started() {
    let (queen, model) = (two_hives().await, model());
    let load =
        |hive| LoadRequest { hive: Some(id(hive)), ..LoadRequest::new(model.reference.clone()) };
    queen.models().load(load("a")).await.unwrap();
    until(&queen, "the worker is ready", |cluster| ready(cluster, "a") == 1).await;
    queen.fleet().drain(id("a")).await.unwrap();
    until(&queen, "its worker is gone", |cluster| cluster.worker_count() == 0).await;
    assert_eq!(
        queen.models().load(load("a")).await.unwrap_err().kind(),
        ErrorKind::InsufficientVram
    );
    // Jobs go where workers may be started.
    let job = rbee_core::Request::completion(model.reference.as_str(), "x").max_tokens(3);
    assert!(queen.submit(job).await.unwrap().answer().await.is_ok());
    assert_eq!(ready(&queen.cluster().await.unwrap(), "b"), 1);
    queen.fleet().start(id("a")).await.unwrap();
    queen.models().load(load("a")).await.unwrap();
    until(&queen, "the worker is ready", |cluster| ready(cluster, "a") == 1).await;
    quiet(&queen).await;
}

#[tokio::test]
async fn a_drained_hive_lets_runs_under_way_end() {
    let gate = EchoGate::new();
    let worker = echo().gate(&gate).build();
    let queen = queen().worker(worker).build().await.unwrap();
    let job = queen.submit(request(1, 5)).await.unwrap();
    until(&queen, "it runs", |cluster| cluster.workers().any(|worker| worker.leased == 1)).await;
    queen.fleet().drain(HiveId::local()).await.unwrap();
    gate.open();
    read(job).await.assert_whole(1, 5);
    until(&queen, "the worker is gone", |cluster| cluster.worker_count() == 0).await;
    quiet(&queen).await;
}

#[tokio::test]
async fn hives_of_an_earlier_life_are_remembered_until_they_are_removed() {
    let registry = Arc::new(MemoryRegistry::new());
    let build = || queen().id(QueenId::new("q").unwrap()).registry(registry.clone());
    let first = build().hive(hive("a")).hive(hive("b")).build().await.unwrap();
    assert!(first.fleet().remembered().is_empty());
    let twice = first.fleet().add(hive("a")).await.unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::Conflict);
    first.fleet().remove(id("b"), Duration::ZERO).await.unwrap();
    first.shutdown(Duration::ZERO).await.unwrap();
    let second = build().build().await.unwrap();
    let names: Vec<_> =
        second.fleet().remembered().iter().map(|hive| hive.id.to_string()).collect();
    assert_eq!(names, ["a"]);
}

#[tokio::test]
async fn the_handles_of_a_queen_work_in_joined_and_in_spawned_futures() {
    let queen = two_hives().await;
    let (hives, tenants, versions) =
        tokio::join!(queen.fleet().list(), queen.tenants().list(), queen.policy().versions());
    assert_eq!(hives.unwrap().len(), 2);
    assert_eq!((tenants.unwrap().len(), versions.unwrap().len()), (0, 0));
    let drained = tokio::spawn({
        let queen = queen.clone();
        async move { queen.fleet().drain(id("a")).await }
    });
    drained.await.unwrap().unwrap();
    until(&queen, "hive a is drained", |cluster| cluster.hive(&id("a")).unwrap().draining).await;
}

#[tokio::test]
async fn the_handles_borrow_from_the_queen_and_not_from_each_other() {
    let queen = queen().alias("bee", "hf:a/b").worker(echo().build()).build().await.unwrap();
    let aliases = queen.models().aliases();
    assert_eq!(aliases["bee"], queen.models().resolve("bee").unwrap());
    let remembered = queen.fleet().remembered();
    assert_eq!(remembered.len(), 0);
}
