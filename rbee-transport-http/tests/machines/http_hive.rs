//! A hive behind HTTP passes the tests of a hive.

use std::{sync::Arc, time::Duration};

use crate::support::{self, Daemon, spec, token};
use futures_util::StreamExt;
use rbee_core::{
    ErrorKind, HiveBackend, HiveId, InProcessHive, Result, Worker, WorkerId, WorkerSpec,
    async_trait, conformance,
    hive::{HiveAddress, ModelHost, ModelOrigin, Progress, WorkerFactory},
    id::Epoch,
    worker::EchoWorker,
};
use rbee_transport_http::{
    Token,
    client::{Endpoint, HttpHive},
    dial::Tcp,
    server::{self, HiveServer},
    wire,
};

/// Makes workers without a model, inside this process.
#[derive(Debug)]
struct Echoes;

#[async_trait]
impl WorkerFactory for Echoes {
    async fn load(
        &self,
        id: WorkerId,
        hive: &HiveId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> Result<Arc<dyn Worker>> {
        self.inspect(&spec.model, None).await?;
        progress.update(1, Some(2));
        let echo = EchoWorker::builder(spec.model.clone()).id(id).hive(hive.clone());
        Ok(echo.slots(spec.slots).build())
    }
}

/// A hive of workers inside this process.
fn in_process() -> Arc<InProcessHive> {
    Arc::new(InProcessHive::new().with_factory(Echoes))
}

fn a_model(dir: &tempfile::TempDir) -> WorkerSpec {
    let model = dir.path().join("model");
    std::fs::write(&model, "weights").unwrap();
    spec(&format!("file:{}", model.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hive_behind_http_keeps_the_contract_of_a_hive() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::serve(server::hive(in_process(), token())).await;
    let hive = HttpHive::connect(daemon.endpoint(Some(token()))).await.unwrap();
    conformance::hive::check(Arc::new(hive), a_model(&dir), spec("file:/no/such/model")).await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_hive_of_processes_behind_http_keeps_the_contract_of_a_hive() {
    let dir = tempfile::tempdir().unwrap();
    let processes = Arc::new(support::hive(&dir));
    processes.start().await.unwrap();
    let server = HiveServer::with_reach(processes.clone(), processes.clone());
    let daemon = Daemon::serve(server.router(token())).await;
    let hive = HttpHive::connect(daemon.endpoint(Some(token()))).await.unwrap();
    conformance::hive::check(Arc::new(hive), a_model(&dir), spec("file:/no/such/model")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_is_told_over_http() {
    let dir = tempfile::tempdir().unwrap();
    let behind = in_process();
    let daemon = Daemon::serve(server::hive(behind.clone(), token())).await;
    let hive = Arc::new(HttpHive::connect(daemon.endpoint(Some(token()))).await.unwrap());
    let kill = |id| async move { assert!(behind.kill(id)) };
    conformance::hive::a_death_is_told(hive, a_model(&dir), kill).await;
}

#[tokio::test]
async fn another_hive_than_the_one_expected_is_refused_by_name() {
    let daemon = Daemon::serve(server::hive(in_process(), token())).await;
    let hive = HttpHive::new("other".parse().unwrap(), daemon.endpoint(Some(token())));
    let error = hive.watch(Epoch(1)).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().starts_with("hive local answers at 127.0.0.1:"), "{error}");
}

#[tokio::test]
async fn a_client_without_the_token_learns_that_the_hive_wants_one() {
    let daemon = Daemon::serve(HiveServer::new(in_process()).router(token())).await;
    let error = HttpHive::connect(daemon.endpoint(None)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(error.message().contains("is up, and requires its token"), "{error}");
    let wrong = daemon.endpoint(Some(Token::random().unwrap()));
    let error = HttpHive::connect(wrong).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    let hive = HttpHive::connect(daemon.endpoint(Some(token()))).await.unwrap();
    assert_eq!(hive.info().id.as_str(), "local");
}

#[tokio::test]
async fn a_hive_behind_http_says_where_it_is_reached() {
    let daemon = Daemon::serve(server::hive(in_process(), token())).await;
    let endpoint = daemon.endpoint(Some(token()));
    let hive = HttpHive::connect(endpoint.clone()).await.unwrap();
    let info = hive.info();
    assert_eq!(info.address, HiveAddress::Http);
    assert_eq!(format!("{}:{}", info.hostname, info.port), endpoint.authority());
}

#[tokio::test]
async fn a_daemon_that_was_told_to_end_is_not_made_ready_again_by_a_queen() {
    let behind = in_process();
    let daemon = Daemon::serve(server::hive(behind.clone(), token())).await;
    let endpoint = daemon.endpoint(Some(token()));
    let hive = HttpHive::connect(endpoint.clone()).await.unwrap();
    let mut events = hive.watch(Epoch(1)).await.unwrap();
    hive.shutdown(Duration::ZERO).await.unwrap();
    while events.next().await.is_some() {}
    // The queen holds the lease, so only the end of the hive refuses it.
    let path = format!("{}?owner=1", wire::hive::EVENTS);
    let error =
        endpoint.get::<serde_json::Value>(&path, Duration::from_secs(10)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HiveUnreachable);
    assert_eq!(error.message(), "hive local is shut down");
    assert_eq!(behind.report().await.unwrap_err().kind(), ErrorKind::HiveUnreachable);
}

#[tokio::test]
async fn a_daemon_ends_when_its_lease_does_and_not_before() {
    let lease = server::Lease::new(Duration::from_millis(400));
    let host = HiveServer::new(in_process()).with_lease(lease);
    let daemon = Daemon::serve(host.router(token())).await;
    let stopped = host.stopped();
    let expiring = tokio::spawn(async move { host.expire().await });
    let hive = HttpHive::connect(daemon.endpoint(Some(token()))).await.unwrap();
    let mut events = hive.watch(Epoch(1)).await.unwrap();
    let while_watched = tokio::time::timeout(Duration::from_millis(1_200), async {
        while events.next().await.is_some() {}
    });
    assert!(while_watched.await.is_err(), "the link lasts");
    assert!(!stopped.is_cancelled(), "who watches renews the lease");
    drop(events);
    tokio::time::timeout(Duration::from_secs(10), stopped.cancelled()).await.unwrap();
    expiring.await.unwrap();
}

#[tokio::test]
async fn a_hive_that_talks_nonsense_is_unreachable_and_no_wait_is_without_a_bound() {
    let stream = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    let answers = [
        String::new(),
        "SSH-2.0-OpenSSH_9.2\r\n".into(),
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]".into(),
        format!("{stream}event: ready\ndata: 7\n\n"),
        format!("{stream}event: progress\ndata: {{\"done\":1}}\n\n"),
        format!("{stream}event: error\ndata: {{}}\n\n"),
    ];
    for answer in answers {
        let port = support::always_answers(answer.clone()).await;
        let endpoint = Endpoint::new(Arc::new(Tcp::loopback()), port.port, None);
        let hive = HttpHive::new(HiveId::local(), endpoint);
        let model = spec("file:/model");
        let all = async {
            let spawn = hive.spawn(WorkerId::random(), &model, Progress::ignore());
            let spawned = spawn.await.map(drop).unwrap_err();
            let provisioned = hive
                .provision(&model.model, ModelOrigin::Here, Progress::ignore())
                .await
                .unwrap_err();
            [spawned, provisioned, hive.report().await.unwrap_err()]
        };
        let errors = tokio::time::timeout(Duration::from_secs(20), all).await.unwrap();
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::HiveUnreachable, "{answer:?}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_progress_of_a_provision_comes_through() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::serve(server::hive(in_process(), token())).await;
    let hive = HttpHive::connect(daemon.endpoint(Some(token()))).await.unwrap();
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let hear = heard.clone();
    let progress = Progress::new(move |update| hear.lock().unwrap().push(update));
    hive.provision(&a_model(&dir).model, ModelOrigin::Here, progress.clone()).await.unwrap();
    let heard = heard.lock().unwrap().clone();
    assert_eq!(heard.last().map(|update| (update.done, update.total)), Some((7, Some(7))));
}
