//! Who may ask for what, errors, and clients that leave.

use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use rbee_core::{
    ErrorKind, Queen,
    worker::{EchoFault, EchoGate, EchoWorker},
};
use rbee_transport_http::Token;
use serde_json::{Value, json};

use super::{ask, error, lines};
use crate::common::{self, Hall, Reply, echo, next, request};

fn chat(fields: Value) -> Value {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let options = json!({"num_predict": 4, "seed": 7});
    common::over(json!({"model": "bee", "messages": messages, "options": options}), fields)
}

#[tokio::test]
async fn an_error_before_the_answer_has_its_status_and_is_one_sentence() {
    let hall = Hall::new().await;
    for (path, body, status) in [
        ("/api/chat", chat(json!({"model": "nobody"})), StatusCode::NOT_FOUND),
        ("/api/chat", chat(json!({"model": "hf:a b"})), StatusCode::BAD_REQUEST),
        ("/api/show", json!({"model": "nobody"}), StatusCode::NOT_FOUND),
        ("/api/embed", json!({"model": "bee", "input": "x"}), StatusCode::BAD_REQUEST),
        ("/api/nothing", json!({}), StatusCode::NOT_FOUND),
    ] {
        let reply = hall.post(path, body).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
        assert!(error(&reply).contains(' '), "{}", reply.text());
    }
    let form = http::Request::post("/api/chat")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(chat(json!({})).to_string().into())
        .unwrap();
    let reply = hall.send(form).await;
    assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(error(&reply).contains("application/json"), "it says what curl has to send");
}

#[tokio::test]
async fn an_error_after_the_first_line_is_a_line() {
    let kind = ErrorKind::InvalidRequest;
    let hall = Hall::with(echo().fault(EchoFault::Fail { at: 2, kind })).await;
    let objects = lines(&ask(&hall, "/api/chat", chat(json!({}))).await);
    let (last, before) = objects.split_last().unwrap();
    assert!(before.iter().all(|line| line["done"] == false), "{objects:?}");
    assert!(last["error"].as_str().is_some_and(|text| !text.is_empty()), "{last}");
    assert_eq!(last.as_object().unwrap().len(), 1);
    let whole = hall.post("/api/chat", chat(json!({"stream": false}))).await;
    assert_eq!(whole.status, StatusCode::BAD_REQUEST, "{}", whole.text());
}

#[tokio::test]
async fn a_client_that_disconnects_cancels_its_job() {
    let gate = EchoGate::new();
    let hall = Hall::with(echo().gate(&gate)).await;
    gate.release(1);
    let request = request(Method::POST, "/api/chat", Some(chat(json!({}))));
    let response = hall.begin(request).await;
    let job = response.headers()["x-rbee-job-id"].to_str().unwrap().to_owned();
    let mut body = response.into_body();
    assert!(next(&mut body).await.unwrap().contains("\"done\":false"));
    drop(body);
    hall.until(&job, |view| view["state"] == "cancelled").await;
    hall.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_gets_white_space_before_the_next_object() {
    let hall = Hall::with(echo().first_delay(Duration::from_secs(12))).await;
    let reply = ask(&hall, "/api/chat", chat(json!({}))).await;
    let text = reply.text();
    assert!(text.starts_with("  {"), "two intervals of 5 seconds: {text:?}");
    assert_eq!(lines(&reply).len(), 5, "each line is an object");
}

/// A queen with a token, a model that is a file, and a tenant that may use one model.
struct House {
    hall: Hall,
    token: String,
    key: String,
}

const FILE: &str = "file:/home/operator/models/secret";

impl House {
    async fn new() -> Self {
        let token = Token::random().unwrap();
        let secret = EchoWorker::builder(FILE.parse().unwrap()).build();
        let (text, queen) = (token.reveal().to_owned(), Queen::builder().worker(secret));
        let hall = Hall::of(echo(), queen, |server| server.with_token(token)).await;
        let mut house = Self { hall, token: text, key: String::new() };
        let limits = Some(json!({"models": ["bee"]}));
        house.operate(Method::PUT, "/v1/tenants/acme", limits).await;
        let keys = "/v1/tenants/acme/keys";
        let issued = house.operate(Method::POST, keys, Some(json!({"label": "test"}))).await;
        house.key = issued.json()["key"].as_str().unwrap().to_owned();
        house
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

    async fn tenant(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        self.ask(&self.key, method, path, body).await
    }
}

#[tokio::test]
async fn a_tenant_uses_its_models_and_learns_nothing_of_others() {
    let house = House::new().await;
    for (method, path, body) in [
        (Method::GET, "/", None),
        (Method::GET, "/api/version", None),
        (Method::POST, "/api/show", Some(json!({"model": "bee:latest"}))),
        (Method::POST, "/api/chat", Some(chat(json!({"model": "bee:latest"})))),
        (
            Method::POST,
            "/api/generate",
            Some(json!({"model": "bee", "prompt": "Hi", "options": {"num_predict": 1}})),
        ),
    ] {
        let reply = house.tenant(method, path, body).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text());
        assert!(reply.header("x-rbee-worker-id").is_none(), "{path}");
    }
    let names = |reply: Reply| {
        let models = reply.json()["models"].as_array().unwrap().clone();
        models.iter().map(|model| model["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(house.operate(Method::GET, "/api/tags", None).await), ["bee:latest", FILE]);
    assert_eq!(names(house.tenant(Method::GET, "/api/tags", None).await), ["bee:latest"]);
    for (path, body) in [
        ("/api/chat", chat(json!({"model": FILE}))),
        ("/api/embed", json!({"model": FILE, "input": "x"})),
        ("/api/show", json!({"model": FILE})),
    ] {
        // A model that exists and one that does not are refused in the same way.
        let refused = house.tenant(Method::POST, path, Some(body.clone())).await;
        let other = common::over(body, json!({"model": "file:/home/operator/models/other"}));
        let missing = house.tenant(Method::POST, path, Some(other)).await;
        assert!(refused.status.is_client_error(), "{path}: {}", refused.text());
        assert_eq!(refused.status, missing.status, "{path}");
        assert_eq!(refused.text().replace("secret", "other"), missing.text(), "{path}");
    }
}

#[tokio::test]
async fn a_tenant_neither_loads_nor_manages_models() {
    let house = House::new().await;
    for (method, path, body) in [
        (Method::GET, "/api/ps", None),
        (Method::POST, "/api/pull", Some(json!({"model": "bee"}))),
        (Method::DELETE, "/api/delete", Some(json!({"model": "bee"}))),
        (Method::POST, "/api/copy", Some(json!({"source": "bee", "destination": "b"}))),
        (Method::POST, "/api/create", Some(json!({"model": "b"}))),
        (Method::POST, "/api/push", Some(json!({"model": "bee"}))),
        (Method::POST, "/api/chat", Some(json!({"model": "bee"}))),
        (Method::POST, "/api/generate", Some(json!({"model": "bee", "keep_alive": 0}))),
        (Method::POST, "/api/embed", Some(json!({"model": "bee", "input": ""}))),
    ] {
        let reply = house.tenant(method, path, body).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{path}: {}", reply.text());
        assert!(error(&reply).contains("operator"), "{}", reply.text());
    }
    let unknown = house.hall.get("/api/tags").await;
    assert_eq!(unknown.status, StatusCode::UNAUTHORIZED);
    assert!(error(&unknown).contains("token"), "{}", unknown.text());
}
