//! Batches that a server leaves, and that the next one takes up.

use std::{
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{begin, chat_line, ended, ids, limits, lines_of, names, until};
use crate::common::{Hall, TIMEOUT, echo};
use http::StatusCode;
use rbee_core::{
    Queen, SqliteRegistry,
    registry::JobFilter,
    worker::{EchoBuilder, EchoGate},
};
use rbee_transport_http::server::BatchLimits;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// A directory with the store of a queen and its batches.
struct Data(tempfile::TempDir);

/// A run of the server.
struct ServerRun {
    hall: Hall,
    stop: CancellationToken,
}

impl Data {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn batches(&self) -> PathBuf {
        self.0.path().join("batches")
    }

    async fn start(&self, echo: EchoBuilder, limits: BatchLimits) -> ServerRun {
        let store = SqliteRegistry::open(self.0.path().join("rbee.db")).unwrap();
        let queen = Queen::builder().registry(Arc::new(store));
        let (stop, path) = (CancellationToken::new(), self.batches());
        let stopped = stop.clone();
        let hall = Hall::of(echo, queen, |server| {
            server.stop(stopped).with_batches(path, limits).unwrap()
        })
        .await;
        ServerRun { hall, stop }
    }

    /// The file with the results of a batch that has not ended.
    fn output(&self) -> PathBuf {
        let files = self.batches().join("files");
        let is_output = |path: &PathBuf| {
            path.extension().is_some_and(|it| it == "jsonl")
                && !path.with_extension("json").exists()
        };
        let all = std::fs::read_dir(files).unwrap().map(|entry| entry.unwrap().path());
        let written = all.filter(|path| is_output(path) && path.metadata().unwrap().len() > 0);
        let written: Vec<_> = written.collect();
        assert_eq!(written.len(), 1, "{written:?}");
        written[0].clone()
    }
}

impl ServerRun {
    /// Ends it without waiting for its jobs.
    async fn end(self, batches: &Path) {
        self.stop.cancel();
        self.hall.queen.hand_over().await.unwrap();
        drop(self);
        // The tasks of its batches hold the lock until they have ended.
        let lock = std::fs::File::open(batches.join("batches.lock")).unwrap();
        let free = async {
            while lock.try_lock().is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(TIMEOUT, free).await.unwrap();
    }
}

fn lines(count: usize) -> String {
    (0..count).map(|at| chat_line(&format!("line-{at}"), json!({}))).collect()
}

#[tokio::test]
async fn a_batch_goes_on_after_a_restart_and_no_line_is_lost_or_done_twice() {
    let (data, gate) = (Data::new(), EchoGate::new());
    let limits = BatchLimits { lines_in_flight: 3, ..limits() };
    let first = data.start(echo().slots(2).gate(&gate), limits).await;
    let id = begin(&first.hall, "/v1/chat/completions", &lines(9)).await;
    // The answers of some lines, and parts of the next ones.
    gate.release(15);
    until(&first.hall, &id, |batch| batch["request_counts"]["completed"].as_u64() >= Some(2)).await;
    first.hall.echo.until_active(2).await;
    first.end(&data.batches()).await;
    let before = std::fs::read_to_string(data.output()).unwrap();
    assert!((2..9).contains(&before.lines().count()), "{before}");

    let second = data.start(echo(), limits).await;
    let batch = ended(&second.hall, &id).await;
    assert_eq!(batch["status"], "completed", "{batch}");
    assert_eq!(batch["request_counts"], json!({"total": 9, "completed": 9, "failed": 0}));
    let results = lines_of(&second.hall, &batch["output_file_id"]).await;
    let expected: Vec<_> = (0..9).map(|at| format!("line-{at}")).collect();
    assert_eq!(ids(&results), expected, "each line once");
    let after: Vec<_> = results.iter().map(Value::to_string).collect();
    for (kept, line) in before.lines().zip(&after) {
        assert_eq!(serde_json::from_str::<Value>(kept).unwrap().to_string(), *line);
    }
    // Each line had one job in both runs.
    let jobs = second.hall.queen.jobs(&JobFilter::default()).await.unwrap();
    let keys: BTreeSet<_> =
        jobs.iter().map(|job| job.idempotency.as_ref().unwrap().key.to_string()).collect();
    assert_eq!((jobs.len(), keys.len()), (9, 9));
    let answers: BTreeSet<_> =
        results.iter().map(|it| it["response"]["body"]["id"].to_string()).collect();
    assert_eq!(answers.len(), 9);
    second.hall.quiet().await;
}

#[tokio::test]
async fn a_result_that_was_cut_off_is_written_again_with_the_same_answer() {
    let (data, gate) = (Data::new(), EchoGate::new());
    let limits = BatchLimits { lines_in_flight: 1, ..limits() };
    let first = data.start(echo().gate(&gate), limits).await;
    let id = begin(&first.hall, "/v1/chat/completions", &lines(3)).await;
    gate.release(8);
    until(&first.hall, &id, |batch| batch["request_counts"]["completed"] == 2).await;
    first.end(&data.batches()).await;
    // The second result, without its end.
    let path = data.output();
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 10]).unwrap();

    let second = data.start(echo(), limits).await;
    let batch = ended(&second.hall, &id).await;
    assert_eq!(batch["request_counts"], json!({"total": 3, "completed": 3, "failed": 0}));
    let results = lines_of(&second.hall, &batch["output_file_id"]).await;
    assert_eq!(ids(&results), ["line-0", "line-1", "line-2"]);
    let mut cut: Value = serde_json::from_str(whole.lines().nth(1).unwrap()).unwrap();
    let mut again = results[1].clone();
    for result in [&mut cut, &mut again] {
        result["response"]["body"].as_object_mut().unwrap().remove("created");
    }
    assert_eq!(again, cut);
    assert_eq!(second.hall.echo.started(), 1, "only the third line was not answered yet");
}

