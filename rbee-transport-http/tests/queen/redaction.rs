//! What tenants read of failures: nothing of hives, devices, workers and paths, whatever fails.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::common::{self, Hall, Reply, SlowFactory, chat, job, request};
use futures_util::stream;
use http::{HeaderValue, Method, StatusCode, header};
use rbee_core::{
    Ask, ClusterView, Error, ErrorKind, HiveId, InProcessHive, Output, OutputStream, Placement,
    Queen, QueenBuilder, Result, Run, Scheduler, Settings, Worker, WorkerInfo, async_trait,
    hive::{Device, DeviceKind},
    scheduler::{Admission, SchedulerInfo},
    worker::{EchoWorker, WorkerHealth},
};
use rbee_transport_http::{Token, server::QueenServer};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

const HIVE: &str = "hive-canary";
const DEVICE: &str = "GPU canary 9000";
const PATH: &str = "/srv/canary/model.bin";
const RETRY_AFTER: Duration = Duration::from_secs(7);

/// An error with secrets in every field.
fn leak(kind: ErrorKind) -> Error {
    let message = format!("{PATH} on {DEVICE} of {HIVE}");
    Error::new(kind, message.clone())
        .with_param(message.clone())
        .with_retry_after(RETRY_AFTER)
        .with_short_bytes(123_456_789)
        .with_source(std::io::Error::other(message.clone()))
        .context(message)
}

/// Where a job fails, and with which error.
#[derive(Clone, Copy, Debug)]
enum At {
    Admission(ErrorKind),
    Placement(ErrorKind),
    Run(ErrorKind),
}

/// A policy and a worker that fail on request.
#[derive(Clone, Debug)]
struct Failing {
    at: Arc<Mutex<At>>,
    echo: Arc<EchoWorker>,
}

impl Scheduler for Failing {
    fn place(&self, _: &Ask, _: &ClusterView) -> Result<Placement> {
        Ok(match *self.at.lock().unwrap() {
            At::Placement(kind) => Placement::Reject(leak(kind)),
            _ => Placement::Assign(self.echo.info().id),
        })
    }

    fn info(&self) -> SchedulerInfo {
        SchedulerInfo::of::<Self>().with_admission()
    }

    fn admit(&self, _: &Ask, _: &ClusterView) -> Result<Admission> {
        Ok(match *self.at.lock().unwrap() {
            At::Admission(kind) => Admission::Refuse(leak(kind)),
            _ => Admission::default(),
        })
    }
}

#[async_trait]
impl Worker for Failing {
    fn info(&self) -> &Arc<WorkerInfo> {
        self.echo.info()
    }

    async fn execute(&self, _: Run) -> Result<OutputStream> {
        let At::Run(kind) = *self.at.lock().unwrap() else { return Err(leak(ErrorKind::Internal)) };
        let token = Output::Token { id: Some(1), text: "said ".into(), logprobs: None };
        Ok(Box::pin(stream::iter([Ok(token), Err(leak(kind))])))
    }

    async fn health(&self) -> Result<WorkerHealth> {
        self.echo.health().await
    }
}

/// A queen with an operator and a tenant.
struct House {
    hall: Hall,
    token: String,
    key: String,
}

impl House {
    async fn new(builder: QueenBuilder) -> Self {
        let queen = builder.build().await.unwrap();
        let token = Token::random().unwrap();
        let text = token.reveal().to_owned();
        let router = QueenServer::new(queen.clone()).with_token(token).router();
        let acme = rbee_core::TenantId::new("acme").unwrap();
        queen
            .tenants()
            .put(acme.clone(), rbee_core::tenant::TenantLimits::default())
            .await
            .unwrap();
        let key = queen.tenants().issue_key(&acme, "").await.unwrap().reveal().to_owned();
        let echo = EchoWorker::new("unused".parse().unwrap());
        Self { hall: Hall { queen, echo, router }, token: text, key }
    }

