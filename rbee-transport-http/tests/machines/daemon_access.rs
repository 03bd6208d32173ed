//! Which requests hives and workers accept from whom, and what their clients send.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::support::{Daemon, run, spec, token};
use axum::{Router, body::Body, extract::Request};
use http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use rbee_core::{
    HiveBackend, HiveId, InProcessHive, JobId, Worker, WorkerId,
    hive::{ModelHost, ModelOrigin, Progress},
    id::Epoch,
    worker::EchoWorker,
};
use rbee_transport_http::{
    Token,
    client::{HttpHive, HttpWorker},
    server::{HiveServer, WorkerServer},
    wire,
};
use serde_json::{Value, json};
use tower::ServiceExt;

const LIMIT: Duration = Duration::from_secs(10);
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "PATCH"];

/// A daemon's router, every route it has, and the file that names its paths.
struct Subject {
    name: &'static str,
    router: Router,
    routes: &'static [(&'static str, &'static str)],
    paths: &'static str,
}

fn subjects() -> [Subject; 2] {
    let worker = EchoWorker::new("echo".parse().unwrap());
    let hive = InProcessHive::new().with_worker(worker.clone());
    let exposed = WorkerServer::new(worker.info().id);
    exposed.ready(worker);
    let metrics = || "figures".to_owned();
    [
        Subject {
            name: "hive",
            router: HiveServer::new(Arc::new(hive)).with_metrics(Arc::new(metrics)).router(token()),
            routes: wire::hive::ROUTES,
            paths: include_str!("../../src/wire/hive.rs"),
        },
        Subject {
            name: "worker",
            router: exposed.with_metrics(Arc::new(metrics)).router(token()),
            routes: wire::worker::ROUTES,
            paths: include_str!("../../src/wire/worker.rs"),
        },
    ]
}

impl Subject {
    async fn ask(&self, method: &str, path: &str, token: Option<&Token>) -> (StatusCode, Value) {
        let path = path.replace("{id}", &WorkerId::random().to_string());
        let path = path.replace("{digest}", &format!("sha256:{}", "0".repeat(64)));
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(header::HOST, "localhost");
        request = request.header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.reveal()));
        }
        let request = request.body(Body::from("{}")).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        // A stream of events does not end, and is not tested here.
        let body = tokio::time::timeout(Duration::from_millis(200), answer.into_body().collect());
        let bytes = body.await.map_or_else(|_| Default::default(), |body| body.unwrap().to_bytes());
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Every path, with its methods.
    fn paths(&self) -> BTreeSet<&'static str> {
        self.routes.iter().map(|(_, path)| *path).collect()
    }

    fn has(&self, method: &str, path: &str) -> bool {
        self.routes.contains(&(method, path))
    }
}

#[tokio::test]
async fn without_the_token_every_route_is_refused_and_health_says_only_that_it_is_up() {
    for subject in subjects() {
        let wrong = Token::random().unwrap();
        for path in subject.paths().into_iter().chain(["/", "/v1/none", "/v1/workers/../none"]) {
            for method in METHODS {
                let place = format!("{}: {method} {path}", subject.name);
                let (status, body) = subject.ask(method, path, Some(&wrong)).await;
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{place}: {body}");
                let (status, body) = subject.ask(method, path, None).await;
                if (method, path) == ("GET", wire::HEALTH) {
                    assert_eq!((status, &body), (StatusCode::OK, &json!({"status": "ok"})));
                } else {
                    assert_eq!(status, StatusCode::UNAUTHORIZED, "{place}: {body}");
                    assert_eq!(body["error"]["code"], "UNAUTHORIZED", "{place}");
                }
            }
        }
    }
}

#[tokio::test]
async fn the_list_of_routes_is_what_is_served_with_the_token() {
    let token = token();
    for subject in subjects() {
        for path in subject.paths() {
            for method in METHODS {
                let place = format!("{}: {method} {path}", subject.name);
                let (status, body) = subject.ask(method, path, Some(&token)).await;
                let is_refused = status == StatusCode::METHOD_NOT_ALLOWED;
                assert_eq!(is_refused, !subject.has(method, path), "{place}: {status} {body}");
                assert_ne!(status, StatusCode::UNAUTHORIZED, "{place}");
                let message = body["error"]["message"].as_str().unwrap_or_default();
                assert!(!message.starts_with("there is no path"), "{place}");
            }
        }
        // The list contains every path.
        for line in subject.paths.lines().filter(|line| line.starts_with("pub const")) {
            let path = line.split_once("&str = \"").map(|(_, path)| path.trim_end_matches("\";"));
            if let Some(path) = path.filter(|path| path.starts_with('/')) {
                assert!(subject.paths().contains(path), "{}: {path}", subject.name);
            }
        }
    }
}