#[tokio::test]
async fn a_batch_that_is_cancelled_or_expires_around_a_restart_ends_with_its_jobs() {
    for expires in [false, true] {
        let (data, gate) = (Data::new(), EchoGate::new());
        let first = data.start(echo().slots(1).gate(&gate), limits()).await;
        let id = begin(&first.hall, "/v1/chat/completions", &lines(4)).await;
        gate.release(4);
        until(&first.hall, &id, |batch| batch["request_counts"]["completed"] == 1).await;
        first.hall.echo.until_active(1).await;
        first.end(&data.batches()).await;
        // What the record would say if it had been cancelled just before the end, or a day ago.
        let path = data.batches().join(format!("batches/{id}.json"));
        let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        match expires {
            true => record["expires_at_ms"] = json!(record["created_at_ms"].as_u64().unwrap() + 1),
            false => record["status"] = json!("cancelling"),
        }
        std::fs::File::create(&path).unwrap().write_all(record.to_string().as_bytes()).unwrap();

        let second = data.start(echo().gate(&EchoGate::new()), limits()).await;
        let batch = ended(&second.hall, &id).await;
        let failed = if expires { 3 } else { 0 };
        assert_eq!(batch["status"], if expires { "expired" } else { "cancelled" });
        assert_eq!(batch["request_counts"], json!({"total": 4, "completed": 1, "failed": failed}));
        assert_eq!(lines_of(&second.hall, &batch["output_file_id"]).await.len(), 1);
        second.hall.quiet().await;
    }
}

#[tokio::test]
async fn results_that_do_not_fit_on_the_disk_wait_until_there_is_room() {
    let (data, gate) = (Data::new(), EchoGate::new());
    let first = data.start(echo().gate(&gate), limits()).await;
    let id = begin(&first.hall, "/v1/chat/completions", &lines(2)).await;
    first.hall.echo.until_active(2).await;
    first.end(&data.batches()).await;
    let full = BatchLimits { free_bytes: u64::MAX, ..limits() };
    let second = data.start(echo(), full).await;
    second.hall.echo.until_started(2).await;
    second.hall.quiet().await;
    let batch = until(&second.hall, &id, |batch| batch["request_counts"]["total"] == 2).await;
    assert_eq!(
        (&batch["status"], &batch["request_counts"]["completed"]),
        (&json!("in_progress"), &json!(0))
    );
    second.end(&data.batches()).await;
    let third = data.start(echo(), limits()).await;
    let batch = ended(&third.hall, &id).await;
    assert_eq!(batch["request_counts"], json!({"total": 2, "completed": 2, "failed": 0}));
    assert_eq!(third.hall.echo.started(), 0);
}

