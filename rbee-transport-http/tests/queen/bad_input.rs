//! Whatever a client sends, the queen responds clearly and soon, and keeps nothing of it.

use std::{convert::Infallible, path::Path, time::Duration};

use crate::common::{Hall, Reply, chat, echo};
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use proptest::prelude::*;
use rbee_transport_http::server::{Limits, QueenLimits, Server};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Every route that reads a body, and whether its errors have OpenAI's shape.
const ROUTES: [(&str, bool); 8] = [
    ("/v1/chat/completions", true),
    ("/v1/completions", true),
    ("/v1/embeddings", true),
    ("/rerank", true),
    ("/v1/jobs", false),
    ("/v1/hives", false),
    ("/v1/workers", false),
    ("/v1/catalog/pull", false),
];

/// A queen whose answers are always short.
async fn hall() -> Hall {
    Hall::with(echo().embed(4).rerank().context_tokens(1_000).slots(64)).await
}

fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::post(path).header("content-type", "application/json");
    request.body(body.into()).unwrap()
}

/// Checks that the reply is a client error in the shape of the route.
fn assert_refused(reply: &Reply, is_openai: bool, what: &str) {
    assert!(reply.status.is_client_error(), "{what}: {} {}", reply.status, reply.text());
    assert!(reply.header("x-correlation-id").is_some());
    let error = &reply.json()["error"];
    assert!(!error["message"].as_str().unwrap().is_empty(), "{what}");
    assert!(reply.body.len() < 1_000, "{what}: an error does not repeat what it was sent");
    if is_openai {
        assert!(error["type"].is_string() && error["code"].is_string(), "{what}: {error}");
        assert!(error.get("param").is_some());
    } else {
        assert!(
            error["code"].as_str().unwrap().chars().all(|c| c.is_ascii_uppercase() || c == '_')
        );
        assert!(error["correlation_id"].is_string());
    }
}

#[tokio::test]
async fn every_body_of_the_corpus_is_taken_or_refused() {
    let hall = hall().await;
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/queen");
    let (mut good, mut bad) = (0, 0);
    for entry in std::fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let (name, body) =
            (path.file_name().unwrap().to_str().unwrap(), std::fs::read(&path).unwrap());
        let mut taken = 0;
        for (route, is_openai) in ROUTES {
            let reply = hall.send(post(route, body.clone())).await;
            let what = format!("{name} to {route}");
            if reply.status.is_success() {
                taken += 1;
            } else {
                assert_refused(&reply, is_openai, &what);
            }
        }
        if name.starts_with("good-") {
            good += 1;
            assert!(taken > 0, "{name} is taken nowhere");
        } else {
            bad += 1;
            assert_eq!(taken, 0, "{name} is taken");
        }
    }
    assert!(good >= 8 && bad >= 60, "{good} good and {bad} bad bodies");
    hall.quiet().await;
}

/// Any JSON.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-3i64..12).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "text|user|system|bee|none|auto|interactive|float|json_object".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec(("type|text|role|content|[a-z_]{0,8}", inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

const FIELDS: &str = "model|messages|prompt|input|n|stream|stream_options|max_tokens|max_completion_tokens|temperature|\
    top_p|top_k|min_p|repetition_penalty|stop|seed|priority|tools|tool_choice|functions|function_call|logprobs|\
    top_logprobs|logit_bias|response_format|modalities|audio|user|metadata|store|echo|suffix|best_of|dimensions|\
    encoding_format|hive|slots|devices|pin|url|token|service_tier|presence_penalty|[a-z_]{0,8}";

/// A body that would be accepted, with some of its fields changed.
fn nearly_right() -> impl Strategy<Value = Vec<u8>> {
    let bases = prop_oneof![
        Just(chat(json!({}))),
        Just(json!({"model": "bee", "prompt": "x", "max_tokens": 2})),
        Just(json!({"model": "bee", "input": ["x", "y"]})),
        Just(json!({"model": "bee"})),
    ];
    let changes = prop::collection::vec((FIELDS, any_json()), 0..4);
    (bases, changes).prop_map(|(mut body, changes)| {
        body.as_object_mut().unwrap().extend(changes);
        serde_json::to_vec(&body).unwrap()
    })
}

/// Bytes that are nearly JSON: valid bytes with some changed, inserted or cut off.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 0..4);
    (nearly_right(), edits).prop_map(|(mut body, edits)| {
        for (at, byte, how) in edits {
            let at = at.index(body.len() + 1);
            match how {
                0 if at < body.len() => body[at] = byte,
                1 => body.insert(at, byte),
                _ => body.truncate(at),
            }
        }
        body
    })
}

