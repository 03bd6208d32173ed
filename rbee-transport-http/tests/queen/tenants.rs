//! Tenants over HTTP: set up by the operator, identified by their keys, limited to their own jobs.

use std::sync::Arc;

use crate::common::{Hall, Reply, SlowFactory, chat, echo, job, model, next, request};
use http::{HeaderValue, Method, StatusCode, header};
use rbee_core::{
    InProcessHive, Queen, Settings, TenantId, settings::Mode, tenant::TenantLimits,
    worker::EchoWorker,
};
use rbee_transport_http::{Token, server::QueenServer};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// A queen with a token, and its routes.
pub(super) struct House {
    pub(super) hall: Hall,
    token: String,
}

impl House {
    pub(super) async fn new(settings: Settings) -> Self {
        let token = Token::random().unwrap();
        let text = token.reveal().to_owned();
        let builder = Queen::builder().settings(settings);
        let hall = Hall::of(echo(), builder, |server| server.with_token(token)).await;
        Self { hall, token: text }
    }

    pub(super) async fn ask(
        &self,
        key: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Reply {
        let mut request = request(method, path, body);
        let value = HeaderValue::try_from(format!("Bearer {key}")).unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, value);
        self.hall.send(request).await
    }

    async fn operate(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        self.ask(&self.token, method, path, body).await
    }