#[tokio::test]
async fn a_batch_whose_results_do_not_fit_on_the_disk_ends_with_an_error_for_each() {
    for (window, status, code) in [
        (Duration::from_secs(3_600), "cancelled", None),
        (Duration::from_secs(2), "expired", Some("batch_expired")),
    ] {
        let (data, gate) = (Data::new(), EchoGate::new());
        let first = data.start(echo().gate(&gate), BatchLimits { window, ..limits() }).await;
        let id = begin(&first.hall, "/v1/chat/completions", &lines(2)).await;
        first.hall.echo.until_active(2).await;
        first.end(&data.batches()).await;
        let full = BatchLimits { free_bytes: u64::MAX, ..limits() };
        let second = data.start(echo(), full).await;
        until(&second.hall, &id, |batch| batch["request_counts"]["total"] == 2).await;
        second.hall.echo.until_started(2).await;
        second.hall.quiet().await;
        if code.is_none() {
            let path = format!("/v1/batches/{id}/cancel");
            assert_eq!(second.hall.post(&path, Value::Null).await.status, StatusCode::OK);
        }
        let batch = ended(&second.hall, &id).await;
        assert_eq!((&batch["status"], &batch["output_file_id"]), (&json!(status), &Value::Null));
        if let Some(code) = code {
            let errors = lines_of(&second.hall, &batch["error_file_id"]).await;
            assert_eq!(ids(&errors), ["line-0", "line-1"]);
            for error in errors {
                assert_eq!(error["error"]["code"], code, "{error}");
                let message = error["error"]["message"].as_str().unwrap();
                assert!(message.contains("free space on the disk"), "{message}");
            }
        }
        second.end(&data.batches()).await;
    }
}

#[tokio::test]
async fn what_has_ended_is_still_there_after_a_restart_and_is_removed_in_time() {
    let data = Data::new();
    let first = data.start(echo(), limits()).await;
    let id = begin(&first.hall, "/v1/chat/completions", &lines(2)).await;
    let batch = ended(&first.hall, &id).await;
    let results = lines_of(&first.hall, &batch["output_file_id"]).await;
    first.end(&data.batches()).await;

    let second = data.start(echo(), limits()).await;
    assert_eq!(second.hall.get(&format!("/v1/batches/{id}")).await.json(), batch);
    assert_eq!(lines_of(&second.hall, &batch["output_file_id"]).await, results);
    assert_eq!(second.hall.echo.started(), 0);
    // Its input file is no longer in use.
    let path = format!("/v1/files/{}", batch["input_file_id"].as_str().unwrap());
    assert_eq!(second.hall.delete(&path).await.json()["deleted"], true);
    second.end(&data.batches()).await;

    // As if a month had passed.
    let month = 31 * 24 * 60 * 60 * 1_000_u64;
    let records: Vec<_> = ["files", "batches"]
        .iter()
        .flat_map(|below| std::fs::read_dir(data.batches().join(below)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "json"))
        .collect();
    assert_eq!(records.len(), 2);
    for path in records {
        let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for (_, value) in record.as_object_mut().unwrap() {
            if let Some(ms) = value.as_u64().filter(|ms| *ms > month) {
                *value = json!(ms - month);
            }
        }
        std::fs::write(&path, record.to_string()).unwrap();
    }
    let third = data.start(echo(), limits()).await;
    let gone = async {
        while third.hall.get("/v1/batches").await.json()["data"] != json!([]) {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, gone).await.unwrap();
    assert_eq!(third.hall.get("/v1/files").await.json()["data"], json!([]));
    assert_eq!(names(&data.batches()), ["batches.lock"]);
}