#[tokio::test]
async fn with_the_token_health_says_everything() {
    let token = token();
    let [hive, worker] = subjects();
    let (status, body) = hive.ask("GET", wire::HEALTH, Some(&token)).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&body["status"], &body["hive"]), (&json!("ok"), &json!("local")), "{body}");
    assert_eq!(body["pid"], std::process::id());
    assert!(body["hostname"].is_string() && body["rev"].is_u64(), "{body}");
    let (status, body) = worker.ask("GET", wire::HEALTH, Some(&token)).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&body["status"], &body["phase"]), (&json!("ok"), &json!("ready")), "{body}");
    assert_eq!(body["info"]["model"], "echo");
}

/// A request, as received.
#[derive(Clone, Debug)]
struct Seen {
    method: Method,
    path: String,
    kind: Option<String>,
    body: Value,
}

/// A daemon that records its requests and does nothing.
async fn listener() -> (Daemon, Arc<Mutex<Vec<Seen>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = seen.clone();
    let answer = move |request: Request| {
        let kept = kept.clone();
        async move {
            let (parts, body) = request.into_parts();
            let bytes = body.collect().await.unwrap().to_bytes();
            let kind = parts.headers.get(header::CONTENT_TYPE);
            kept.lock().unwrap().push(Seen {
                method: parts.method,
                path: parts.uri.path().to_owned(),
                kind: kind.map(|kind| kind.to_str().unwrap().to_owned()),
                body: serde_json::from_slice(&bytes).unwrap_or_default(),
            });
            // The health of the hive `local`, and a lease on it.
            axum::Json(json!({
                "status": "ok", "hive": "local", "version": "0", "hostname": "here", "pid": 1, "rev": 1,
                "lease_ms": 1000,
            }))
        }
    };
    (Daemon::serve(Router::new().fallback(answer)).await, seen)
}

#[tokio::test]
async fn clients_say_of_everything_that_changes_something_that_it_is_json() {
    let (daemon, seen) = listener().await;
    let endpoint = daemon.endpoint(Some(token()));
    let hive = HttpHive::new(HiveId::local(), endpoint.clone());
    let (id, model) = (WorkerId::random(), spec("file:/model"));
    // Their results do not matter here.
    let _ = hive.report().await;
    let _ = hive.watch(Epoch(1)).await.map(drop);
    let _ = hive.spawn(id, &model, Progress::ignore()).await.map(drop);
    let _ = hive.worker(id).await.map(drop);
    let _ = hive.stop(id, LIMIT).await;
    let _ = hive.provision(&model.model, ModelOrigin::Here, Progress::ignore()).await;
    let _ = hive.verify(&model.model, Progress::ignore()).await;
    let _ = hive.remove_model(&model.model).await;
    let _ = hive.shutdown(LIMIT).await;
    let info = EchoWorker::new("echo".parse().unwrap()).info().clone();
    let worker = HttpWorker::new(endpoint.clone(), info);
    let _ = worker.execute(run(1)).await.map(drop);
    let _ = worker.cancel(JobId::random()).await;
    let _ = worker.health().await;
    // The way in which a hive renews the lease of its workers.
    let _ = endpoint.send(Method::POST, wire::LEASE, None::<&()>, None).await.map(drop);

    let seen = seen.lock().unwrap().clone();
    let changing: Vec<_> = seen.iter().filter(|seen| seen.method != Method::GET).collect();
    let asked: BTreeSet<_> =
        changing.iter().map(|seen| (seen.method.as_str(), &*seen.path)).collect();
    let worker_path = wire::hive::WORKER.replace("{id}", &id.to_string());
    let expected = [
        ("POST", wire::LEASE),
        ("POST", wire::hive::WORKERS),
        ("DELETE", &worker_path),
        ("POST", wire::hive::PROVISION),
        ("POST", wire::hive::VERIFY),
        ("DELETE", wire::hive::MODELS),
        ("POST", wire::SHUTDOWN),
        ("POST", wire::worker::EXECUTE),
        ("POST", wire::worker::CANCEL),
    ];
    assert_eq!(asked, expected.into_iter().collect());
    assert!(changing.iter().any(|seen| seen.path == wire::LEASE && seen.body["owner"] == 1));
    for request in changing {
        assert_eq!(request.kind.as_deref(), Some("application/json"), "{request:?}");
        assert!(request.body.is_object(), "{request:?}");
    }
    for request in seen.iter().filter(|seen| seen.method == Method::GET) {
        assert!(request.kind.is_none() && request.body.is_null(), "{request:?}");
    }
}

#[tokio::test]
async fn a_part_of_a_file_is_sent_as_bytes() {
    let (daemon, seen) = listener().await;
    let path = wire::hive::MODEL_PART.replace("{digest}", "sha256:0");
    let endpoint = daemon.endpoint(Some(token()));
    endpoint.put_part(&path, "bytes".into(), (0, 5), LIMIT).await.unwrap();
    let seen = seen.lock().unwrap().clone();
    assert_eq!((&seen[0].method, &seen[0].path), (&Method::PUT, &path));
    assert_eq!(seen[0].kind.as_deref(), Some(wire::hive::PART_CONTENT_TYPE));
}
