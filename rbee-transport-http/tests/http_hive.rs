//! A hive behind HTTP is a hive.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use rbee_core::{
    EchoWorker, ErrorKind, HiveBackend, HiveId, InProcessHive, Progress, Result, Worker,
    WorkerFactory, WorkerId, WorkerSpec, async_trait, conformance,
};
use rbee_transport_http::{
    client::HttpHive,
    server::{self, HiveServer},
};
use support::{Daemon, spec};

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
        self.inspect(&spec.model).await?;
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
    let daemon = Daemon::serve(server::hive(in_process())).await;
    let hive = HttpHive::connect(daemon.endpoint(None)).await.unwrap();
    conformance::hive::check(Arc::new(hive), a_model(&dir), spec("file:/no/such/model")).await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_hive_of_processes_behind_http_keeps_the_contract_of_a_hive() {
    let dir = tempfile::tempdir().unwrap();
    let processes = Arc::new(support::hive(&dir));
    processes.start().await.unwrap();
    let server = HiveServer::with_reach(processes.clone(), processes.clone());
    let daemon = Daemon::serve(server.router(None)).await;
    let hive = HttpHive::connect(daemon.endpoint(None)).await.unwrap();
    conformance::hive::check(Arc::new(hive), a_model(&dir), spec("file:/no/such/model")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_is_told_over_http() {
    let dir = tempfile::tempdir().unwrap();
    let behind = in_process();
    let daemon = Daemon::serve(server::hive(behind.clone())).await;
    let hive = Arc::new(HttpHive::connect(daemon.endpoint(None)).await.unwrap());
    let kill = |id| async move { assert!(behind.kill(id)) };
    conformance::hive::a_death_is_told(hive, a_model(&dir), kill).await;
}

#[tokio::test]
async fn another_hive_than_the_one_expected_is_refused_by_name() {
    let daemon = Daemon::serve(server::hive(in_process())).await;
    let hive = HttpHive::new("other".parse().unwrap(), daemon.endpoint(None));
    let error = hive.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().starts_with("hive local answers at 127.0.0.1:"), "{error}");
}