#[test]
fn no_body_whatever_is_answered_with_a_servers_error() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let hall = runtime.block_on(hall());
    let bodies = prop_oneof![
        4 => nearly_right(),
        4 => nearly_json(),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ];
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) };
    proptest!(config, |(body in bodies)| {
        for (route, is_openai) in ROUTES {
            let reply = runtime.block_on(hall.send(post(route, body.clone())));
            let what = format!("{} to {route}", String::from_utf8_lossy(&body));
            if !reply.status.is_success() {
                assert_refused(&reply, is_openai, &what);
            }
        }
    });
    runtime.block_on(hall.quiet());
}

#[test]
fn no_path_or_header_whatever_is_answered_with_a_servers_error() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let hall = runtime.block_on(hall());
    let paths = "(/v1)?/(jobs|hives|workers|models|catalog/model|catalog|doctor|policy|policy/check|policy/versions|estimate|logs)?(/[a-z0-9%.:@-]{0,12})?\
        (/events|/start|/stop|/drain|/pin)?(\\?[a-z%=&0-9,-]{0,20})?";
    let methods = prop::sample::select(vec![
        Method::GET,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
        Method::HEAD,
    ]);
    let headers = prop::collection::vec(
        (
            prop::sample::select(vec![
                "last-event-id",
                "idempotency-key",
                "x-correlation-id",
                "authorization",
                "content-type",
                "accept",
            ]),
            prop::collection::vec(0x20u8..=0xff, 0..20),
        ),
        0..3,
    );
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) };
    proptest!(config, |(path in paths, method in methods, headers in headers)| {
        // Stopping the only hive would not be an error, and would end the test.
        prop_assume!(!path.contains("local"));
        let Ok(uri) = path.parse::<http::Uri>() else { return Ok(()) };
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            let Ok(value) = http::HeaderValue::from_bytes(&value) else { continue };
            request = request.header(name, value);
        }
        let reply = runtime.block_on(hall.send(request.body(Body::empty()).unwrap()));
        prop_assert!(!reply.status.is_server_error(), "{path}: {}", reply.text());
        prop_assert!(reply.header("x-correlation-id").is_some());
    });
    runtime.block_on(hall.quiet());
}

#[tokio::test]
async fn a_body_that_does_not_say_it_is_json_is_refused() {
    let hall = hall().await;
    for (route, is_openai) in ROUTES {
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "json",
            "\u{e9}",
        ] {
            let mut request = post(route, "{}");
            request
                .headers_mut()
                .insert("content-type", http::HeaderValue::from_bytes(kind.as_bytes()).unwrap());
            let reply = hall.send(request).await;
            assert_refused(&reply, is_openai, kind);
            let refused = [StatusCode::UNSUPPORTED_MEDIA_TYPE, StatusCode::BAD_REQUEST];
            assert_eq!(reply.status, refused[usize::from(!kind.is_ascii())], "{kind}");
        }
        let mut request = post(route, "{}");
        request.headers_mut().remove("content-type");
        let reply = hall.send(request).await;
        assert_refused(&reply, is_openai, "no content type");
        assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    for kind in ["application/json; charset=utf-8", "Application/JSON"] {
        let mut request = post("/v1/chat/completions", chat(json!({})).to_string());
        request.headers_mut().insert("content-type", kind.parse().unwrap());
        assert_eq!(hall.send(request).await.status, StatusCode::OK, "{kind:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_all_here() {
    let limits = QueenLimits { body_bytes: 1_000, ..QueenLimits::default() };
    let hall =
        Hall::of(echo(), rbee_core::Queen::builder(), |server| server.with_limits(limits)).await;
    for (route, is_openai) in ROUTES {
        let announced = hall.send(post(route, vec![b' '; 1_001])).await;
        // It never ends: a server that waits for all of it waits for ever.
        let endless = futures_util::stream::repeat_with(|| {
            Ok::<_, Infallible>(Bytes::from_static(&[b' '; 100]))
        });
        let chunked = hall.send(post(route, Body::from_stream(endless))).await;
        for reply in [announced, chunked] {
            assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
            assert_refused(&reply, is_openai, route);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_half_way_is_waited_for_only_so_long() {
    let hall = hall().await;
    for (route, is_openai) in ROUTES {
        use futures_util::StreamExt;
        let half =
            futures_util::stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"{\"model\":"))]);
        let body = Body::from_stream(half.chain(futures_util::stream::pending()));
        let response = hall.begin(post(route, body)).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let broken = futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::other(
            "the client is gone",
        ))]);
        assert_refused(&hall.send(post(route, Body::from_stream(broken))).await, is_openai, route);
    }
    hall.quiet().await;
}

