//! Tenants over HTTP: set up by the operator, known by their keys, kept to what is theirs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Hall, Reply, chat, echo, job, request};
use http::{HeaderValue, Method, StatusCode, header};
use rbee_core::{Mode, Queen, Settings, TenantId, TenantLimits};
use rbee_transport_http::Token;
use serde_json::{Value, json};

/// A queen with a token, and what asks her.
struct House {
    hall: Hall,
    token: String,
}

impl House {
    async fn new(settings: Settings) -> Self {
        let token = Token::random().unwrap();
        let text = token.reveal().to_owned();
        let builder = Queen::builder().settings(settings);
        let hall = Hall::of(echo(), builder, |server| server.with_token(token)).await;
        Self { hall, token: text }
    }

    async fn ask(&self, key: &str, method: Method, path: &str, body: Option<Value>) -> Reply {
        let mut request = request(method, path, body);
        let value = HeaderValue::try_from(format!("Bearer {key}")).unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, value);
        self.hall.send(request).await
    }

    async fn operate(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        self.ask(&self.token, method, path, body).await
    }

    /// A tenant with these limits, and its key.
    async fn tenant(&self, name: &str, limits: Value) -> String {
        let path = format!("/v1/tenants/{name}");
        let put = self.operate(Method::PUT, &path, Some(limits)).await;
        assert_eq!(put.status, StatusCode::OK, "{}", put.text());
        let path = format!("{path}/keys");
        let issued = self.operate(Method::POST, &path, Some(json!({"label": "test"}))).await;
        assert_eq!(issued.status, StatusCode::CREATED, "{}", issued.text());
        issued.json()["key"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_key_allows_models_and_ones_own_jobs_and_nothing_else() {
    let house = House::new(Settings::default()).await;
    let (ours, theirs) =
        (house.tenant("acme", json!({})).await, house.tenant("other", json!({})).await);
    let answer =
        house.ask(&ours, Method::POST, "/v1/chat/completions", Some(chat(json!({})))).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let submitted = house.ask(&ours, Method::POST, "/v1/jobs", Some(job(json!({})))).await;
    assert_eq!(submitted.status, StatusCode::ACCEPTED, "{}", submitted.text());
    let submitted = submitted.json();
    assert_eq!(submitted["tenant"], "acme");
    let path = format!("/v1/jobs/{}", submitted["id"].as_str().unwrap());
    for below in ["", "/events", "/why"] {
        let path = format!("{path}{below}");
        assert_eq!(
            house.ask(&ours, Method::GET, &path, None).await.status,
            StatusCode::OK,
            "{path}"
        );
        let foreign = house.ask(&theirs, Method::GET, &path, None).await;
        assert_eq!(foreign.status, StatusCode::NOT_FOUND, "{path}");
    }
    let foreign = house.ask(&theirs, Method::DELETE, &path, None).await;
    assert_eq!(foreign.status, StatusCode::NOT_FOUND);
    let count = |reply: Reply| reply.json()["data"].as_array().unwrap().len();
    assert_eq!(count(house.ask(&ours, Method::GET, "/v1/jobs", None).await), 2);
    assert_eq!(count(house.ask(&theirs, Method::GET, "/v1/jobs", None).await), 0);
    assert_eq!(count(house.operate(Method::GET, "/v1/jobs", None).await), 2);

    for (method, path) in [
        (Method::GET, "/v1/hives"),
        (Method::GET, "/v1/workers"),
        (Method::GET, "/v1/policy"),
        (Method::GET, "/v1/tenants"),
        (Method::PUT, "/v1/tenants/acme"),
        (Method::POST, "/v1/tenants/acme/keys"),
        (Method::GET, "/v1/logs"),
        (Method::GET, "/v1/doctor"),
        (Method::GET, "/v1/catalog"),
        (Method::GET, "/metrics"),
        (Method::GET, "/v1/jobsite"),
    ] {
        let refused = house.ask(&ours, method, path, None).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}: {}", refused.text());
    }
}

#[tokio::test]
async fn a_revoked_key_is_of_no_use_also_where_no_token_is_asked_for() {
    let hall = Hall::new().await;
    let put = hall.ask(Method::PUT, "/v1/tenants/acme", Some(json!({"weight": 2}))).await;
    assert_eq!(put.json()["limits"]["weight"], 2);
    let issued = hall.post("/v1/tenants/acme/keys", json!({})).await.json();
    let (key, hash) = (issued["key"].as_str().unwrap(), issued["hash"].as_str().unwrap());
    let ask = |key: String| {
        let mut request = request(Method::GET, "/v1/hives", None);
        let value = HeaderValue::try_from(format!("Bearer {key}")).unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, value);
        hall.send(request)
    };
    assert_eq!(ask(key.to_owned()).await.status, StatusCode::FORBIDDEN);
    assert_eq!(ask("whatever a client sends".into()).await.status, StatusCode::OK);
    let shown = hall.get("/v1/tenants/acme").await;
    assert_eq!(shown.json()["keys"][0]["hash"], hash);
    assert!(!shown.text().contains(key));
    let revoked = hall.delete(&format!("/v1/tenants/acme/keys/{}", &hash[..10])).await;
    assert_eq!(revoked.status, StatusCode::NO_CONTENT, "{}", revoked.text());
    assert_eq!(ask(key.to_owned()).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(hall.delete("/v1/tenants/acme").await.status, StatusCode::NO_CONTENT);
    assert_eq!(hall.get("/v1/tenants/acme").await.status, StatusCode::NOT_FOUND);
    assert_eq!(hall.delete("/v1/tenants/acme").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn limits_are_told_as_openais_clients_expect_them() {
    let house = House::new(Settings::default()).await;
    let key = house.tenant("acme", json!({"requests_per_minute": 1})).await;
    let ask = || house.ask(&key, Method::POST, "/v1/chat/completions", Some(chat(json!({}))));
    assert_eq!(ask().await.status, StatusCode::OK);
    let limited = ask().await;
    assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
    let seconds: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    let error = limited.json()["error"].clone();
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("rate_limit_error"), &json!("rate_limited"))
    );

    let key = house.tenant("narrow", json!({"models": ["bee"]})).await;
    let allowed =
        house.ask(&key, Method::POST, "/v1/chat/completions", Some(chat(json!({})))).await;
    assert_eq!(allowed.status, StatusCode::OK, "{}", allowed.text());
    let bad = house.operate(Method::PUT, "/v1/tenants/bad", Some(json!({"daily": 1}))).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    let bad = house.operate(Method::PUT, "/v1/tenants/a%20b", Some(json!({}))).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_platform_without_a_token_serves_tenants_and_has_no_operator() {
    let settings = Settings { mode: Mode::Platform, ..Settings::default() };
    let hall = Hall::of(echo(), Queen::builder().settings(settings), |server| server).await;
    let acme = TenantId::new("acme").unwrap();
    hall.queen.put_tenant(acme.clone(), TenantLimits::default()).await.unwrap();
    let key = hall.queen.issue_key(&acme, "").await.unwrap().reveal().to_owned();
    let ask = |bearer: Option<&str>, method, path, body| {
        let mut request = request(method, path, body);
        if let Some(bearer) = bearer {
            let value = HeaderValue::try_from(format!("Bearer {bearer}")).unwrap();
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        hall.send(request)
    };
    for bearer in [None, Some("whatever"), Some("")] {
        for (method, path, body) in [
            (Method::GET, "/v1/jobs", None),
            (Method::GET, "/v1/hives", None),
            (Method::GET, "/v1/logs", None),
            (Method::POST, "/v1/tenants/acme/keys", Some(json!({}))),
            (Method::POST, "/v1/chat/completions", Some(chat(json!({})))),
        ] {
            let refused = ask(bearer, method, path, body).await;
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{path}: {}", refused.text());
        }
        assert_eq!(ask(bearer, Method::GET, "/health", None).await.status, StatusCode::OK);
    }
    let body = Some(chat(json!({})));
    let answer = ask(Some(&key), Method::POST, "/v1/chat/completions", body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
}

#[tokio::test]
async fn a_platform_answers_nobody_without_a_tenant_and_its_policy_is_fixed() {
    let house = House::new(Settings { mode: Mode::Platform, ..Settings::default() }).await;
    let body = Some(chat(json!({})));
    let operator = house.operate(Method::POST, "/v1/chat/completions", body.clone()).await;
    assert_eq!(operator.status, StatusCode::FORBIDDEN, "{}", operator.text());
    let key = house.tenant("acme", json!({})).await;
    let tenant = house.ask(&key, Method::POST, "/v1/chat/completions", body).await;
    assert_eq!(tenant.status, StatusCode::OK, "{}", tenant.text());
    let policy =
        json!({"language": "rhai", "source": "fn schedule(job, workers, hives) { wait() }"});
    let refused = house.operate(Method::PUT, "/v1/policy", Some(policy)).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text());
}
