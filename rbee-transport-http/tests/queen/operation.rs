//! The queen's health, checks, logs and metrics, who may read them, and the description of its routes.

use std::{collections::BTreeSet, sync::Arc};

use crate::common::{self, Hall, echo, request};
use http::{HeaderValue, Method, StatusCode, header};
use rbee_core::{Queen, Settings, TenantId, async_trait, settings::Mode, tenant::TenantLimits};
use rbee_transport_http::{
    SharedToken, Token,
    server::{HealthCheck, LogRing},
    wire::queen::{Check, ShutdownOrder, Verdict},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
struct Ports;

#[async_trait]
impl HealthCheck for Ports {
    fn name(&self) -> &str {
        "the check of the ports"
    }

    async fn check(&self) -> Vec<Check> {
        vec![Check {
            subject: "queen".into(),
            check: "port".into(),
            verdict: Verdict::Warning,
            message: "7833 is taken".into(),
        }]
    }
}

#[tokio::test]
async fn the_queen_tells_how_she_is_and_what_she_finds() {
    let stop = CancellationToken::new();
    let (metrics, token) = ("up 1\n".to_owned(), stop.clone());
    let hall = Hall::of(echo(), Queen::builder(), |server| {
        server
            .with_metrics(Arc::new(move || metrics.clone()))
            .with_health_check(Arc::new(Ports))
            .stop(token)
    })
    .await;
    let health = hall.get("/health").await.json();
    assert_eq!(
        (&health["status"], &health["workers_ready"], &health["hives_online"]),
        (&json!("ok"), &json!(1), &json!(1))
    );
    assert_eq!(health["queen"], hall.queen.status().await.unwrap().id.as_str());
    let reply = hall.get("/metrics").await;
    assert_eq!(
        (reply.text().as_str(), reply.header("content-type")),
        ("up 1\n", Some("text/plain; version=0.0.4; charset=utf-8"))
    );
    assert_eq!(hall.get("/v1/policy").await.json()["name"], "least-loaded");
    let doctor = hall.get("/v1/doctor").await.json();
    assert_eq!(doctor["verdict"], "warning", "{doctor}");
    let subjects: BTreeSet<_> = doctor["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["subject"].as_str().unwrap().split(' ').next().unwrap())
        .collect();
    assert_eq!(subjects, BTreeSet::from(["hive", "queen", "queue", "store", "worker"]));
    stop.cancel();
    let draining = hall.get("/health").await;
    assert_eq!(draining.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(draining.header("retry-after"), Some("1"));
    let draining = draining.json();
    assert_eq!(
        (&draining["status"], &draining["workers_ready"]),
        (&json!("draining"), &json!(1)),
        "the operator still gets the details"
    );
    hall.queen.shutdown(std::time::Duration::ZERO).await.unwrap();
    for path in ["/health", "/v1/doctor", "/v1/models"] {
        let down = hall.get(path).await;
        assert_eq!(down.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(down.header("retry-after"), Some("1"), "{path}");
    }
    assert_eq!(hall.get("/health").await.json(), json!({"status": "draining"}));
    assert_eq!(hall.chat(json!({})).await.json()["error"]["code"], "shutting_down");
}

#[tokio::test]
async fn how_the_queen_is_the_operator_alone_is_told() {
    let (token, stop) = (Token::random().unwrap(), CancellationToken::new());
    for (mode, given) in [
        (Mode::Home, Some(token.clone())),
        (Mode::Platform, Some(token.clone())),
        (Mode::Platform, None),
    ] {
        let has_token = given.is_some();
        let builder = Queen::builder().settings(Settings { mode, ..Settings::default() });
        let hall = Hall::of(echo(), builder, |server| {
            let server = server.stop(stop.child_token());
            if let Some(token) = given { server.with_token(token) } else { server }
        })
        .await;
        let tenant = TenantId::new("acme").unwrap();
        hall.queen.tenants().put(tenant.clone(), TenantLimits::default()).await.unwrap();
        let key = hall.queen.tenants().issue_key(&tenant, "").await.unwrap();
        let ask = async |method: Method, bearer: Option<&str>| {
            let mut ask = request(method, "/health", None);
            if let Some(bearer) = bearer {
                let value = format!("Bearer {bearer}").parse().unwrap();
                ask.headers_mut().insert(header::AUTHORIZATION, value);
            }
            hall.send(ask).await
        };
        for bearer in [None, Some(key.reveal())] {
            let reply = ask(Method::GET, bearer).await;
            assert_eq!((reply.status, reply.json()), (StatusCode::OK, json!({"status": "ok"})));
            assert_eq!(ask(Method::HEAD, bearer).await.status, StatusCode::OK);
        }
        for wrong in [Token::random().unwrap().reveal(), "rbee-wrong"] {
            let reply = ask(Method::GET, Some(wrong)).await;
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
            assert!(!reply.text().contains(hall.queen.status().await.unwrap().id.as_str()));
        }
        if has_token {
            let reply = ask(Method::GET, Some(token.reveal())).await;
            assert_eq!(reply.json()["queen"], hall.queen.status().await.unwrap().id.as_str());
        }
    }
    let hall = Hall::of(echo(), Queen::builder(), |server| {
        server.with_token(token.clone()).stop(stop.clone())
    })
    .await;
    stop.cancel();
    let reply = hall.get("/health").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.json(), json!({"status": "draining"}));
}

#[tokio::test]
async fn a_token_that_is_replaced_holds_for_the_next_request() {
    let [old, new] = [Token::random().unwrap(), Token::random().unwrap()];
    let token = SharedToken::from(old.clone());
    let given = token.clone();
    let hall = Hall::of(echo(), Queen::builder(), |server| server.with_token(given)).await;
    let ask = async |token: &Token| {
        let mut ask = request(Method::GET, "/v1/jobs", None);
        let value = format!("Bearer {}", token.reveal()).parse().unwrap();
        ask.headers_mut().insert(header::AUTHORIZATION, value);
        hall.send(ask).await.status
    };
    assert_eq!((ask(&old).await, ask(&new).await), (StatusCode::OK, StatusCode::UNAUTHORIZED));
    token.replace(new.clone());
    assert_eq!((ask(&old).await, ask(&new).await), (StatusCode::UNAUTHORIZED, StatusCode::OK));
}

#[tokio::test]
async fn a_queen_without_metrics_or_a_log_has_no_such_path() {
    for path in ["/metrics", "/v1/logs"] {
        assert_eq!(Hall::new().await.get(path).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn an_operator_shuts_the_queen_down_if_the_application_lets_it() {
    let orders = Arc::new(std::sync::Mutex::new(Vec::new()));
    let taken = orders.clone();
    let on_shutdown = Arc::new(move |order| taken.lock().unwrap().push(order));
    let hall = Hall::of(echo(), Queen::builder(), |server| server.with_shutdown(on_shutdown)).await;
    let path = "/v1/admin/shutdown";
    let reply = hall.post(path, json!({})).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text());
    let told = reply.json();
    assert_eq!((&told["status"], &told["pid"]), (&json!("draining"), &json!(std::process::id())));
    hall.post(path, json!({"keep_hives": true, "now": true})).await;
    let bad = hall.post(path, json!({"keep_hive": true})).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST, "{}", bad.text());
    let order = |keep_hives, now| ShutdownOrder { keep_hives, now };
    assert_eq!(*orders.lock().unwrap(), [order(false, false), order(true, true)]);
    assert_eq!(hall.get(path).await.status, StatusCode::METHOD_NOT_ALLOWED);
    // A page cannot send it.
    let mut page = request(Method::POST, path, Some(json!({})));
    page.headers_mut().insert("origin", HeaderValue::from_static("https://evil.example"));
    assert_eq!(hall.send(page).await.status, StatusCode::FORBIDDEN);
    assert_eq!(orders.lock().unwrap().len(), 2);

    let reply = Hall::new().await.post(path, json!({})).await;
    assert_eq!(
        (reply.status, &reply.json()["error"]["code"]),
        (StatusCode::BAD_REQUEST, &json!("UNSUPPORTED"))
    );
}

#[tokio::test]
async fn the_log_is_read_and_followed() {
    let (logs, stop) = (LogRing::new(100, 1 << 20), CancellationToken::new());
    let _guard = common::logged(&logs);
    let token = stop.clone();
    let hall =
        Hall::of(echo(), Queen::builder(), |server| server.with_logs(logs).stop(token)).await;
    tracing::error!(target: "test", correlation_id = "abc", "one");
    tracing::error!(target: "test", correlation_id = "def", "two");
    let listed = hall.get("/v1/logs?level=error").await.json();
    let words = |listed: &Value| {
        listed["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line["message"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(words(&listed), ["one", "two"]);
    assert_eq!(words(&hall.get("/v1/logs?correlation_id=def").await.json()), ["two"]);
    for bad in ["level=loud", "lines=0", "lines=x", "color=red"] {
        assert_eq!(
            hall.get(&format!("/v1/logs?{bad}")).await.status,
            StatusCode::BAD_REQUEST,
            "{bad}"
        );
    }
    let mut follow = hall
        .begin(request(Method::GET, "/v1/logs?follow=true&correlation_id=def", None))
        .await
        .into_body();
    let first = common::next(&mut follow).await.unwrap();
    assert!(first.starts_with("event: line\ndata: {") && first.contains("\"two\""), "{first}");
    tracing::error!(target: "test", correlation_id = "def", "three");
    assert!(common::next(&mut follow).await.unwrap().contains("\"three\""));
    stop.cancel();
    assert_eq!(
        common::next(&mut follow).await,
        None,
        "a queen that shuts down ends the streams of followers"
    );
}

#[tokio::test]
async fn a_token_is_asked_for_everywhere_but_at_health() {
    let token = Token::random().unwrap();
    for open_metrics in [false, true] {
        let given = token.clone();
        let hall = Hall::of(echo(), Queen::builder(), |server| {
            let server = server.with_token(given).with_metrics(Arc::new(String::new));
            if open_metrics { server.with_open_metrics() } else { server }
        })
        .await;
        assert_eq!(hall.get("/health").await.status, StatusCode::OK);
        assert_eq!(hall.get("/metrics").await.status == StatusCode::OK, open_metrics);
        assert_eq!(hall.ask(Method::POST, "/health", None).await.status, StatusCode::UNAUTHORIZED);
        let own = hall.get("/v1/jobs").await;
        assert_eq!(
            (own.status, &own.json()["error"]["code"]),
            (StatusCode::UNAUTHORIZED, &json!("UNAUTHORIZED"))
        );
        assert_eq!(own.header("www-authenticate"), Some("Bearer"));
        assert!(own.header("x-correlation-id").is_some());
        let openai = hall.chat(json!({})).await;
        assert_eq!(
            (openai.status, &openai.json()["error"]["type"]),
            (StatusCode::UNAUTHORIZED, &json!("authentication_error"))
        );
        for (scheme, status) in [
            ("Bearer ", StatusCode::OK),
            ("bearer ", StatusCode::OK),
            ("Basic ", StatusCode::UNAUTHORIZED),
            ("", StatusCode::UNAUTHORIZED),
        ] {
            let mut ask = request(Method::GET, "/v1/jobs", None);
            let value = format!("{scheme}{}", token.reveal());
            ask.headers_mut().insert(header::AUTHORIZATION, value.parse().unwrap());
            assert_eq!(hall.send(ask).await.status, status, "{scheme:?}");
        }
    }
}

#[tokio::test]
async fn the_description_has_every_route_and_no_other() {
    let hall =
        Hall::of(echo(), Queen::builder(), |server| server.with_metrics(Arc::new(String::new)))
            .await;
    let document = hall.get("/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let chat = &document["components"]["schemas"]["ChatRequest"];
    assert_eq!(chat["additionalProperties"], false, "unknown fields are refused");
    assert!(
        chat["properties"]["temperature"].is_object()
            && chat["required"] == json!(["model", "messages"])
    );
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            described.insert((path.clone(), method.to_uppercase()));
        }
    }
    for (path, _) in &described {
        let concrete = path.replace("{id}", "67e55044-10b1-426f-9247-bb680e5fe0c8");
        let allowed = hall.ask(Method::TRACE, &concrete, None).await;
        assert_eq!(allowed.status, StatusCode::METHOD_NOT_ALLOWED, "{path} is no route");
        let allowed: BTreeSet<String> = allowed
            .header("allow")
            .unwrap()
            .split(',')
            .map(|name| name.trim().to_owned())
            .filter(|name| name != "HEAD")
            .collect();
        let documented: BTreeSet<String> = described
            .iter()
            .filter(|(of, _)| of == path)
            .map(|(_, method)| method.clone())
            .collect();
        assert_eq!(allowed, documented, "{path}");
    }
    use rbee_transport_http::wire::{self, policy as rules, queen as paths};
    for path in [
        paths::CHAT,
        paths::COMPLETIONS,
        paths::EMBEDDINGS,
        wire::rerank::RERANK,
        wire::rerank::RERANK_V2,
        wire::rerank::RERANK_PLAIN,
        paths::MODELS,
        "/v1/models/{id}",
        paths::JOBS,
        paths::JOB,
        paths::JOB_EVENTS,
        paths::HIVES,
        paths::HIVE,
        paths::HIVE_START,
        paths::HIVE_STOP,
        paths::HIVE_DRAIN,
        paths::WORKERS,
        paths::WORKER,
        paths::WORKER_PIN,
        paths::CATALOG,
        paths::CATALOG_PULL,
        paths::CATALOG_MODEL,
        rules::POLICY,
        rules::POLICY_CHECK,
        rules::POLICY_REPLAY,
        rules::POLICY_VERSIONS,
        rules::POLICY_VERSION,
        rules::POLICY_ROLLBACK,
        rules::JOB_WHY,
        rules::ESTIMATE,
        paths::DOCTOR,
        paths::LOGS,
        wire::SHUTDOWN,
        wire::HEALTH,
        wire::METRICS,
    ] {
        assert!(described.iter().any(|(known, _)| known == path), "{path} is not described");
    }
}