#[tokio::test]
async fn what_is_not_there_is_refused_in_the_shape_that_the_client_knows() {
    let hall = hall().await;
    for (method, path, status, is_openai) in [
        (Method::POST, "/v1/conversations", StatusCode::NOT_FOUND, true),
        (Method::POST, "/v1/audio/speech", StatusCode::NOT_FOUND, true),
        (Method::GET, "/v1/chat/completions", StatusCode::METHOD_NOT_ALLOWED, true),
        (Method::DELETE, "/v1/models/bee", StatusCode::METHOD_NOT_ALLOWED, true),
        (Method::GET, "/v1/models/", StatusCode::NOT_FOUND, true),
        (Method::GET, "/v1/models/%ff", StatusCode::BAD_REQUEST, true),
        (Method::GET, "/nothing", StatusCode::NOT_FOUND, false),
        (Method::POST, "/health", StatusCode::METHOD_NOT_ALLOWED, false),
        (Method::PATCH, "/v1/jobs", StatusCode::METHOD_NOT_ALLOWED, false),
        (Method::GET, "/v1/jobs/%ff", StatusCode::BAD_REQUEST, false),
        (Method::GET, "/v1/hives/x/y/z", StatusCode::NOT_FOUND, false),
    ] {
        let reply = hall.ask(method.clone(), path, None).await;
        assert_eq!(reply.status, status, "{method} {path}");
        assert_refused(&reply, is_openai, path);
    }
}

#[tokio::test]
async fn a_correlation_id_is_taken_where_it_is_well_formed() {
    let hall = hall().await;
    let id = async |given: &'static [u8]| {
        let mut request = post("/v1/chat/completions", chat(json!({})).to_string());
        request
            .headers_mut()
            .insert("x-correlation-id", http::HeaderValue::from_bytes(given).unwrap());
        let reply = hall.send(request).await;
        assert_eq!(reply.header("x-correlation-id"), reply.header("x-request-id"));
        reply.header("x-correlation-id").unwrap().to_owned()
    };
    assert_eq!(id(b"Mine-1").await, "Mine-1");
    for bad in [&b"a b"[..], b"", b"a\xff", b"../x", &[b'x'; 65]] {
        let made = id(bad.to_vec().leak()).await;
        assert!(
            made.len() >= 32
                && made.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        );
    }
}

/// The hall on a port of this machine.
async fn open(hall: &Hall, limits: Limits) -> (std::net::SocketAddr, DropGuard) {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().with_limits(limits);
    let (address, stop) = (server.address(), CancellationToken::new());
    tokio::spawn(server.run(hall.router.clone(), stop.clone(), Duration::ZERO));
    (address, stop.drop_guard())
}

/// What is sent back until the connection ends, or until the limit.
async fn answer(stream: &mut TcpStream, limit: Duration) -> String {
    let mut said = Vec::new();
    let _ = tokio::time::timeout(limit, stream.read_to_end(&mut said)).await;
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn heads_without_end_and_clients_without_words_are_cut_off() {
    let hall = hall().await;
    let limits = Limits {
        idle_timeout: Duration::from_millis(300),
        head_bytes: 8 << 10,
        ..Limits::default()
    };
    let (address, _stop) = open(&hall, limits).await;

    let mut endless = TcpStream::connect(address).await.unwrap();
    endless
        .write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n")
        .await
        .unwrap();
    for n in 0..10_000 {
        if endless.write_all(format!("x-{n}: y\r\n").as_bytes()).await.is_err() {
            break;
        }
    }
    let said = answer(&mut endless, Duration::from_secs(10)).await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");

    let mut silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(answer(&mut silent, Duration::from_secs(10)).await, "");

    let mut garbage = TcpStream::connect(address).await.unwrap();
    garbage.write_all(b"\x16\x03\x01\x02\x00\x01\x00hello\r\n\r\n").await.unwrap();
    assert!(answer(&mut garbage, Duration::from_secs(10)).await.starts_with("HTTP/1.1 400"));
    hall.quiet().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_half_way_leaves_nothing_behind() {
    let hall = hall().await;
    let (address, _stop) = open(&hall, Limits::default()).await;
    for sent in [
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"model\":",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        drop(stream);
    }
    assert_eq!(hall.chat(json!({})).await.status, StatusCode::OK);
    hall.quiet().await;
}

#[tokio::test]
async fn a_client_that_never_reads_holds_no_slot() {
    // More than the buffers of two sockets hold.
    let hall = Hall::with(echo().context_tokens(200_000)).await;
    let limits = Limits { write_timeout: Duration::from_millis(200), ..Limits::default() };
    let (address, _stop) = open(&hall, limits).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let body = chat(json!({"stream": true, "max_tokens": 200_000})).to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &*body).as_bytes()).await.unwrap();
    hall.echo.until_started(1).await;
    hall.quiet().await;
    // What was not read yet is there; then the connection was cut, because the client read no further.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let said = answer(&mut stream, Duration::from_secs(10)).await;
    assert!(said.starts_with("HTTP/1.1 200") && !said.contains("[DONE]"), "{} bytes", said.len());
}
