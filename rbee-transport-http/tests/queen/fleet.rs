//! Machines, workers and models, over HTTP.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use crate::common::{self, Hall, SlowFactory, echo, model, request};
use http::{Method, StatusCode};
use rbee_core::{
    Error, ErrorKind, HiveBackend, HiveId, InProcessHive, Queen, Result, async_trait,
    worker::EchoWorker,
};
use rbee_transport_http::{
    Token,
    client::{Endpoint, HttpHive},
    dial::Tcp,
    server::{AddProgress, HiveConnector, HiveMachines, HiveServer, QueenServer, Server},
    wire::queen::AddHive,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Adds hives of this process, and records which it had to forget.
#[derive(Debug, Default)]
struct Rehearsal {
    forgotten: Mutex<Vec<String>>,
}

impl HiveMachines for Rehearsal {}

#[async_trait]
impl HiveConnector for Rehearsal {
    async fn connect(&self, request: AddHive, _: AddProgress) -> Result<Arc<dyn HiveBackend>> {
        let url = request.url.unwrap_or_default();
        if url == "test://closed" {
            return Err(Error::new(ErrorKind::Unauthorized, "the hive takes another token"));
        }
        let Some(name) = url.strip_prefix("test://") else {
            return Err(Error::new(ErrorKind::HiveUnreachable, "nobody is there"));
        };
        let worker = EchoWorker::builder("second".parse()?).hive(HiveId::new(name)?).build();
        Ok(Arc::new(InProcessHive::new().with_id(HiveId::new(name)?).with_worker(worker)))
    }

    async fn forget(&self, hive: &HiveId) -> Result<()> {
        self.forgotten.lock().unwrap().push(hive.to_string());
        Ok(())
    }
}

#[tokio::test]
async fn a_machine_is_added_looked_at_and_removed() {
    let connector = Arc::new(Rehearsal::default());
    let hall =
        Hall::of(echo(), Queen::builder(), |server| server.with_connector(connector.clone())).await;
    let added = hall.post("/v1/hives", json!({"url": "test://b"})).await;
    assert_eq!(added.status, StatusCode::CREATED, "{}", added.text());
    assert_eq!((&added.json()["id"], &added.json()["status"]), (&json!("b"), &json!("online")));
    assert_eq!(added.json()["address"], "in process");
    assert_eq!(added.json()["workers"], 1);
    let again = hall.post("/v1/hives", json!({"url": "test://b"})).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    let nobody = hall.post("/v1/hives", json!({"url": "http://nowhere"})).await;
    assert_eq!(nobody.status, StatusCode::BAD_GATEWAY);
    let closed = hall.post("/v1/hives", json!({"url": "test://closed"})).await;
    let error = closed.json()["error"].clone();
    assert_eq!(
        (closed.status, &error["details"]["param"], &error["message"]),
        (StatusCode::BAD_REQUEST, &json!("token"), &json!("the hive takes another token")),
        "the refused token is not that of the client"
    );
    let list = hall.get("/v1/hives").await.json();
    let names: Vec<_> =
        list["data"].as_array().unwrap().iter().map(|hive| hive["id"].clone()).collect();
    assert_eq!(names, ["b", "local"]);
    assert_eq!(hall.chat(json!({"model": "second"})).await.status, StatusCode::OK);

    assert_eq!(hall.delete("/v1/hives/b").await.status, StatusCode::NO_CONTENT);
    assert_eq!(*connector.forgotten.lock().unwrap(), ["b"]);
    for reply in [
        hall.delete("/v1/hives/b").await,
        hall.get("/v1/hives/b").await,
        hall.get("/v1/hives/a%20b").await,
    ] {
        assert_eq!(
            (reply.status, &reply.json()["error"]["code"]),
            (StatusCode::NOT_FOUND, &json!("NOT_FOUND"))
        );
    }
    assert_eq!(hall.chat(json!({"model": "second"})).await.status, StatusCode::NOT_FOUND);
    hall.quiet().await;
}

#[tokio::test]
async fn without_a_connector_no_machine_can_be_added() {
    let hall = Hall::new().await;
    let reply = hall.post("/v1/hives", json!({"url": "http://127.0.0.1:7835"})).await;
    assert_eq!(
        (reply.status, &reply.json()["error"]["code"]),
        (StatusCode::BAD_REQUEST, &json!("UNSUPPORTED"))
    );
}

#[tokio::test]
async fn a_machine_is_stopped_started_and_drained() {
    let hall = Hall::new().await;
    let drained = hall.post("/v1/hives/local/drain", json!({})).await;
    assert_eq!((drained.status, &drained.json()["draining"]), (StatusCode::ACCEPTED, &json!(true)));
    let stopped = hall.post("/v1/hives/local/stop", json!({})).await;
    assert_eq!((stopped.status, &stopped.json()["status"]), (StatusCode::OK, &json!("offline")));
    assert_eq!(stopped.json()["error"]["code"], "HIVE_UNREACHABLE");
    let started = hall.post("/v1/hives/local/start", json!({})).await;
    assert_eq!(
        (started.status, &started.json()["draining"]),
        (StatusCode::ACCEPTED, &json!(false))
    );
    assert_eq!(started.json()["status"], "online", "{}", started.text());
    assert_eq!(started.json()["can_start"], true);
    for verb in ["start", "stop", "drain"] {
        let reply = hall.post(&format!("/v1/hives/nobody/{verb}"), json!({})).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{verb}");
    }
}

#[tokio::test]
async fn a_machine_that_only_has_an_address_is_not_said_to_start() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = Endpoint::new(Arc::new(Tcp::new("127.0.0.1")), port, None);
    let hive = HttpHive::new("attic".parse().unwrap(), endpoint);
    let hall = Hall::of(echo(), Queen::builder().hive(hive), |server| server).await;
    let view = hall.get("/v1/hives/attic").await.json();
    assert_eq!(view["can_start"], false, "{view}");
    let stopped = hall.post("/v1/hives/attic/stop", json!({})).await;
    assert_eq!(stopped.status, StatusCode::BAD_GATEWAY, "{}", stopped.text());
    assert!(stopped.text().contains("but it was not stopped"), "{}", stopped.text());
    // Whether it was stopped or not.
    for _ in 0..2 {
        let reply = hall.post("/v1/hives/attic/start", json!({})).await;
        let error = reply.json()["error"].clone();
        assert_eq!(
            (reply.status, &error["code"]),
            (StatusCode::BAD_GATEWAY, &json!("HIVE_UNREACHABLE")),
            "{error}"
        );
        let message = error["message"].as_str().unwrap();
        for words in
            ["cannot start it", "refused", &format!("`rbee-hive --id attic --port {port}`")]
        {
            assert!(message.contains(words), "{words}: {message}");
        }
    }
}