    /// A tenant with these limits, and its key.
    pub(super) async fn tenant(&self, name: &str, limits: Value) -> String {
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
        (Method::POST, "/v1/admin/shutdown"),
        (Method::POST, "/v1/estimate"),
        (Method::GET, "/v1/catalog"),
        (Method::GET, "/metrics"),
        (Method::GET, "/v1/jobsite"),
    ] {
        let refused = house.ask(&ours, method, path, None).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}: {}", refused.text());
        assert!(refused.text().contains("needs the operator's token"), "{}", refused.text());
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
async fn a_request_for_more_answers_than_a_tenant_may_have_at_once_begins_none() {
    let house = House::new(Settings::default()).await;
    let key = house.tenant("acme", json!({"concurrent_jobs": 4})).await;
    let ask = |n: u32| {
        let body = Some(chat(json!({"n": n})));
        house.ask(&key, Method::POST, "/v1/chat/completions", body)
    };
    let refused = ask(8).await;
    // It can never succeed, so it is not a status that clients retry.
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text());
    assert_eq!(refused.json()["error"]["code"], "quota_exceeded");
    assert_eq!(refused.header("retry-after"), None);
    let jobs = house.operate(Method::GET, "/v1/jobs", None).await;
    assert_eq!(jobs.json()["data"], json!([]), "nothing was recorded");
    let answered = ask(4).await;
    assert_eq!(answered.status, StatusCode::OK, "{}", answered.text());
    assert_eq!(answered.json()["choices"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn a_tenant_sees_the_models_that_it_may_ask_for() {
    const FILE: &str = "file:/home/operator/models/secret";
    let token = Token::random().unwrap();
    let text = token.reveal().to_owned();
    let secret = EchoWorker::builder(FILE.parse().unwrap()).build();
    let builder = Queen::builder().worker(secret);
    let hall = Hall::of(echo(), builder, |server| server.with_token(token)).await;
    let house = House { hall, token: text };
    let names = |reply: Reply| {
        let data = reply.json()["data"].as_array().unwrap().clone();
        data.iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = house.operate(Method::GET, "/v1/models", None).await;
    assert_eq!(names(all), ["bee", FILE]);
    for (limits, seen) in [
        (json!({}), &["bee"][..]),
        (json!({"models": ["bee"]}), &["bee"]),
        (json!({"models": ["echo"]}), &["bee"]),
        (json!({"models": ["other"]}), &[]),
        (json!({"models": [FILE]}), &[FILE]),
    ] {
        let key = house.tenant("acme", limits.clone()).await;
        let listed = house.ask(&key, Method::GET, "/v1/models", None).await;
        assert_eq!(names(listed), seen, "{limits}");
        for name in ["bee", FILE] {
            let may = seen.contains(&name);
            let path = format!("/v1/models/{name}");
            let shown = house.ask(&key, Method::GET, &path, None).await.status;
            assert_eq!(shown == StatusCode::OK, may, "{limits} {name}");
            let body = Some(chat(json!({"model": name})));
            let asked = house.ask(&key, Method::POST, "/v1/chat/completions", body).await;
            let expected = if may { StatusCode::OK } else { StatusCode::FORBIDDEN };
            assert_eq!(asked.status, expected, "{limits} {name}: {}", asked.text());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_is_told_nothing_of_the_machines() {
    let (model, ready) = (model(), Arc::new(Semaphore::new(0)));
    let hive = InProcessHive::new().with_factory(SlowFactory(ready.clone()));
    let queen = Queen::builder().hive(hive).alias("slow", &model.reference).build().await.unwrap();
    let token = Token::random().unwrap();
    let text = token.reveal().to_owned();
    let router = QueenServer::new(queen.clone()).with_token(token).router();
    let hall = Hall { router, queen, echo: EchoWorker::new("x".parse().unwrap()) };
    let house = House { hall, token: text };
    let key = house.tenant("acme", json!({})).await;
    let mut asked = request(
        Method::POST,
        "/v1/chat/completions",
        Some(chat(json!({"model": "slow", "stream": true}))),
    );
    let value = HeaderValue::try_from(format!("Bearer {key}")).unwrap();
    asked.headers_mut().insert(header::AUTHORIZATION, value);
    let answer = house.hall.begin(asked).await;
    let job = answer.headers()["x-rbee-job-id"].to_str().unwrap().to_owned();
    let mut body = answer.into_body();
    assert_eq!(next(&mut body).await.unwrap(), ": loading slow, 40 %\n\n");
    let path = format!("/v1/jobs/{job}");
    let view = house.ask(&key, Method::GET, &path, None).await.json();
    assert_eq!(
        (&view["model"], &view["loading"]),
        (&json!("slow"), &json!({"state": "loading", "progress": {"done": 40, "total": 100}}))
    );
    let view = house.operate(Method::GET, &path, None).await.json();
    assert_eq!(
        (&view["model"], &view["loading"]["hive"]),
        (&json!(model.reference), &json!("local"))
    );
    let path = format!("{path}/why");
    let why = house.ask(&key, Method::GET, &path, None).await.json();
    let one = &why["data"][0];
    assert_eq!(
        (&one["decision"], &one["steps"], &one["candidates"], &one["model"]),
        (&json!({"kind": "start"}), &json!([]), &json!([]), &json!("slow"))
    );
    let why = house.operate(Method::GET, &path, None).await.json();
    assert_eq!(why["data"][0]["decision"]["hive"], "local");
    ready.add_permits(1);
    while next(&mut body).await.is_some() {}
}

#[tokio::test]
async fn a_platform_without_a_token_serves_tenants_and_has_no_operator() {
    let settings = Settings { mode: Mode::Platform, ..Settings::default() };
    let hall = Hall::of(echo(), Queen::builder().settings(settings), |server| server).await;
    let acme = TenantId::new("acme").unwrap();
    hall.queen.tenants().put(acme.clone(), TenantLimits::default()).await.unwrap();
    let key = hall.queen.tenants().issue_key(&acme, "").await.unwrap().reveal().to_owned();
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
            (Method::POST, "/v1/admin/shutdown", Some(json!({}))),
            (Method::POST, "/v1/chat/completions", Some(chat(json!({})))),
        ] {
            let refused = ask(bearer, method, path, body).await;
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{path}: {}", refused.text());
        }
        // A caller without a key may know that it is up; a caller with a wrong one expects more.
        let expected = if bearer.is_none() { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        assert_eq!(ask(bearer, Method::GET, "/health", None).await.status, expected);
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

#[tokio::test]
async fn pages_of_a_tenants_jobs_tell_it_nothing_of_the_jobs_of_others() {
    let house = House::new(Settings::default()).await;
    let (ours, theirs) =
        (house.tenant("acme", json!({})).await, house.tenant("other", json!({})).await);
    let mut own = Vec::new();
    for key in [&ours, &theirs, &theirs, &ours, &theirs, &ours] {
        let submitted = house.ask(key, Method::POST, "/v1/jobs", Some(job(json!({})))).await;
        assert_eq!(submitted.status, StatusCode::ACCEPTED, "{}", submitted.text());
        if *key == ours {
            own.push(submitted.json()["id"].clone());
        }
    }
    own.reverse();
    let (mut listed, mut path) = (Vec::new(), "/v1/jobs?limit=1".to_owned());
    loop {
        let page = house.ask(&ours, Method::GET, &path, None).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text());
        let page = page.json();
        listed.push(page["data"][0]["id"].clone());
        let Some(next) = page.get("next") else { break };
        assert_eq!(*next, page["data"][0]["id"], "it says no more than the page itself");
        path = format!("/v1/jobs?limit=1&before={}", next.as_str().unwrap());
    }
    assert_eq!(listed, own);
    // A tenant cannot find out whether a job of another tenant exists.
    let ask = async |job: &str| {
        let path = format!("/v1/jobs?before={job}");
        let reply = house.ask(&theirs, Method::GET, &path, None).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
        reply.json()["error"]["message"].as_str().unwrap().replace(job, "JOB")
    };
    let foreign = ask(own[0].as_str().unwrap()).await;
    assert_eq!(foreign, ask("67e55044-10b1-426f-9247-bb680e5fe0c8").await);
}
