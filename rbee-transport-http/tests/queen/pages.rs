//! Web pages in a browser on the queen's machine are refused, unless their origin is allowed.

use crate::common::{Hall, Reply, chat, echo};
use axum::body::Body;
use http::{Method, Request, StatusCode};
use rbee_core::Queen;
use rbee_transport_http::Token;
use serde_json::{Value, json};
use tower::ServiceExt;

const OWN: &str = "localhost:7833";
const ALLOWED: &str = "https://chat.example";

/// Every route with its methods, from the queen's own description.
async fn routes(hall: &Hall) -> Vec<(Method, String)> {
    let description = hall.get("/openapi.json").await.json();
    let mut routes = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let method = method.to_uppercase().parse().unwrap();
            let path = path.replace("{id}", "local").replace(['{', '}'], "");
            routes.push((method, path));
        }
    }
    assert!(routes.len() > 40, "{routes:?}");
    routes
}

async fn send(hall: &Hall, method: &Method, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = if *method == Method::GET { Body::empty() } else { Body::from("{}") };
    // Without the headers that the tests' own client adds.
    let response = hall.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    Reply { status: parts.status, headers: parts.headers, body }
}

/// The state that a page could change.
async fn state(hall: &Hall) -> Vec<Value> {
    let mut state = Vec::new();
    for path in ["/v1/hives", "/v1/workers", "/v1/jobs", "/v1/policy", "/v1/tenants", "/v1/catalog"]
    {
        let mut seen = hall.get(path).await.json();
        // Without values that change by themselves.
        for entry in seen["data"].as_array_mut().into_iter().flatten() {
            for name in ["idle_ms", "last_seen_at_ms"] {
                entry.as_object_mut().unwrap().remove(name);
            }
        }
        state.push(seen);
    }
    state
}

#[tokio::test]
async fn a_foreign_page_is_refused_on_every_route_and_changes_nothing() {
    let hall = Hall::of(echo(), Queen::builder(), |server| {
        server.with_allowed_origin(ALLOWED.parse().unwrap())
    })
    .await;
    let before = state(&hall).await;
    let json = ("content-type", "application/json");
    // What a browser sends for a page: of another origin, of a name that was made to resolve to this machine, and
    // without an origin, for an image.
    let pages: [&[(&str, &str)]; 6] = [
        &[("host", OWN), ("origin", "http://evil.example")],
        &[("host", OWN), ("origin", "http://localhost:3000"), ("sec-fetch-site", "same-site")],
        &[("host", OWN), ("origin", "null"), ("sec-fetch-site", "cross-site")],
        &[("host", "evil.example:7833"), ("origin", "http://evil.example:7833")],
        &[("host", "evil.example:7833"), ("sec-fetch-site", "same-origin")],
        &[("host", OWN), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
    ];
    for (method, path) in routes(&hall).await {
        for page in pages {
            for more in [&[][..], &[json][..]] {
                let headers = [page, more].concat();
                let reply = send(&hall, &method, &path, &headers).await;
                let what = format!("{method} {path} with {headers:?}: {}", reply.text());
                assert_eq!(reply.status, StatusCode::FORBIDDEN, "{what}");
                assert_eq!(reply.header("access-control-allow-origin"), None, "{what}");
                let error = reply.json()["error"].clone();
                let is_ollama = path.starts_with("/api/");
                assert!(error["message"].is_string() || (is_ollama && error.is_string()), "{what}");
            }
        }
        // A form, and a script without a preflight; nothing shows that a page sent them.
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
            if method == Method::GET {
                continue;
            }
            let reply = send(&hall, &method, &path, &[("host", OWN), ("content-type", kind)]).await;
            let what = format!("{method} {path} as {kind}: {}", reply.text());
            // The upload of a file is a form. Browsers name the origin of every form, which was checked above.
            let is_upload = path == "/v1/files" && kind == "multipart/form-data";
            let refused = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            assert_eq!(reply.status == refused, !is_upload, "{what}");
        }
    }
    let after = state(&hall).await;
    assert_eq!(after, before);
}

