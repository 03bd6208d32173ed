//! Tests of models, workers, machines and jobs: the lists and the operations.

use std::sync::Arc;

use crate::support::{Ended, Hall, echo, hive, until};
use rbee_core::{
    Error, ErrorKind, HiveBackend, HiveId, JobState, Result, Worker, async_trait,
    worker::{EchoGate, EchoWorker},
};
use rbee_transport_http::{
    Token,
    server::{AddProgress, HiveConnector, HiveMachines, LogRing},
    wire::queen::{
        AddHive, CatalogEntry, Doctor, Health, HiveView, JobList, JobView, Listing, LogLine,
        WorkerView,
    },
};
use serde::de::DeserializeOwned;
use tracing_subscriber::layer::SubscriberExt as _;

/// Parses standard output, which must be exactly what the queen sent.
fn read<T: DeserializeOwned>(ended: &Ended) -> T {
    serde_json::from_value(ended.json()).unwrap()
}

/// A model that has files, which is all that these tests need.
fn spare() -> String {
    concat!("file:", env!("CARGO_MANIFEST_DIR"), "/src/verbs").to_owned()
}

/// A model that the workers here cannot load.
fn broken() -> String {
    concat!("file:", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").to_owned()
}

/// A queen with the machine `attic`, on which echo workers can be loaded.
async fn with_attic() -> Hall {
    let attic = |queen: rbee_core::QueenBuilder| {
        queen.hive(hive("attic")).alias("spare", spare()).alias("broken", broken())
    };
    Hall::built(echo(), attic, |server| server).await
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_and_shown() {
    let hall = Hall::new().await;
    let ended = hall.rbee(&["ls"]).run().await.ok();
    assert_eq!(
        ended.rows(),
        [vec!["NAME", "SIZE", "STATE", "HIVES"], vec!["bee", "-", "loaded", "-"]]
    );
    assert_eq!(ended.err, "");
    let listed: Listing<CatalogEntry> = read(&hall.rbee(&["ls", "--json"]).run().await.ok());
    assert_eq!((listed.data[0].name.as_str(), listed.data[0].model.as_str()), ("bee", "echo"));
    assert_eq!(hall.rbee(&["ls", "nothing"]).run().await.ok().rows().len(), 1);

    let shown = hall.rbee(&["show", "bee"]).run().await.ok();
    let worker = hall.echo.info().id.to_string();
    assert!(shown.out.contains("reference   echo") && shown.out.contains(&worker), "{shown:?}");
    let entry: CatalogEntry = read(&hall.rbee(&["show", "bee", "--json"]).run().await.ok());
    assert_eq!(entry, listed.data[0]);
    hall.rbee(&["show", "bie"]).run().await.failed(4, &["MODEL_NOT_FOUND", "did you mean bee?"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_loaded_is_listed_with_where_and_how() {
    let hall = Hall::new().await;
    let ended = hall.rbee(&["ps"]).run().await.ok();
    let rows = ended.rows();
    assert_eq!(rows[0], ["NAME", "WORKER", "HIVE", "SIZE", "PROCESSOR", "SLOTS", "STATE", "IDLE"]);
    let worker = hall.echo.info().id.to_string();
    assert_eq!(rows[1][..3], ["bee", &worker, "local"]);
    assert_eq!(rows[1][5..7], ["0/8", "idle"]);
    let listed: Listing<WorkerView> = read(&hall.rbee(&["ps", "--json"]).run().await.ok());
    assert_eq!(listed.data[0].id.to_string(), worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_loaded_where_it_is_wanted_and_unloaded_again() {
    let hall = with_attic().await;
    let load = ["load", "spare", "--hive", "attic", "--device", "1", "--slots", "3", "--pin"];
    let ended = hall.rbee(&load).run().await.ok();
    assert!(ended.out.starts_with("loaded spare on hive attic, worker "), "{ended:?}");
    let listed: Listing<WorkerView> = read(&hall.rbee(&["ps", "--json"]).run().await.ok());
    let worker = listed.data.iter().find(|worker| worker.model == spare()).unwrap();
    assert_eq!((&*worker.devices, worker.slots, worker.pinned), (&[1][..], 3, true));
    let rows = hall.rbee(&["ps"]).run().await.ok();
    let row = rows.rows().into_iter().find(|row| row[0] == "spare").unwrap().join("|");
    assert!(row.contains("|cuda 1|0/3|idle, pinned|"), "{row}");

    let id = worker.id.to_string();
    let ended = hall.rbee(&["pin", "spare", "--off"]).run().await.ok();
    assert!(ended.out.starts_with("unpinned "), "{ended:?}");
    assert!(!hall.rbee(&["ps"]).run().await.ok().out.contains("pinned"));
    let ended = hall.rbee(&["unload", &id[..8]]).run().await.ok();
    assert!(ended.out.starts_with("unloaded spare") && ended.out.contains(&id), "{ended:?}");
    let listed: Listing<WorkerView> = read(&hall.rbee(&["ps", "--json"]).run().await.ok());
    assert!(listed.data.iter().all(|worker| worker.model != spare()), "it is gone: {listed:?}");
    hall.rbee(&["unload", "spare"])
        .run()
        .await
        .failed(4, &["no worker has spare loaded", "rbee ps"]);
    hall.rbee(&["stop", "bee"]).run().await.ok();
    hall.rbee(&["unload", "ffffffff"]).run().await.failed(4, &["no worker"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loaded_model_is_found_by_its_name_with_latest() {
    let hall = with_attic().await;
    hall.rbee(&["load", "spare:latest", "--hive", "attic"]).run().await.ok();
    for verb in [&["pin"][..], &["pin", "--off"], &["unload"]] {
        let arguments = [verb, &["spare:latest"]].concat();
        let ended = hall.rbee(&arguments).run().await.ok();
        assert!(ended.out.contains(" spare on hive attic"), "{arguments:?}: {ended:?}");
    }
    // A name without an alias.
    hall.rbee(&["pin", "echo:latest"]).run().await.ok();
    hall.rbee(&["unload", "wasp:latest"]).run().await.failed(4, &["no worker has wasp:latest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_model_is_unloaded_when_its_runs_have_ended() {
    let gate = EchoGate::new();
    let hall = Hall::with(echo().gate(&gate)).await;
    hall.rbee(&["jobs", "submit", "bee", "hello", "--max-tokens", "2"]).run().await.ok();
    until("running", async || hall.last_job().await.status.state() == JobState::Running).await;
    let ended = hall.rbee(&["unload", "bee", "--no-wait"]).run().await.ok();
    let worker = hall.echo.info().id.to_string();
    let expected =
        format!("unloading bee on hive local, worker {worker} as soon as its runs have ended\n");
    assert_eq!(ended.out, expected);
    let ended = hall.rbee(&["unload", "bee", "--timeout", "0"]).run().await;
    ended.failed(1, &["UNLOAD_TIMEOUT", "bee was not unloaded within 0 s", "rbee ps"]);
    let ended = hall.rbee(&["ps"]).run().await.ok();
    assert!(ended.out.contains("draining"), "{ended:?}");
    gate.open();
    until("gone", async || hall.rbee(&["ps"]).run().await.ok().rows().len() == 1).await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_unload_shows_what_it_waits_for_until_it_is_done() {
    let gate = EchoGate::new();
    let hall = Hall::with(echo().gate(&gate)).await;
    hall.rbee(&["jobs", "submit", "bee", "hello", "--max-tokens", "2"]).run().await.ok();
    until("running", async || hall.last_job().await.status.state() == JobState::Running).await;
    let terminal = hall.rbee(&["unload", "bee"]).in_terminal(100);
    terminal.shows("unloading bee: 1 run is left").await;
    gate.open();
    let (seen, code) = terminal.end().await;
    assert_eq!(code, Some(0), "{seen:?}");
    assert!(seen.contains("unloaded bee on hive local"), "{seen:?}");
    assert_eq!(hall.rbee(&["ps"]).run().await.ok().rows().len(), 1);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_wait_leaves_the_model_unloading() {
    let gate = EchoGate::new();
    let hall = Hall::with(echo().gate(&gate)).await;
    hall.rbee(&["jobs", "submit", "bee", "hello", "--max-tokens", "2"]).run().await.ok();
    until("running", async || hall.last_job().await.status.state() == JobState::Running).await;
    let terminal = hall.rbee(&["unload", "bee"]).in_terminal(100);
    terminal.shows("unloading bee: 1 run is left").await;
    terminal.running.interrupt();
    let (seen, code) = terminal.end().await;
    assert_eq!(code, Some(130), "{seen:?}");
    assert!(seen.contains("as soon as its runs have ended"), "{seen:?}");
    gate.open();
    until("gone", async || hall.rbee(&["ps"]).run().await.ok().rows().len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queen_inside_an_application_is_not_shut_down() {
    let hall = Hall::new().await;
    let ended = hall.rbee(&["shutdown"]).run().await;
    ended.failed(2, &["UNSUPPORTED", "part of an application", "end its process"]);
    hall.rbee(&["status"]).run().await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_loaded_is_a_clear_error() {
    let hall = with_attic().await;
    hall.rbee(&["load", "spare", "--hive", "cellar"]).run().await.failed(4, &["cellar"]);
    hall.rbee(&["load", "spare", "--slots", "0"]).run().await.failed(2, &["parameter slots"]);
    let ended = hall.rbee(&["load", "broken", "--hive", "attic"]).run().await;
    ended.failed(1, &["MODEL_INCOMPATIBLE", "no echo in it"]);
    hall.rbee(&["load", "spare", "--hive", "a b"]).run().await.failed(2, &["--hive"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_are_listed_shown_drained_stopped_and_started() {
    let hall = with_attic().await;
    let ended = hall.rbee(&["hive", "ls"]).run().await.ok();
    let row = ended.rows().into_iter().find(|row| row[0] == "attic").unwrap();
    assert_eq!(row[..5], ["attic", "online", "in process", "cpu, cuda", "64 GB"]);
    let shown = hall.rbee(&["hive", "show", "attic"]).run().await.ok();
    assert!(shown.out.contains("a processor") && shown.out.contains("a card"), "{shown:?}");
    let view: HiveView = read(&hall.rbee(&["hive", "show", "attic", "--json"]).run().await.ok());
    assert_eq!((view.id.as_str(), view.devices.len()), ("attic", 2));

    assert_eq!(
        hall.rbee(&["hive", "drain", "attic"]).run().await.ok().out,
        "draining hive attic\n"
    );
    let ended = hall.rbee(&["hive", "ls"]).run().await.ok();
    assert!(ended.out.contains("draining"), "{ended:?}");
    assert_eq!(hall.rbee(&["hive", "stop", "attic"]).run().await.ok().out, "stopped hive attic\n");
    assert_eq!(hall.rbee(&["hive", "start", "attic"]).run().await.ok().out, "started hive attic\n");
    until("online", async || {
        let view: HiveView =
            read(&hall.rbee(&["hive", "show", "attic", "--json"]).run().await.ok());
        view.status == "online" && !view.draining
    })
    .await;
    assert_eq!(hall.rbee(&["hive", "rm", "attic"]).run().await.ok().out, "removed hive attic\n");
    hall.rbee(&["hive", "show", "attic"]).run().await.failed(4, &["attic", "rbee hive ls"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_submitted_listed_shown_and_cancelled() {
    let gate = EchoGate::new();
    let hall = Hall::with(echo().gate(&gate)).await;
    let submit = ["jobs", "submit", "bee", "hello", "--batch", "--seed", "7", "--max-tokens", "3"];
    let ended = hall.rbee(&submit).run().await.ok();
    let id = ended.out.trim().to_owned();
    assert_eq!(id.len(), 36, "{ended:?}");
    until("running", async || {
        let rows = hall.rbee(&["jobs", "ls", "--state", "running"]).run().await.ok();
        rows.rows().len() == 2
    })
    .await;
    gate.open();
    let followed = hall.rbee(&["jobs", "events", &id, "--text"]).run().await.ok();
    assert_eq!(followed.out, EchoWorker::text(7, 3) + "\n");
    let ended = hall.rbee(&["jobs", "ls"]).run().await.ok();
    let row = ended.rows()[1].clone();
    assert_eq!(row[..6], [&id, "bee", "complete", "batch", "1", "3"]);
    let shown = hall.rbee(&["jobs", "show", &id[..6]]).run().await.ok();
    assert!(shown.out.contains(EchoWorker::text(7, 3).trim_end()), "{shown:?}");
    let listed: JobList = read(&hall.rbee(&["jobs", "ls", "--json"]).run().await.ok());
    assert_eq!(listed.data[0].id.to_string(), id);
    let job: JobView = read(&hall.rbee(&["jobs", "show", &id, "--json"]).run().await.ok());
    assert_eq!((job.state.as_str(), job.tokens), ("complete", 3));
    let ended = hall.rbee(&["jobs", "cancel", &id]).run().await.ok();
    assert!(ended.out.is_empty() && ended.err.contains("has ended already: complete"), "{ended:?}");
    let older = hall.rbee(&["jobs", "ls", "-n", "1"]).run().await.ok();
    assert_eq!(older.rows().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_cancelled_by_the_beginning_of_its_id() {
    let gate = EchoGate::new();
    let hall = Hall::with(echo().gate(&gate)).await;
    let ended = hall.rbee(&["jobs", "submit", "bee", "hello"]).run().await.ok();
    let id = ended.out.trim();
    let ended = hall.rbee(&["jobs", "cancel", &id[..8]]).run().await.ok();
    assert_eq!(ended.out, format!("cancelled job {id}\n"));
    until("cancelled", async || hall.last_job().await.status.state() == JobState::Cancelled).await;
    let ended = hall.rbee(&["jobs", "events", id]).run().await;
    ended.failed(130, &["CANCELLED"]);
    hall.rbee(&["jobs", "cancel", "nonsense"]).run().await.failed(2, &["is no job id"]);
    let unknown = "00000000-0000-4000-8000-000000000000";
    hall.rbee(&["jobs", "show", unknown]).run().await.failed(4, &["NOT_FOUND"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queen_tells_how_she_is_and_what_she_finds() {
    let hall = Hall::new().await;
    let health: Health = read(&hall.rbee(&["status", "--json"]).run().await.ok());
    let details = health.details.unwrap();
    assert_eq!((health.status.as_str(), details.workers_ready), ("ok", 1));
    let shown = hall.rbee(&["health"]).run().await.ok();
    assert!(shown.out.contains("workers ready  1"), "{shown:?}");
    let version = hall.rbee(&["version"]).run().await.ok();
    assert!(version.out.contains(&format!("queen  {} at", details.version)), "{version:?}");
    let policy: rbee_transport_http::wire::policy::PolicyView =
        read(&hall.rbee(&["policy", "show", "--json"]).run().await.ok());
    assert!(hall.rbee(&["policy", "show"]).run().await.ok().out.contains(&policy.name));
    hall.rbee(&["policy", "get"]).run().await.failed(2, &["is compiled in and has no text"]);
    let ended = hall.rbee(&["doctor", "--json"]).run().await.ok();
    let doctor: Doctor = read(&ended);
    let shown = hall.rbee(&["doctor"]).run().await.ok();
    for check in doctor.checks {
        assert!(
            shown.out.contains(&check.subject) && shown.out.contains(&check.check),
            "{shown:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_measured() {
    let hall = Hall::new().await;
    let bench = ["bench", "bee", "-c", "2", "-n", "6", "--max-tokens", "4"];
    let shown = hall.rbee(&bench).run().await.ok();
    for said in ["first token", "p99", "tokens/s", "requests/s", "6 (2 at once, 0 failed)"] {
        assert!(shown.out.contains(said), "{said}: {shown:?}");
    }
    let measured = hall.rbee(&[&bench[..], &["--json"]].concat()).run().await.ok().json();
    assert_eq!(measured["completion_tokens"], 24);
    assert!(measured["first_token_ms"]["p50"].as_f64() > Some(0.0));
    hall.rbee(&["bench", "bie"]).run().await.failed(4, &["did you mean bee?"]);
}

/// Connects to the machine `cellar` at this address with this token.
#[derive(Debug)]
struct Cellar(Token);

impl HiveMachines for Cellar {}

#[async_trait]
impl HiveConnector for Cellar {
    async fn connect(&self, request: AddHive, _: AddProgress) -> Result<Arc<dyn HiveBackend>> {
        assert_eq!(request.url.as_deref(), Some("http://10.0.0.9:7835"));
        match request.token {
            Some(token) if self.0.matches(token.reveal()) => Ok(Arc::new(hive("cellar"))),
            _ => Err(Error::new(ErrorKind::Unauthorized, "the hive wants its token")),
        }
    }

    async fn forget(&self, _: &HiveId) -> Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_added_with_the_token_of_a_file() {
    let token = Token::random().unwrap();
    let cellar = Arc::new(Cellar(token.clone()));
    let hall = Hall::built(echo(), |queen| queen, |server| server.with_connector(cellar)).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), token.reveal()).unwrap();
    let path = file.path().to_str().unwrap();
    let add = ["hive", "add", "10.0.0.9:7835", "--hive-token-file", path];
    let ended = hall.rbee(&add).run().await.ok();
    assert_eq!(ended.out, "added hive cellar (in process)\n");
    let ended = hall.rbee(&add[..3]).run().await.failed(2, &["wants its token", "parameter token"]);
    assert!(!ended.err.contains("RBEE_API_KEY"), "that is the queen's own key: {ended:?}");
    std::fs::write(file.path(), "hunter2").unwrap();
    let ended = hall.rbee(&add).run().await.failed(2, &[path, "256 bits"]);
    assert!(!ended.err.contains("hunter2"));
    std::fs::write(file.path(), token.reveal()).unwrap();
    // The token is not sent in the clear to another machine.
    let elsewhere = [&add[..], &["--host", "10.0.0.1"]].concat();
    hall.rbee(&elsewhere).run().await.failed(2, &["in the clear"]);
    for (arguments, said) in [
        (
            &["10.0.0.9:7835", "--accept-new"][..],
            "--accept-new is for machines that are reached by SSH",
        ),
        (&["http://10.0.0.9", "--name", "x"], "--name is for machines that are reached by SSH"),
        (&["ada@cellar", "--hive-token-file", path], "--hive-token-file is for addresses"),
    ] {
        let add = [&["hive", "add"][..], arguments].concat();
        hall.rbee(&add).run().await.failed(2, &[said]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_say_as_json_what_they_did() {
    let hall = with_attic().await;
    let ended = hall.rbee(&["hive", "drain", "attic", "--json"]).run().await.ok();
    assert_eq!(ended.json(), serde_json::json!({"done": "draining", "subject": "hive attic"}));
    let ended = hall.rbee(&["-q", "hive", "start", "attic"]).run().await.ok();
    assert_eq!(ended.out, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_shown_and_followed() {
    let logs = LogRing::new(100, 1 << 20);
    let subscriber = tracing_subscriber::registry().with(logs.clone());
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!("all is well");
        let _span = tracing::info_span!("job", correlation_id = "c-1").entered();
        tracing::warn!(tries = 3, "trouble\n\x1b[2J");
    });
    let hall = Hall::built(echo(), |queen| queen, |server| server.with_logs(logs.clone())).await;
    let shown = hall.rbee(&["logs"]).run().await.ok();
    assert_eq!(shown.out.lines().count(), 2, "{shown:?}");
    assert!(shown.out.contains("INFO ") && shown.out.contains("all is well"), "{shown:?}");
    let expected = "trouble␊␛[2J correlation_id=c-1 tries=3\n";
    let shown = hall.rbee(&["logs", "--level", "warn"]).run().await.ok();
    assert!(shown.out.lines().count() == 1 && shown.out.ends_with(expected), "{shown:?}");
    let lines: Listing<LogLine> =
        read(&hall.rbee(&["logs", "--json", "--correlation-id", "c-1"]).run().await.ok());
    assert_eq!((lines.data.len(), lines.data[0].message.as_str()), (1, "trouble\n\x1b[2J"));

    let mut running = hall.rbee(&["logs", "-f", "-n", "1", "--json"]).start();
    let first = running.line().await;
    assert!(first.contains("trouble"), "{first}");
    tracing::subscriber::with_default(tracing_subscriber::registry().with(logs), || {
        tracing::error!("it goes on");
    });
    let next: LogLine = serde_json::from_str(&running.line().await).unwrap();
    assert_eq!((next.level.as_str(), next.message.as_str()), ("error", "it goes on"));
    #[cfg(unix)]
    {
        running.interrupt();
        running.end().await.failed(130, &["INTERRUPTED"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_named_as_people_type_it_and_a_wrong_name_gets_one_suggestion() {
    let named = |queen: rbee_core::QueenBuilder| {
        queen.alias("llama3.2:3b", "echo").alias("org/model", "echo")
    };
    let hall = Hall::built(echo(), named, |server| server).await;
    for name in ["llama3.2:3b", "org/model", "org/model:latest"] {
        let shown = hall.rbee(&["show", name]).run().await.ok();
        assert!(shown.out.contains("reference   echo"), "{shown:?}");
        hall.rbee(&["run", name, "Hi"]).run().await.ok();
    }
    let listed: Listing<CatalogEntry> = read(&hall.rbee(&["ls", "--json"]).run().await.ok());
    assert!(listed.data.iter().any(|entry| entry.name == "llama3.2:3b"), "{listed:?}");
    let ended = hall.rbee(&["show", "llama3.2:1b"]).run().await;
    let ended = ended.failed(4, &["MODEL_NOT_FOUND", "did you mean llama3.2:3b?"]);
    assert_eq!(ended.err.matches("did you mean").count(), 1, "{ended:?}");
    hall.rbee(&["run", "Qwen/Qwen3-8B", "Hi"]).run().await.failed(4, &["hf:Qwen/Qwen3-8B"]);
}
