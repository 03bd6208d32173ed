//! What clients of a queen can hold at once: followers of a job, requests of a tenant, bodies in transfer.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use crate::common::{self, Hall, Reply, TIMEOUT, chat, echo, job, next, request};
use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use rbee_core::{Queen, worker::EchoGate};
use rbee_transport_http::{
    Token,
    server::{Limits, QueenLimits, QueenServer, Server},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

const CHAT: &str = "/v1/chat/completions";

/// A queen with a token whose jobs run when the semaphore lets them.
struct House {
    hall: Hall,
    gate: EchoGate,
    token: String,
}

impl House {
    async fn new(limits: QueenLimits) -> Self {
        let token = Token::random().unwrap();
        let (text, gate) = (token.reveal().to_owned(), EchoGate::new());
        let server = |server: QueenServer| server.with_token(token).with_limits(limits);
        let hall = Hall::of(echo().gate(&gate), Queen::builder(), server).await;
        Self { hall, gate, token: text }
    }

    async fn tenant(&self, name: &str) -> String {
        let path = format!("/v1/tenants/{name}");
        let put = self.ask(&self.token, Method::PUT, &path, Some(json!({}))).await;
        assert_eq!(put.status, StatusCode::OK, "{}", put.text());
        let path = format!("{path}/keys");
        let issued = self.ask(&self.token, Method::POST, &path, Some(json!({}))).await;
        issued.json()["key"].as_str().unwrap().to_owned()
    }

    async fn ask(&self, key: &str, method: Method, path: &str, body: Option<Value>) -> Reply {
        self.hall.send(with_key(key, request(method, path, body))).await
    }

    async fn begin(&self, key: &str, path: &str) -> Response<Body> {
        self.hall.begin(with_key(key, request(Method::GET, path, None))).await
    }

    /// The path of the events of a job that does not end.
    async fn events_of_a_job(&self, key: &str) -> String {
        let submitted = self.ask(key, Method::POST, "/v1/jobs", Some(job(json!({})))).await;
        assert_eq!(submitted.status, StatusCode::ACCEPTED, "{}", submitted.text());
        format!("/v1/jobs/{}/events", submitted.json()["id"].as_str().unwrap())
    }

    /// Sends a part of a body, and no more. Returns once the part has been read, or the response has arrived.
    async fn hang(&self, key: &str, part: usize) -> Result<JoinHandle<Response<Body>>, Reply> {
        let (read, is_read) = oneshot::channel();
        let mut read = Some(read);
        let part = stream::iter([Ok::<_, Infallible>(Bytes::from(vec![b' '; part]))]);
        // A poll for more means that the part was read.
        let more = stream::poll_fn(move |_| {
            let _ = read.take().map(|read| read.send(()));
            Poll::Pending
        });
        let hanging = post(key, Body::from_stream(part.chain(more)));
        let router = self.hall.router.clone();
        let mut answer = tokio::spawn(async move {
            tower::ServiceExt::oneshot(router, common::with_host(hanging)).await.unwrap()
        });
        tokio::select! {
            read = is_read => {
                if read.is_ok() {
                    return Ok(answer);
                }
                Err(whole(answer.await.unwrap()).await)
            }
            refused = &mut answer => Err(whole(refused.unwrap()).await),
        }
    }
}

async fn whole(response: Response<Body>) -> Reply {
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    Reply { status: parts.status, headers: parts.headers, body }
}

fn with_key(key: &str, mut request: Request<Body>) -> Request<Body> {
    let value = HeaderValue::try_from(format!("Bearer {key}")).unwrap();
    request.headers_mut().insert(header::AUTHORIZATION, value);
    request
}

fn post(key: &str, body: Body) -> Request<Body> {
    let mut request = with_key(key, request(Method::POST, CHAT, None));
    *request.body_mut() = body;
    request
}

/// A body of a known length of which no byte ever arrives.
struct Announced(u64);

impl hyper::body::Body for Announced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.0)
    }
}

fn assert_told_when_to_come_back(reply: &Reply, status: StatusCode, says: &str) {
    assert_eq!(reply.status, status, "{}", reply.text());
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert!(reply.text().contains(says), "{}", reply.text());
}

