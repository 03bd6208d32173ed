//! No 429 and no 503 without `Retry-After`, wherever it comes from.

use std::{future::ready, sync::Arc, time::Duration};

use crate::common::{Hall, Reply, chat, echo, job, request};
use axum::body::Body;
use http::{HeaderValue, Method, Request, StatusCode, header};
use rbee_core::{
    Ask, ClusterView, Error, ErrorKind, Placement, Queen, Result, Scheduler, Settings, TenantId,
    Worker,
    registry::{Change, GuardedRegistry},
    scheduler::{Admission, SchedulerInfo},
    tenant::TenantLimits,
    worker::{EchoFault, EchoGate, EchoWorker},
};
use rbee_transport_http::server::QueenServer;
use serde_json::{Value, json};

/// Every request that submits something.
fn submissions() -> Vec<(&'static str, Value)> {
    vec![
        ("/v1/chat/completions", chat(json!({}))),
        ("/v1/chat/completions", chat(json!({"stream": true}))),
        ("/v1/chat/completions", chat(json!({"n": 2}))),
        ("/v1/completions", json!({"model": "bee", "prompt": "a"})),
        ("/v1/embeddings", json!({"model": "bee", "input": "a"})),
        ("/v1/rerank", json!({"model": "bee", "query": "a", "documents": ["b"]})),
        ("/v1/jobs", job(json!({}))),
    ]
}

/// Checks the promise of a response. Returns the seconds, if there are any.
fn promise(reply: &Reply) -> Option<u64> {
    let after = reply.header("retry-after").map(|seconds| seconds.parse().unwrap());
    if matches!(reply.status.as_u16(), 429 | 503) {
        assert!(after.is_some_and(|seconds| seconds > 0), "{}: {}", reply.status, reply.text());
    }
    after
}

/// Where a job fails.
#[derive(Clone, Copy, Debug)]
enum At {
    Admission,
    Placement,
}

/// A policy that refuses every job, without a time to try again.
#[derive(Debug)]
struct Refusing {
    at: At,
    kind: ErrorKind,
    echo: Arc<EchoWorker>,
}

impl Scheduler for Refusing {
    fn place(&self, _: &Ask, _: &ClusterView) -> Result<Placement> {
        Ok(match self.at {
            At::Placement => Placement::Reject(Error::new(self.kind, "not now")),
            At::Admission => Placement::Assign(self.echo.info().id),
        })
    }

    fn info(&self) -> SchedulerInfo {
        SchedulerInfo::of::<Self>().with_admission()
    }

    fn admit(&self, _: &Ask, _: &ClusterView) -> Result<Admission> {
        Ok(match self.at {
            At::Admission => Admission::Refuse(Error::new(self.kind, "not now")),
            At::Placement => Admission::default(),
        })
    }
}

#[tokio::test]
async fn a_refusal_of_any_kind_by_a_policy_keeps_the_promise_of_its_status() {
    let mut promised = 0;
    for kind in ErrorKind::ALL {
        for at in [At::Admission, At::Placement] {
            let worker = echo().embed(4).rerank().build();
            let policy = Refusing { at, kind: *kind, echo: worker.clone() };
            let queen = Queen::builder().worker(worker.clone()).scheduler(policy);
            let queen = queen.alias("bee", "echo").build().await.unwrap();
            let router = QueenServer::new(queen.clone()).router();
            let hall = Hall { queen, router, echo: worker };
            for (path, body) in submissions() {
                let reply = hall.post(path, body).await;
                if path == "/v1/jobs" && reply.status == StatusCode::ACCEPTED {
                    continue;
                }
                assert!(!reply.status.is_success(), "{kind} {path}");
                promise(&reply);
                promised += u32::from(matches!(reply.status.as_u16(), 429 | 503));
            }
        }
    }
    assert!(promised >= 40, "{promised} of them promised something");
}

#[tokio::test]
async fn a_refusal_of_any_kind_by_a_worker_keeps_the_promise_of_its_status() {
    for kind in ErrorKind::ALL.iter().filter(|kind| **kind != ErrorKind::WorkerBusy) {
        let settings = Settings { retries: 0, worker_faults: 1_000, ..Settings::default() };
        let worker = echo().embed(4).rerank().fault(EchoFault::Refuse(*kind));
        let hall = Hall::of(worker, Queen::builder().settings(settings), |server| server).await;
        let reply = hall.chat(json!({"timeout_ms": 2_000})).await;
        assert!(!reply.status.is_success(), "{kind}");
        promise(&reply);
    }
}

/// A tenant's queen with these limits, of which one job does not end.
async fn limited(limits: TenantLimits, gate: &EchoGate) -> (Hall, String) {
    let hall = Hall::with(echo().embed(4).rerank().gate(gate)).await;
    let acme = TenantId::new("acme").unwrap();
    hall.queen.tenants().put(acme.clone(), limits).await.unwrap();
    let key = hall.queen.tenants().issue_key(&acme, "").await.unwrap().reveal().to_owned();
    (hall, key)
}

