//! A hive whose workers are processes.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use rbee_core::{HiveBackend, HiveId, conformance};
use std::sync::Arc;
use support::{hive, spec};

#[tokio::test(flavor = "multi_thread")]
async fn a_hive_of_processes_keeps_the_contract_of_a_hive() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    std::fs::write(&model, "weights").unwrap();
    let hive: Arc<dyn HiveBackend> = Arc::new(hive(&dir));
    assert_eq!(*hive.id(), HiveId::local());
    let good = spec(&format!("file:{}", model.display()));
    conformance::hive::check(hive, good, spec("file:/no/such/model")).await;
}