    async fn ask(&self, bearer: &str, method: Method, path: &str, body: Option<Value>) -> Reply {
        let mut request = request(method, path, body);
        let value = HeaderValue::try_from(format!("Bearer {bearer}")).unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, value);
        self.hall.send(request).await
    }

    async fn tenant(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        self.ask(&self.key, method, path, body).await
    }

    async fn operator(&self, path: &str) -> Reply {
        self.ask(&self.token, Method::GET, path, None).await
    }

    /// Submits a job, waits for its end, and reads every response about it as the tenant. Returns its path.
    async fn read_everything(&self, body: Value, secrets: &[&str]) -> (String, Vec<Reply>) {
        let submitted = self.tenant(Method::POST, "/v1/jobs", Some(body)).await;
        assert_eq!(submitted.status, StatusCode::ACCEPTED, "{}", submitted.text());
        let path = format!("/v1/jobs/{}", submitted.json()["id"].as_str().unwrap());
        let mut read = vec![submitted];
        // The stream of events ends with the job.
        for below in ["/events", "", "/why"] {
            let path = format!("{path}{below}");
            read.push(self.tenant(Method::GET, &path, None).await);
        }
        read.push(self.tenant(Method::GET, "/v1/jobs", None).await);
        read.push(self.tenant(Method::GET, "/v1/jobs?state=failed", None).await);
        read.push(self.tenant(Method::DELETE, &path, None).await);
        read.push(self.tenant(Method::GET, "/v1/models", None).await);
        read.iter().for_each(|reply| is_clean(reply, secrets));
        (path, read)
    }
}

/// Checks that no secret is in the response, neither in a header nor in the body.
fn is_clean(reply: &Reply, secrets: &[&str]) {
    let whole = format!("{:?}\n{}", reply.headers, reply.text());
    for secret in secrets {
        assert!(!whole.contains(secret), "{secret} is in {whole}");
    }
}

fn says(reply: &Reply, kind: ErrorKind, code: &str) {
    assert_eq!(reply.status.as_u16(), kind.http_status(), "{}", reply.text());
    let error = &reply.json()["error"];
    assert_eq!((&error["message"], &error["code"]), (&json!(kind.summary()), &json!(code)));
    assert_eq!(reply.header("retry-after"), Some("7"), "{kind}");
    assert!(reply.header("x-correlation-id").is_some());
}

/// The code of an error on OpenAI's routes.
fn openai_code(kind: ErrorKind) -> String {
    match kind {
        ErrorKind::ContextExceeded => "context_length_exceeded".into(),
        kind => kind.code().to_ascii_lowercase(),
    }
}

async fn failing(at: At) -> (House, String) {
    let hive = HiveId::new(HIVE).unwrap();
    let echo = EchoWorker::builder("echo".parse().unwrap()).slots(8).hive(hive.clone()).build();
    let failing = Failing { at: Arc::new(Mutex::new(at)), echo };
    let worker = Worker::info(&failing).id.to_string();
    let devices = vec![Device {
        index: 0,
        kind: DeviceKind::Cpu,
        name: DEVICE.into(),
        memory_total: 1 << 30,
        memory_free: 1 << 30,
    }];
    let hive = InProcessHive::new().with_id(hive).with_devices(devices);
    let hive = hive.with_worker(Arc::new(failing.clone()));
    let settings = Settings { retries: 0, worker_faults: 1_000, ..Settings::default() };
    let queen = Queen::builder().settings(settings).hive(hive).scheduler(failing);
    (House::new(queen.alias("bee", "echo")).await, worker)
}

/// The kind that clients read. A token that is refused during the work on a request is the queen's own, for a hive.
fn told_as(kind: ErrorKind) -> ErrorKind {
    match kind {
        ErrorKind::Unauthorized => ErrorKind::HiveUnreachable,
        kind => kind,
    }
}

#[tokio::test]
async fn every_kind_of_refusal_is_told_in_its_own_words_in_both_shapes() {
    for kind in ErrorKind::ALL {
        let (house, worker) = failing(At::Admission(*kind)).await;
        let kind = &told_as(*kind);
        let lower = openai_code(*kind);
        let body = |fields| Some(chat(fields));
        let embed = Some(json!({"model": "bee", "input": "a"}));
        let complete = Some(json!({"model": "bee", "prompt": "a"}));
        let rerank = Some(json!({"model": "bee", "query": "a", "documents": ["b"]}));
        for (path, body, code) in [
            ("/v1/chat/completions", body(json!({})), &*lower),
            ("/v1/chat/completions", body(json!({"stream": true})), &lower),
            ("/v1/chat/completions", body(json!({"n": 2})), &lower),
            ("/v1/completions", complete, &lower),
            ("/v1/embeddings", embed, &lower),
            ("/v2/rerank", rerank, &lower),
            ("/v1/jobs", Some(job(json!({}))), kind.code()),
        ] {
            let refused = house.tenant(Method::POST, path, body.clone()).await;
            is_clean(&refused, &[HIVE, DEVICE, PATH, "123456789", &worker]);
            says(&refused, *kind, code);
            let told = house.ask(&house.token, Method::POST, path, body).await;
            assert!(told.text().contains(PATH), "the operator reads all: {}", told.text());
        }
    }
}

