//! A queen with several machines, each a separate daemon with its own workers.

use std::{collections::BTreeMap, path::Path, time::Duration};

use crate::machine::{Machine, bee_tiny};
use futures_util::future::join_all;
use rbee_core::{
    CorrelationId, EventKind, HiveId, Queen, Request, WorkerId, cluster::WorkerState,
    queen::LoadRequest,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A queen with two machines, and the model loaded on each.
async fn fleet(machines: &[Machine; 2]) -> (Queen, [WorkerId; 2]) {
    let names = ["one", "two"].map(|name| HiveId::new(name).unwrap());
    let mut builder = Queen::builder();
    for (machine, name) in machines.iter().zip(&names) {
        builder = builder.hive(machine.hive_named(name.clone(), &[]));
    }
    let queen = builder.build().await.unwrap();
    let mut workers = Vec::new();
    for name in names {
        let mut load = LoadRequest::new(bee_tiny().model);
        load.hive = Some(name);
        workers.push(queen.models().load(load).await.unwrap());
    }
    let ready = async {
        loop {
            let cluster = queen.cluster().await.unwrap();
            let is_ready = |id: &WorkerId| {
                cluster.worker(*id).is_some_and(|worker| worker.state == WorkerState::Ready)
            };
            if workers.iter().all(is_ready) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ready).await.expect("both load the model");
    (queen, workers.try_into().unwrap())
}

/// Sends a request, and returns the worker that answered.
async fn answered_by(queen: &Queen, mark: Option<&str>) -> WorkerId {
    let mut request = Request::chat(bee_tiny().model.as_str()).user("Tell me about a lily.");
    if let Some(mark) = mark {
        request = request.correlation_id(CorrelationId::new(mark).unwrap());
    }
    let mut events = queen.submit(request.temperature(0.0).max_tokens(24)).await.unwrap();
    let mut worker = None;
    while let Some(event) = events.next().await {
        if let EventKind::Started(started) = event.kind {
            worker = started.worker;
        }
    }
    worker.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_come_together_are_spread_over_the_machines() {
    let machines = [Machine::new(), Machine::new()];
    let (queen, workers) = fleet(&machines).await;
    let answers = join_all((0..8).map(|_| answered_by(&queen, None))).await;
    let mut shares = BTreeMap::new();
    answers.into_iter().for_each(|worker| *shares.entry(worker).or_insert(0) += 1);
    for worker in workers {
        assert!(shares.get(&worker).is_some_and(|share| *share >= 2), "{shares:?}");
    }
    queen.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_found_by_its_mark_in_the_log_of_the_worker_that_ran_it() {
    let machines = [Machine::new(), Machine::new()];
    let (queen, workers) = fleet(&machines).await;
    let worker = answered_by(&queen, Some("mark-of-the-request")).await;
    let position = workers.iter().position(|id| *id == worker).unwrap();
    let log = machines[position].dir.path().join(format!("workers/{worker}.log"));
    let log = std::fs::read_to_string(log).unwrap();
    let line = log.lines().find(|line| line.contains("mark-of-the-request")).expect(&log);
    assert!(line.contains("the run is complete"), "{line}");
    assert!(!log.contains("lily"), "no text of a prompt or an answer is logged: {log}");
    queen.shutdown(Duration::from_secs(5)).await.unwrap();
}

/// The metrics of the daemon that this record is about.
async fn metrics(record: &Path) -> BTreeMap<String, f64> {
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    let port = u16::try_from(record["port"].as_u64().unwrap()).unwrap();
    let token = record["token"].as_str().unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"),
        "{head}"
    );
    crate::exposition::read(body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn hives_and_workers_tell_their_metrics() {
    let machines = [Machine::new(), Machine::new()];
    let (queen, _) = fleet(&machines).await;
    let worker = answered_by(&queen, None).await;
    let machine = machines
        .iter()
        .find(|machine| machine.dir.path().join(format!("workers/{worker}.json")).exists())
        .unwrap();
    let hive = metrics(&machine.dir.path().join("hive.json")).await;
    assert_eq!(hive["rbee_hive_workers"], 1.0);
    assert_eq!(hive["rbee_hive_spawns_total{outcome=\"done\",code=\"\"}"], 1.0);
    assert!(hive["rbee_hive_model_bytes"] > 1e6, "{hive:?}");
    let worker = metrics(&machine.dir.path().join(format!("workers/{worker}.json"))).await;
    assert_eq!(worker["rbee_worker_runs_total{outcome=\"complete\",code=\"\"}"], 1.0);
    assert_eq!(worker["rbee_worker_slots_busy"], 0.0);
    assert!(worker["rbee_worker_tokens_total{kind=\"completion\"}"] > 5.0, "{worker:?}");
    assert_eq!(worker["rbee_worker_first_output_seconds_count"], 1.0);
    for (program, route) in [(&hive, "/v1/workers"), (&worker, "/v1/link")] {
        let requests = format!("rbee_http_requests_total{{route=\"{route}\",method=\"POST\"");
        for family in ["rbee_build_info{version=", "process_resident_memory_bytes", &requests] {
            assert!(program.keys().any(|id| id.starts_with(family)), "{family}: {program:?}");
        }
    }
    queen.shutdown(Duration::from_secs(5)).await.unwrap();
}