#[tokio::test]
async fn a_machine_that_was_started_again_is_found_at_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let token = Token::random().unwrap();
    let dial = Arc::new(Tcp::new("127.0.0.1"));
    let endpoint = Endpoint::new(dial, address.port(), Some(token.clone()));
    let hive = HttpHive::new("attic".parse().unwrap(), endpoint);
    let hall = Hall::of(echo(), Queen::builder().hive(hive), |server| server).await;
    let refused = hall.post("/v1/hives/attic/start", json!({})).await;
    assert_eq!(refused.status, StatusCode::BAD_GATEWAY, "{}", refused.text());
    let server = Server::bind(address).await.unwrap();
    let attic = InProcessHive::new().with_id("attic".parse().unwrap());
    let router = HiveServer::new(Arc::new(attic)).router(token);
    let stop = CancellationToken::new();
    tokio::spawn(server.run(router, stop.clone(), std::time::Duration::ZERO));
    // Its next try would come much later.
    let started = hall.post("/v1/hives/attic/start", json!({})).await;
    assert_eq!(started.status, StatusCode::ACCEPTED, "{}", started.text());
    assert_eq!(started.json()["status"], "online");
    stop.cancel();
}

#[tokio::test]
async fn a_machine_that_refuses_the_queens_token_is_not_told_as_a_refusal_of_the_client() {
    let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let port = server.address().port();
    let attic = InProcessHive::new().with_id("attic".parse().unwrap());
    let router = HiveServer::new(Arc::new(attic)).router(Token::random().unwrap());
    let stop = CancellationToken::new();
    tokio::spawn(server.run(router, stop.clone(), std::time::Duration::ZERO));
    let other = Token::random().unwrap();
    let endpoint = Endpoint::new(Arc::new(Tcp::new("127.0.0.1")), port, Some(other));
    let hive = HttpHive::new("attic".parse().unwrap(), endpoint);
    let hall = Hall::of(echo(), Queen::builder().hive(hive), |server| server).await;
    for verb in ["start", "stop"] {
        let reply = hall.post(&format!("/v1/hives/attic/{verb}"), json!({})).await;
        assert_eq!(reply.status, StatusCode::BAD_GATEWAY, "{verb}: {}", reply.text());
        assert_eq!(reply.json()["error"]["code"], "HIVE_UNREACHABLE", "{}", reply.text());
        assert!(reply.text().contains("token"), "it says why: {}", reply.text());
        assert_eq!(reply.header("www-authenticate"), None);
    }
    stop.cancel();
}

