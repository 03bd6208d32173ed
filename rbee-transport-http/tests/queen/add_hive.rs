//! Additions of hives as a stream of events, and what a connector answers about its hives.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::body::Body;
use http::{Method, Request, StatusCode};
use rbee_core::{Error, ErrorKind, HiveBackend, HiveId, InProcessHive, Queen, Result, async_trait};
use rbee_transport_http::{
    server::{AddEvent, AddProgress, HiveConnector, HiveMachines},
    wire::queen::{
        AddHive, AddSent, AddStep, HiveCheck, HiveDoctor, KeptPath, LogLine, RemoveHive,
        RemovedHive, StepState, Verdict,
    },
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::common::{Hall, echo, next, request};

/// Adds hives of this process, with the steps of a machine that is reached by SSH.
#[derive(Debug, Default)]
struct Machines {
    /// The machine `slow` waits for this.
    go: Notify,
    is_dropped: Arc<AtomicBool>,
}

/// Notes that an addition did not come to its end.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[async_trait]
impl HiveConnector for Machines {
    async fn connect(
        &self,
        request: AddHive,
        progress: AddProgress,
    ) -> Result<Arc<dyn HiveBackend>> {
        let name = request.ssh.unwrap_or_default();
        let step = |state, duration_ms| AddStep {
            host: name.clone(),
            step: "upload".into(),
            state,
            duration_ms,
            detail: None,
        };
        progress.event(AddEvent::Step(step(StepState::Started, None)));
        for done in 0..=1_000 {
            let (host, file) = (name.clone(), "rbee-hive".to_owned());
            progress.event(AddEvent::Sent(AddSent { host, file, done, total: 1_000 }));
        }
        if name == "slow" {
            let _dropped = Dropped(self.is_dropped.clone());
            self.go.notified().await;
        }
        if name == "unknown" {
            let message = "the host key of unknown is unknown";
            return Err(Error::new(ErrorKind::InvalidRequest, message).with_param("accept_new"));
        }
        progress.event(AddEvent::Step(step(StepState::Finished, Some(7))));
        Ok(Arc::new(InProcessHive::new().with_id(HiveId::new(name)?)))
    }

    async fn try_out(&self, request: AddHive, _: AddProgress) -> Result<HiveDoctor> {
        let id = HiveId::new(request.ssh.unwrap_or_default())?;
        let check = HiveCheck::new("disk", Verdict::Warning, "little is free");
        Ok(HiveDoctor::new(id, "ssh box", vec![check]))
    }

    async fn forget(&self, _: &HiveId) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl HiveMachines for Machines {
    async fn uninstall(&self, _: &HiveId, order: RemoveHive) -> Result<Option<RemovedHive>> {
        let kept = KeptPath { path: "/x".into(), reason: format!("{order:?}") };
        Ok(Some(RemovedHive { removed: Vec::new(), kept: vec![kept] }))
    }

    async fn examine(&self, _: &HiveId) -> Vec<HiveCheck> {
        vec![HiveCheck::new("disk", Verdict::Ok, "all is free")]
    }

    async fn logs(&self, hive: &HiveId, lines: usize) -> Result<Vec<LogLine>> {
        let (level, target) = ("INFO".into(), "test".into());
        let message = format!("{lines} lines of {hive}");
        Ok(vec![LogLine { at_ms: 1, level, target, message, fields: Default::default() }])
    }
}

async fn hall() -> (Hall, Arc<Machines>) {
    let machines = Arc::new(Machines::default());
    let connector = machines.clone();
    let hall = Hall::of(echo(), Queen::builder(), |server| server.with_connector(connector)).await;
    (hall, machines)
}

fn followed(body: Value) -> Request<Body> {
    let mut request = request(Method::POST, "/v1/hives", Some(body));
    request.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
    request
}

async fn events(hall: &Hall, body: Value) -> Vec<(String, Value)> {
    let reply = hall.send(followed(body)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let events = reply.events().into_iter();
    events.map(|event| (event.name.into(), serde_json::from_slice(&event.data).unwrap())).collect()
}

#[tokio::test]
async fn an_addition_is_a_stream_of_its_steps_with_the_hive_at_the_end() {
    let (hall, _) = hall().await;
    let events = events(&hall, json!({"ssh": "box"})).await;
    let steps: Vec<_> = events.iter().filter(|(name, _)| name == "step").collect();
    assert_eq!(
        steps.iter().map(|(_, step)| step.clone()).collect::<Vec<_>>(),
        [
            json!({"host": "box", "step": "upload", "state": "started"}),
            json!({"host": "box", "step": "upload", "state": "finished", "duration_ms": 7}),
        ]
    );
    let sent: Vec<_> = events.iter().filter(|(name, _)| name == "sent").collect();
    assert!((1..100).contains(&sent.len()), "not every one is sent: {}", sent.len());
    assert_eq!(sent.last().unwrap().1["done"], 1_000);
    let (name, view) = events.last().unwrap();
    assert_eq!(
        (name.as_str(), &view["id"], &view["status"]),
        ("done", &json!("box"), &json!("online"))
    );
}

#[tokio::test]
async fn an_addition_that_fails_ends_with_the_error_and_leaves_nothing() {
    let (hall, _) = hall().await;
    let events = events(&hall, json!({"ssh": "unknown"})).await;
    let (name, error) = events.last().unwrap();
    assert_eq!(
        (name.as_str(), &error["code"], &error["details"]["param"]),
        ("error", &json!("INVALID_REQUEST"), &json!("accept_new"))
    );
    assert!(error["correlation_id"].is_string());
    assert_eq!(hall.get("/v1/hives/unknown").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_client_that_disconnects_ends_its_addition() {
    let (hall, machines) = hall().await;
    let mut body = hall.begin(followed(json!({"ssh": "slow"}))).await.into_body();
    assert!(next(&mut body).await.unwrap().starts_with("event: step"));
    assert!(!machines.is_dropped.load(Ordering::Acquire));
    drop(body);
    assert!(machines.is_dropped.load(Ordering::Acquire));
    machines.go.notify_one();
    assert_eq!(hall.get("/v1/hives/slow").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_dry_run_answers_with_its_findings() {
    let (hall, _) = hall().await;
    let order = json!({"ssh": "box", "dry_run": true});
    let reply = hall.post("/v1/hives", order.clone()).await;
    assert_eq!((reply.status, &reply.json()["verdict"]), (StatusCode::OK, &json!("warning")));
    let (name, doctor) = events(&hall, order).await.pop().unwrap();
    assert_eq!((name.as_str(), &doctor), ("checked", &reply.json()));
    assert_eq!(hall.get("/v1/hives/box").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_wrong_order_is_refused_before_anything_is_done_with_the_field() {
    let (hall, _) = hall().await;
    for (order, param) in [
        (json!({}), json!("url")),
        (json!({"url": "http://a", "ssh": "a"}), json!("ssh")),
        (json!({"url": "http://a", "dry_run": true}), json!("dry_run")),
        // Nothing says that nobody reads this connection.
        (json!({"ssh": "a", "passphrase": "correct horse"}), json!("passphrase")),
        (json!({"ssh": "a", "acept_new": true}), Value::Null),
    ] {
        let reply = hall.send(followed(order.clone())).await;
        let error = &reply.json()["error"];
        assert_eq!(
            (reply.status, &error["details"]["param"]),
            (StatusCode::BAD_REQUEST, &param),
            "{order}"
        );
        assert!(!reply.text().contains("correct horse"));
    }
}

#[tokio::test]
async fn the_checks_the_log_and_the_removal_of_a_hive_are_those_of_its_connector() {
    let (hall, _) = hall().await;
    assert_eq!(hall.post("/v1/hives", json!({"ssh": "box"})).await.status, StatusCode::CREATED);
    let doctor = hall.get("/v1/hives/box/doctor").await.json();
    assert_eq!((&doctor["hive"], &doctor["verdict"]), (&json!("box"), &json!("ok")));
    let names: Vec<_> =
        doctor["checks"].as_array().unwrap().iter().map(|check| &check["check"]).collect();
    assert_eq!(names, ["disk", "answers"]);
    let logs = hall.get("/v1/hives/box/logs?lines=7").await.json();
    assert_eq!(logs["data"][0]["message"], "7 lines of box");
    for query in ["lines=0", "lines=1001", "follow=true"] {
        let reply = hall.get(&format!("/v1/hives/box/logs?{query}")).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{query}");
    }
    for path in ["/v1/hives/nobody/doctor", "/v1/hives/nobody/logs"] {
        assert_eq!(hall.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let removed = hall.delete("/v1/hives/box?models=true").await;
    assert_eq!(removed.status, StatusCode::OK, "{}", removed.text());
    let reason = "RemoveHive { keep_files: false, models: true }";
    assert_eq!(removed.json(), json!({"removed": [], "kept": [{"path": "/x", "reason": reason}]}));
}