#[tokio::test]
async fn every_kind_of_end_is_told_without_a_trace_of_the_machines() {
    for kind in ErrorKind::ALL {
        let (house, worker) = failing(At::Placement(*kind)).await;
        let kind = &told_as(*kind);
        let secrets = [HIVE, DEVICE, PATH, "123456789", &*worker];
        let lower = openai_code(*kind);
        for stream in [false, true] {
            let body = Some(chat(json!({"stream": stream})));
            let failed = house.tenant(Method::POST, "/v1/chat/completions", body).await;
            is_clean(&failed, &secrets);
            says(&failed, *kind, &lower);
        }
        let (path, read) = house.read_everything(job(json!({})), &secrets).await;
        let events = read[1].events();
        let event: Value = serde_json::from_slice(&events.last().unwrap().data).unwrap();
        let (view, why) = (read[2].json(), read[3].json());
        for error in [&event, &view["error"], &why["data"][0]["decision"]["error"]] {
            let found = (&error["code"], &error["message"]);
            assert_eq!(found, (&json!(kind.code()), &json!(kind.summary())), "{kind}");
            assert_eq!(error["details"]["retry_after_ms"], 7_000, "{kind}");
        }
        assert_eq!(event["correlation_id"], view["correlation_id"], "it leads to the log");
        for below in ["", "/events", "/why"] {
            let all = house.operator(&format!("{path}{below}")).await.text();
            assert!(all.contains(HIVE) && all.contains(DEVICE) && all.contains(PATH), "{all}");
        }
    }
}

#[tokio::test]
async fn every_kind_of_failure_under_way_ends_a_stream_without_a_trace_of_the_machines() {
    let mut untold = BTreeSet::new();
    for kind in ErrorKind::ALL {
        // It does not count as an attempt of the job, which waits for the next slot.
        if *kind == ErrorKind::WorkerBusy {
            untold.insert(*kind);
            continue;
        }
        let (house, worker) = failing(At::Run(*kind)).await;
        let kind = &told_as(*kind);
        let secrets = [HIVE, DEVICE, PATH, "123456789", &*worker];
        // Each attempt adds one more token, and some errors do not count as an attempt.
        let body = || Some(chat(json!({"stream": true, "max_tokens": 64})));
        let streamed = house.tenant(Method::POST, "/v1/chat/completions", body()).await;
        assert_eq!(streamed.status, StatusCode::OK, "{}", streamed.text());
        is_clean(&streamed, &secrets);
        let events = streamed.events();
        assert!(streamed.text().contains("said "), "{}", streamed.text());
        let last: Value = serde_json::from_slice(&events.last().unwrap().data).unwrap();
        assert_eq!(last["error"]["message"], kind.summary());
        assert_eq!(last["error"]["code"], openai_code(*kind));
        let (path, read) = house.read_everything(job(json!({"max_tokens": 64})), &secrets).await;
        let text = read[1].text();
        assert!(text.contains("event: started") && text.contains("event: token"), "{text}");
        assert_eq!(read[2].json()["error"]["message"], kind.summary());
        let all = house.operator(&path).await;
        assert!(all.text().contains(PATH) && all.text().contains(&worker), "{}", all.text());
        let all = house.operator(&format!("{path}/events")).await.text();
        assert!(all.contains(PATH) && all.contains(&worker), "{all}");
    }
    assert_eq!(untold, BTreeSet::from([ErrorKind::WorkerBusy]));
}