fn keyed(key: &str, path: &str, body: Value) -> Request<Body> {
    let mut request = request(Method::POST, path, Some(body));
    let value = HeaderValue::try_from(format!("Bearer {key}")).unwrap();
    request.headers_mut().insert(header::AUTHORIZATION, value);
    request
}

#[tokio::test]
async fn a_limit_of_a_tenant_says_when_it_passes_and_one_that_never_passes_is_no_429() {
    let none = TenantLimits::default;
    for (limits, status, is_known) in [
        (TenantLimits { concurrent_jobs: Some(1), ..none() }, 429, true),
        (TenantLimits { requests_per_minute: Some(1), ..none() }, 429, true),
        (TenantLimits { tokens_per_minute: Some(1), ..none() }, 429, true),
        (TenantLimits { daily_tokens: Some(2), ..none() }, 429, true),
        (TenantLimits { concurrent_jobs: Some(0), ..none() }, 403, false),
        (TenantLimits { daily_tokens: Some(0), ..none() }, 403, false),
    ] {
        let (gate, what) = (EchoGate::new(), format!("{limits:?}"));
        let (hall, key) = limited(limits, &gate).await;
        hall.send(keyed(&key, "/v1/jobs", job(json!({})))).await;
        for (path, body) in submissions() {
            let is_several = body.get("n").is_some();
            let reply = hall.send(keyed(&key, path, body)).await;
            // Two at once are more than such a limit ever allows.
            if !is_several {
                assert_eq!(reply.status.as_u16(), status, "{what} {path}: {}", reply.text());
                assert_eq!(promise(&reply).is_some(), is_known, "{what} {path}");
            } else {
                promise(&reply);
                assert!(matches!(reply.status.as_u16(), 403 | 429), "{what}: {}", reply.text());
            }
        }
        gate.open();
    }
}

#[tokio::test]
async fn a_limit_of_a_tenant_passes_when_it_was_said() {
    let limits = TenantLimits { concurrent_jobs: Some(1), ..TenantLimits::default() };
    let gate = EchoGate::new();
    let (hall, key) = limited(limits, &gate).await;
    let begun = hall.send(keyed(&key, "/v1/jobs", job(json!({})))).await;
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", begun.text());
    hall.echo.until_active(1).await;
    let refused = hall.send(keyed(&key, "/v1/chat/completions", chat(json!({})))).await;
    assert_eq!(promise(&refused), Some(1));
    gate.open();
    hall.quiet().await;
    let served = hall.send(keyed(&key, "/v1/chat/completions", chat(json!({})))).await;
    assert_eq!(served.status, StatusCode::OK, "{}", served.text());
}

#[tokio::test]
async fn a_queen_that_goes_down_says_on_every_route_when_to_come_back() {
    let hall = Hall::with(echo().embed(4).rerank()).await;
    hall.queen.shutdown(Duration::ZERO).await.unwrap();
    for (path, body) in submissions() {
        let reply = hall.post(path, body).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(promise(&reply), Some(1), "{path}");
    }
    let routes =
        ["models", "models/bee", "jobs", "hives", "workers", "catalog", "doctor", "tenants"];
    for route in routes {
        promise(&hall.get(&format!("/v1/{route}")).await);
    }
    for (path, body) in [
        ("/v1/workers", json!({"model": "bee"})),
        ("/v1/estimate", json!({"model": "bee"})),
        ("/v1/hives/local/drain", json!({})),
    ] {
        promise(&hall.post(path, body).await);
    }
    let health = hall.get("/health").await;
    assert_eq!((health.status.as_u16(), promise(&health)), (503, Some(1)));
}

#[tokio::test]
async fn a_store_that_cannot_be_written_says_when_it_is_tried_again() {
    for (given, said) in [(Some(7), 7), (None, 10)] {
        let registry = GuardedRegistry::new(move |changes| {
            let error = Error::new(ErrorKind::Storage, "the disk is full");
            let error = match given {
                Some(seconds) => error.with_retry_after(Duration::from_secs(seconds)),
                None => error,
            };
            let fails = changes
                .iter()
                .any(|change| matches!(change, Change::JobQueued(_) | Change::TenantPut(_)));
            Box::pin(ready(if fails { Err(error) } else { Ok(()) }))
        });
        let builder = Queen::builder().registry(registry);
        let hall = Hall::of(echo().embed(4).rerank(), builder, |server| server).await;
        for (path, body) in submissions() {
            let reply = hall.post(path, body).await;
            assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{path}: {}", reply.text());
            assert_eq!(promise(&reply), Some(said), "{path}");
        }
        let put = hall.ask(Method::PUT, "/v1/tenants/acme", Some(json!({}))).await;
        assert!(put.status.is_server_error(), "{}", put.text());
        promise(&put);
        promise(&hall.get("/health").await);
    }
}