#[tokio::test]
async fn a_job_has_sixteen_followers_and_another_when_one_goes_away() {
    let house = House::new(QueenLimits::default()).await;
    let key = house.tenant("acme").await;
    let events = house.events_of_a_job(&key).await;
    let mut followers = Vec::new();
    for _ in 0..16 {
        let follower = house.begin(&key, &events).await;
        assert_eq!(follower.status(), StatusCode::OK);
        followers.push(follower.into_body());
    }
    let refused = house.ask(&key, Method::GET, &events, None).await;
    assert_told_when_to_come_back(
        &refused,
        StatusCode::TOO_MANY_REQUESTS,
        "allowed are 16 at once",
    );
    assert_eq!(refused.json()["error"]["code"], "RATE_LIMITED");
    // Another job of the same tenant, and the operator, have their own limits.
    let other = house.events_of_a_job(&key).await;
    assert_eq!(house.begin(&key, &other).await.status(), StatusCode::OK);
    assert_eq!(house.begin(&house.token, &events).await.status(), StatusCode::OK);

    followers.pop();
    let again = house.begin(&key, &events).await;
    assert_eq!(again.status(), StatusCode::OK);
    followers.push(again.into_body());
    assert_eq!(house.begin(&key, &events).await.status(), StatusCode::TOO_MANY_REQUESTS);

    house.gate.open();
    for mut follower in followers {
        let mut seen = String::new();
        while let Some(chunk) = next(&mut follower).await {
            seen += &chunk;
        }
        assert!(seen.contains("event: end\n"), "{seen}");
    }
    assert_eq!(house.begin(&key, &events).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_tenant_with_all_its_requests_open_is_refused_and_nobody_else_is() {
    let limits = QueenLimits { tenant_requests: 3, ..QueenLimits::default() };
    let house = House::new(limits).await;
    let (key, other) = (house.tenant("acme").await, house.tenant("other").await);
    let events = house.events_of_a_job(&key).await;
    let streams = [house.begin(&key, &events).await, house.begin(&key, &events).await];
    // It waits for the whole response, which does not come.
    let asked = with_key(&key, request(Method::POST, CHAT, Some(chat(json!({})))));
    let router = house.hall.router.clone();
    let waiting = tokio::spawn(tower::ServiceExt::oneshot(router, common::with_host(asked)));
    house.hall.echo.until_active(2).await;

    for path in ["/v1/jobs", "/v1/models", "/v1/models/bee"] {
        let refused = house.ask(&key, Method::GET, path, None).await;
        assert_told_when_to_come_back(&refused, StatusCode::TOO_MANY_REQUESTS, "allowed are 3");
        for other in [&other, &house.token] {
            assert_eq!(house.ask(other, Method::GET, path, None).await.status, StatusCode::OK);
        }
    }
    assert_eq!(house.ask(&key, Method::GET, "/health", None).await.status, StatusCode::OK);

    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert_eq!(house.ask(&key, Method::GET, "/v1/models", None).await.status, StatusCode::OK);
    // Responses that have been read do not count.
    assert_eq!(house.ask(&key, Method::GET, "/v1/models", None).await.status, StatusCode::OK);
    drop(streams);
    for _ in 0..3 {
        let held = house.begin(&key, &events).await;
        assert_eq!(held.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn bodies_beyond_the_budget_are_refused_at_once_and_leave_nothing_behind() {
    // The smallest allowed limits: 20,000 bytes for a tenant, 30,000 for all, 40,000 with the operator.
    let limits = QueenLimits {
        body_bytes: 10_000,
        tenant_body_bytes: 0,
        total_body_bytes: 0,
        ..QueenLimits::default()
    };
    let house = House::new(limits).await;
    house.gate.open();
    let (key, other) = (house.tenant("acme").await, house.tenant("other").await);
    let small = || Some(chat(json!({})));
    for _ in 0..3 {
        let mut hanging = Vec::new();
        for _ in 0..3 {
            hanging.push(house.hang(&key, 6_000).await.unwrap());
        }
        let refused = house.hang(&key, 6_000).await.unwrap_err();
        assert_told_when_to_come_back(&refused, StatusCode::TOO_MANY_REQUESTS, "allowed are 20000");
        // An announced length is enough: no byte of this one has to arrive.
        let announced = post(&key, Body::new(Announced(6_000)));
        let refused = house.hall.send(announced).await;
        assert_told_when_to_come_back(&refused, StatusCode::TOO_MANY_REQUESTS, "allowed are 20000");
        let served = house.ask(&key, Method::POST, CHAT, small()).await;
        assert_eq!(served.status, StatusCode::OK, "{}", served.text());

        hanging.push(house.hang(&other, 6_000).await.unwrap());
        let refused = house.hang(&other, 6_100).await.unwrap_err();
        assert_told_when_to_come_back(&refused, StatusCode::SERVICE_UNAVAILABLE, "try again later");
        assert_eq!(house.ask(&other, Method::POST, CHAT, small()).await.status, StatusCode::OK);
        // The rest is reserved for the operator.
        hanging.push(house.hang(&house.token, 9_000).await.unwrap());
        let served = house.ask(&house.token, Method::POST, CHAT, small()).await;
        assert_eq!(served.status, StatusCode::OK, "{}", served.text());
        let refused = house.hang(&house.token, 9_000).await.unwrap_err();
        assert_told_when_to_come_back(&refused, StatusCode::SERVICE_UNAVAILABLE, "try again later");

        for gone in hanging {
            gone.abort();
            assert!(gone.await.unwrap_err().is_cancelled());
        }
    }
    // Bodies that were read to the end hold nothing either, valid or not.
    for n in 0..20 {
        let large = chat(json!({"messages": [{"role": "user", "content": "Hi ".repeat(2_500)}]}));
        let served = house.ask(&key, Method::POST, CHAT, Some(large)).await;
        assert_eq!(served.status, StatusCode::OK, "{n}: {}", served.text());
        let wrong = house.hall.send(post(&key, vec![b' '; 9_000].into())).await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST, "{n}: {}", wrong.text());
    }
}

#[tokio::test]
async fn a_body_in_many_small_parts_is_read_whole_within_a_budget_of_twice_its_size() {
    let limits = QueenLimits {
        body_bytes: 10_000,
        tenant_body_bytes: 0,
        total_body_bytes: 0,
        ..QueenLimits::default()
    };
    let house = House::new(limits).await;
    house.gate.open();
    let key = house.tenant("acme").await;
    let mut text = chat(json!({})).to_string().into_bytes();
    text.resize(10_000, b' ');
    let parts = text.into_iter().map(|byte| Ok::<_, Infallible>(Bytes::from(vec![byte])));
    let served = house.hall.send(post(&key, Body::from_stream(stream::iter(parts)))).await;
    assert_eq!(served.status, StatusCode::OK, "{}", served.text());
}

/// The status of the response to a GET request on a connection of its own, which stays open.
async fn get(
    address: std::net::SocketAddr,
    key: &str,
    path: &str,
) -> (BufReader<TcpStream>, String) {
    let asked = async {
        let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        (stream, line.split(' ').nth(1).unwrap_or_default().to_owned())
    };
    tokio::time::timeout(TIMEOUT, asked).await.unwrap()
}

#[tokio::test]
async fn tenants_that_follow_jobs_leave_connections_to_the_operator() {
    let house = House::new(QueenLimits::default()).await;
    let limits = Limits { connections: 16, ..Limits::default() };
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().with_limits(limits);
    let (address, stop) = (server.address(), CancellationToken::new());
    tokio::spawn(server.run(house.hall.router.clone(), stop.clone(), Duration::ZERO));
    let _stop = stop.drop_guard();

    let (mut streams, mut served) = (Vec::new(), 0);
    for name in ["a", "b", "c", "d", "e"] {
        let key = house.tenant(name).await;
        let events = house.events_of_a_job(&key).await;
        for n in 0..16 {
            let (mut stream, status) = get(address, &key, &events).await;
            // A quarter of all connections for each, and seven eighths for all together.
            let expected = match (name, n) {
                ("a" | "b" | "c", 0..4) | ("d", 0..2) => "200",
                ("a" | "b" | "c", _) => "429",
                _ => "503",
            };
            assert_eq!(status, expected, "{name}: {n}");
            if status == "200" {
                served += 1;
            } else {
                // Its response has arrived, so the connection is idle and can be closed for another.
                let _ = stream.read(&mut [0; 512]).await.unwrap();
            }
            streams.push(stream);
        }
    }
    assert_eq!(served, 14);
    for path in ["/health", "/v1/jobs", "/v1/tenants"] {
        let (_stream, status) = get(address, &house.token, path).await;
        assert_eq!(status, "200", "{path}");
    }
}