/// A hall whose hive loads models as slowly as the test wants.
async fn hangar() -> (Hall, common::Model, Arc<Semaphore>) {
    let (model, ready) = (model(), Arc::new(Semaphore::new(0)));
    let hive = InProcessHive::new().with_factory(SlowFactory(ready.clone()));
    let queen = Queen::builder().hive(hive).alias("slow", &model.reference).build().await.unwrap();
    let router = QueenServer::new(queen.clone()).router();
    (Hall { queen, router, echo: EchoWorker::new("x".parse().unwrap()) }, model, ready)
}

#[tokio::test]
async fn a_worker_is_started_pinned_and_stopped() {
    let (hall, _model, ready) = hangar().await;
    let pull = hall.post("/v1/catalog/pull", json!({"model": "slow"})).await;
    assert_eq!(pull.events().last().unwrap().name.as_ref(), "done", "{}", pull.text());
    let reply = hall.post("/v1/workers", json!({"model": "slow", "slots": 2, "pin": true})).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text());
    let id = reply.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/workers/{id}");
    assert_eq!(reply.header("location"), Some(&*path));
    let until = async |state: &str| {
        while hall.get(&path).await.json()["state"] != state {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        hall.get(&path).await.json()
    };
    let loading = until("loading").await;
    assert_eq!(
        (&loading["slots"], &loading["pinned"], &loading["hive"]),
        (&json!(2), &json!(true), &json!("local"))
    );
    while hall.get(&path).await.json()["progress"] != json!({"done": 40, "total": 100}) {
        tokio::task::yield_now().await;
    }
    assert_eq!(hall.get("/v1/catalog/model?model=slow").await.json()["state"], "loading");
    let again = hall.post("/v1/workers", json!({"model": "slow"})).await;
    assert_eq!(again.json()["id"], id, "the one that is on its way");
    ready.add_permits(1);
    let idle = until("idle").await;
    assert_eq!((&idle["slots_available"], &idle["progress"]), (&json!(2), &Value::Null));
    assert_eq!(hall.get("/v1/workers").await.json()["data"].as_array().unwrap().len(), 1);

    assert_eq!(hall.delete(&format!("{path}/pin")).await.json()["pinned"], false);
    assert_eq!(hall.ask(Method::PUT, &format!("{path}/pin"), None).await.json()["pinned"], true);
    let busy = hall.delete("/v1/catalog/model?model=slow").await;
    assert_eq!(busy.status, StatusCode::CONFLICT, "a worker has it loaded");
    let stopped = hall.delete(&path).await;
    assert_eq!(
        (stopped.status, &stopped.json()["state"]),
        (StatusCode::ACCEPTED, &json!("draining"))
    );
    while hall.get(&path).await.status != StatusCode::NOT_FOUND {
        tokio::task::yield_now().await;
    }
    for reply in [
        hall.get("/v1/workers/x").await,
        hall.delete(&path).await,
        hall.delete(&format!("{path}/pin")).await,
    ] {
        assert_eq!(reply.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_worker_that_cannot_be_is_refused_by_name() {
    let hall = Hall::new().await;
    for (body, status, param) in [
        (json!({"model": "nobody"}), StatusCode::NOT_FOUND, json!("model")),
        (json!({"model": "a b"}), StatusCode::NOT_FOUND, json!("model")),
        (json!({"model": "hf:a b"}), StatusCode::BAD_REQUEST, json!("model")),
        (json!({"model": "bee", "slots": 0}), StatusCode::BAD_REQUEST, json!("slots")),
        (json!({"model": "bee", "hive": "nobody"}), StatusCode::NOT_FOUND, Value::Null),
        (json!({"model": "bee", "color": "red"}), StatusCode::BAD_REQUEST, Value::Null),
        (json!({}), StatusCode::BAD_REQUEST, Value::Null),
    ] {
        let reply = hall.post("/v1/workers", body.clone()).await;
        assert_eq!(reply.status, status, "{body}: {}", reply.text());
        assert_eq!(
            reply.json()["error"]["details"].get("param").cloned().unwrap_or_default(),
            param
        );
    }
}

#[tokio::test]
async fn models_are_listed_pulled_and_removed() {
    let (hall, model, _ready) = hangar().await;
    let entry = || async { hall.get("/v1/catalog/model?model=slow").await.json() };
    assert_eq!(
        entry().await,
        json!({"name": "slow", "model": model.reference, "state": "unloaded", "hives": [], "workers": []}),
        "no hive has it, and the size of a file that is no model is not said"
    );
    let pull = hall.post("/v1/catalog/pull", json!({"model": "slow", "hive": "local"})).await;
    assert_eq!(pull.header("content-type"), Some("text/event-stream"));
    let last = pull.events().pop().unwrap();
    let pulled: Value = serde_json::from_slice(&last.data).unwrap();
    assert_eq!(
        (&*last.name, pulled),
        ("done", json!({"model": model.reference, "bytes": 1000, "hives": ["local"]}))
    );
    assert_eq!(
        (&entry().await["hives"], &entry().await["bytes"]),
        (&json!(["local"]), &json!(1000))
    );
    assert_eq!(hall.get("/v1/catalog").await.json()["data"].as_array().unwrap().len(), 1);
    let elsewhere = hall.get("/v1/catalog/model?model=slow&hive=other").await;
    assert_eq!(elsewhere.status, StatusCode::NOT_FOUND);

    assert_eq!(
        hall.delete("/v1/catalog/model?model=slow&hive=other").await.status,
        StatusCode::NOT_FOUND
    );
    let removed = hall.delete("/v1/catalog/model?model=slow").await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT, "{}", removed.text());
    assert_eq!(
        hall.delete("/v1/catalog/model?model=slow").await.json()["error"]["code"],
        "MODEL_NOT_FOUND"
    );
    for (body, status) in [
        (json!({"model": "slow", "hive": "nobody"}), StatusCode::NOT_FOUND),
        (json!({"model": ""}), StatusCode::BAD_REQUEST),
        (json!({"model": "slow", "hive": "a b"}), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(hall.post("/v1/catalog/pull", body.clone()).await.status, status, "{body}");
    }
    let no_hub = hall.post("/v1/catalog/pull", json!({"model": "hf:org/repo"})).await;
    assert_eq!(no_hub.status, StatusCode::NOT_FOUND, "{}", no_hub.text());
    drop(model);
    let gone = hall.post("/v1/catalog/pull", json!({"model": "slow"})).await;
    let last = gone.events().pop().unwrap();
    assert_eq!(&*last.name, "error", "a pull that fails later says so in its stream");
}

#[tokio::test]
async fn a_file_can_be_named_only_where_that_is_allowed() {
    let (inside, outside) = (model(), model());
    let root = inside.directory.path();
    #[cfg(unix)]
    std::os::unix::fs::symlink(outside.directory.path(), root.join("link")).unwrap();
    let hall = Hall::of(echo(), Queen::builder(), |server| server.with_file_root(root)).await;
    let status = async |reference: String| {
        let mut statuses = BTreeSet::new();
        for (path, body) in [
            ("/v1/chat/completions", common::chat(json!({"model": reference}))),
            ("/v1/jobs", common::chat(json!({"model": reference}))),
            ("/v1/embeddings", json!({"model": reference, "input": "x"})),
            ("/v1/rerank", json!({"model": reference, "query": "x", "documents": ["y"]})),
            ("/v1/workers", json!({"model": reference})),
            ("/v1/catalog/pull", json!({"model": reference})),
        ] {
            let ask = hall.begin(request(Method::POST, path, Some(body)));
            // An allowed request may wait: here no hive can load the model.
            let answer = tokio::time::timeout(std::time::Duration::from_millis(200), ask).await;
            statuses.insert(answer.is_ok_and(|answer| answer.status() == StatusCode::FORBIDDEN));
        }
        assert_eq!(statuses.len(), 1, "all routes agree on {reference}");
        statuses.pop_first().unwrap()
    };
    assert!(!status(inside.reference.clone()).await);
    assert!(status(outside.reference.clone()).await, "outside of the directory");
    assert!(status("file:/etc/passwd".into()).await);
    assert!(status("file:/no/such/file".into()).await, "clients cannot learn which files exist");
    let through = format!("file:{}/link/model.bin", root.display());
    #[cfg(unix)]
    assert!(status(through).await, "a link leads out of it");
    let refused = hall.chat(json!({"model": outside.reference})).await.json();
    assert_eq!(
        (&refused["error"]["type"], &refused["error"]["param"]),
        (&json!("permission_error"), &json!("model"))
    );
}