#[tokio::test]
async fn an_allowed_page_asks_first_and_then_reads_what_it_gets() {
    let token = Token::random().unwrap();
    let shown = token.clone();
    let hall = Hall::of(echo(), Queen::builder(), |server| {
        server.with_token(shown).with_allowed_origin(ALLOWED.parse().unwrap())
    })
    .await;
    let preflight = |origin| {
        [
            ("host", "llm.example"),
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,content-type,x-stainless-os"),
            ("access-control-request-private-network", "true"),
        ]
    };
    let options = Method::OPTIONS;
    let reply = send(&hall, &options, "/v1/chat/completions", &preflight(ALLOWED)).await;
    assert!(reply.status.is_success(), "{}", reply.text());
    assert_eq!(reply.header("access-control-allow-origin"), Some(ALLOWED));
    let allowed = reply.header("access-control-allow-headers").unwrap();
    assert_eq!(allowed, "authorization,content-type,x-stainless-os");
    let methods = reply.header("access-control-allow-methods").unwrap();
    assert!(["GET", "POST", "PUT", "DELETE"].iter().all(|one| methods.contains(one)), "{methods}");
    assert_eq!(reply.header("access-control-allow-private-network"), Some("true"));
    assert_eq!(reply.header("access-control-allow-credentials"), None);
    assert_eq!(reply.header("access-control-max-age"), Some("600"));

    let bearer = format!("Bearer {}", token.reveal());
    let with_token = Request::post("/v1/chat/completions")
        .header("origin", ALLOWED)
        .header("content-type", "application/json")
        .header("authorization", &bearer);
    let body = Body::from(chat(json!({})).to_string());
    let reply = hall.send(with_token.body(body).unwrap()).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.header("access-control-allow-origin"), Some(ALLOWED));
    assert!(reply.header("access-control-expose-headers").unwrap().contains("x-rbee-job-id"));
    assert!(reply.header("vary").unwrap().contains("origin"));

    // It can also read the reason of a refusal, and an allowed origin does not replace the token.
    let bare = [("host", "llm.example"), ("origin", ALLOWED)];
    let reply = send(&hall, &Method::GET, "/v1/jobs", &bare).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert_eq!(reply.header("access-control-allow-origin"), Some(ALLOWED));

    for origin in ["https://evil.example", "https://chat.example.evil.example", "null"] {
        let reply = send(&hall, &options, "/v1/chat/completions", &preflight(origin)).await;
        assert_eq!(reply.header("access-control-allow-origin"), None, "{origin}");
    }
}

#[tokio::test]
async fn without_allowed_origins_there_is_no_cors_at_all() {
    let hall = Hall::new().await;
    let ask = [("host", OWN), ("origin", ALLOWED), ("access-control-request-method", "POST")];
    let reply = send(&hall, &Method::OPTIONS, "/v1/chat/completions", &ask).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    let names: Vec<_> = reply.headers.keys().map(http::HeaderName::as_str).collect();
    assert!(!names.iter().any(|name| name.starts_with("access-control")), "{names:?}");
    // A page of the application that embeds the queen has the same origin.
    let own = [("host", OWN), ("origin", "http://localhost:7833")];
    assert_eq!(send(&hall, &Method::GET, "/v1/models", &own).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_request_that_could_be_read_in_two_ways_is_refused() {
    let hall = Hall::new().await;
    let bearer = ("authorization", "Bearer x");
    let doubled: [(&[(&str, &str)], &str); 4] = [
        (&[], "host"),
        (&[("host", OWN), ("host", OWN)], "host"),
        (&[("host", OWN), bearer, bearer], "authorization"),
        (&[("host", OWN), ("origin", "http://a"), ("origin", "http://b")], "origin"),
    ];
    for (headers, name) in doubled {
        for path in ["/health", "/v1/models", "/v1/jobs"] {
            let reply = send(&hall, &Method::GET, path, headers).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{path} {headers:?}");
            let message = reply.json()["error"]["message"].as_str().unwrap().to_lowercase();
            assert!(message.contains(name), "{message}");
        }
    }
}

#[tokio::test]
async fn a_configured_host_may_be_named_without_a_token() {
    let hall = Hall::of(echo(), Queen::builder(), |server| {
        server.with_allowed_host("llm.home.arpa".parse().unwrap())
    })
    .await;
    let ask = async |host| send(&hall, &Method::GET, "/v1/models", &[("host", host)]).await.status;
    assert_eq!(ask("llm.home.arpa:7833").await, StatusCode::OK);
    assert_eq!(ask("other.home.arpa:7833").await, StatusCode::FORBIDDEN);
}