#[tokio::test]
async fn an_answer_names_its_worker_to_the_operator_alone() {
    let queen = Queen::builder().worker(common::echo().build()).alias("bee", "echo");
    let house = House::new(queen).await;
    for stream in [false, true] {
        let body = || Some(chat(json!({"stream": stream})));
        let path = "/v1/chat/completions";
        let tenant = house.tenant(Method::POST, path, body()).await;
        assert_eq!(tenant.status, StatusCode::OK, "{}", tenant.text());
        assert_eq!(tenant.header("x-rbee-worker-id"), None);
        assert!(tenant.header("x-rbee-job-id").is_some());
        let operator = house.ask(&house.token, Method::POST, path, body()).await;
        assert!(operator.header("x-rbee-worker-id").is_some());
    }
}

#[tokio::test]
async fn a_model_that_is_missing_broken_or_too_large_gives_no_path_hive_or_device_away() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_str().unwrap();
    let broken = directory.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("config.json"), "{").unwrap();
    std::fs::write(broken.join("model.safetensors"), "").unwrap();
    std::fs::write(directory.path().join("large.bin"), [0; 4096]).unwrap();
    let devices = vec![Device {
        index: 0,
        kind: DeviceKind::Cpu,
        name: DEVICE.into(),
        memory_total: 1024,
        memory_free: 1024,
    }];
    let hive = InProcessHive::new()
        .with_id(HiveId::new(HIVE).unwrap())
        .with_factory(SlowFactory(Arc::new(Semaphore::new(9))))
        .with_devices(devices);
    let file = |name: &str| format!("file:{root}/{name}");
    let queen = Queen::builder().hive(hive);
    let queen = queen.alias("missing", file("missing")).alias("broken", file("broken"));
    let house = House::new(queen.alias("large", file("large.bin"))).await;
    for (model, kind, inside) in [
        ("missing", ErrorKind::ModelNotFound, "missing"),
        ("broken", ErrorKind::ModelIncompatible, "is not JSON"),
        ("large", ErrorKind::InsufficientVram, "fits on no device"),
    ] {
        let secrets = [root, HIVE, DEVICE, "file:"];
        for stream in [false, true] {
            let body = Some(chat(json!({"model": model, "stream": stream})));
            let failed = house.tenant(Method::POST, "/v1/chat/completions", body).await;
            is_clean(&failed, &secrets);
            assert_eq!(failed.status.as_u16(), kind.http_status(), "{}", failed.text());
            assert_eq!(failed.json()["error"]["message"], kind.summary());
        }
        let (path, read) = house.read_everything(job(json!({"model": model})), &secrets).await;
        let view = read[2].json();
        assert_eq!(view["model"], model);
        assert_eq!(view["error"]["code"], kind.code());
        assert_eq!(view["error"]["message"], kind.summary());
        let all = house.operator(&path).await.json();
        let message = all["error"]["message"].as_str().unwrap();
        assert!(message.contains(inside) && message.contains(root), "{message}");
    }
}

#[tokio::test]
async fn what_a_client_did_wrong_itself_is_told_in_full() {
    let queen = Queen::builder().worker(common::echo().build()).alias("bee", "echo");
    let house = House::new(queen).await;
    let path = "/v1/chat/completions";
    for (fields, told) in [
        (json!({"temperature": -1}), "temperature is -1; allowed is 0 to 2"),
        (json!({"model": "a b"}), "the model \"a b\" is not known here"),
        (json!({"model": "wasp"}), "the model wasp is not known here"),
        (json!({"model": "hf:org/repo"}), "allowed is bee"),
        (json!({"model": "file:/etc/passwd"}), "allowed is bee"),
        (json!({"nonsense": 1}), "nonsense"),
    ] {
        let refused = house.tenant(Method::POST, path, Some(chat(fields))).await;
        assert!(refused.text().contains(&told.replace('"', "\\\"")), "{}", refused.text());
        assert!(!refused.json()["error"]["param"].is_null(), "{}", refused.text());
    }
    let missing = house.tenant(Method::GET, "/v1/jobs/a/b", None).await;
    assert!(missing.text().contains("there is no path /v1/jobs/a/b"), "{}", missing.text());
    let refused = house.tenant(Method::GET, "/v1/hives", None).await;
    assert!(refused.text().contains("does not allow GET /v1/hives"), "{}", refused.text());
    let nobody = house.ask("rbee-wrong", Method::GET, "/v1/jobs", None).await;
    assert!(nobody.text().contains("the key is not known"), "{}", nobody.text());
}
