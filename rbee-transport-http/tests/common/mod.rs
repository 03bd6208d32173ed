//! A queen's router, asked without a socket.

#![allow(dead_code, reason = "every test crate uses a part")]

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use rbee_core::{EchoBuilder, EchoWorker, Queen, engine::Counters};
use rbee_transport_http::wire::sse::{Event, Parser};
use serde_json::{Value, json};
use tower::ServiceExt;

/// A queen with one worker, and its routes.
pub(crate) struct Hall {
    pub(crate) queen: Queen,
    pub(crate) echo: Arc<EchoWorker>,
    pub(crate) router: Router,
}

/// An answer as a whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        let mut parser = Parser::default();
        parser.push(&self.body);
        std::iter::from_fn(|| parser.next_event().unwrap()).collect()
    }

    /// The chunks of a stream, without `[DONE]`, which must be there.
    pub(crate) fn chunks(&self) -> Vec<Value> {
        let mut events = self.events();
        assert_eq!(events.pop().map(|event| event.data), Some(Bytes::from_static(b"[DONE]")));
        events.iter().map(|event| serde_json::from_slice(&event.data).unwrap()).collect()
    }
}

pub(crate) fn echo() -> EchoBuilder {
    EchoWorker::builder("echo".parse().unwrap()).slots(8)
}

impl Hall {
    pub(crate) async fn new() -> Self {
        Self::with(echo()).await
    }

    pub(crate) async fn with(echo: EchoBuilder) -> Self {
        let echo = echo.build();
        let queen =
            Queen::builder().worker(echo.clone()).alias("bee", "echo").build().await.unwrap();
        let router = rbee_transport_http::server::queen(queen.clone());
        Self { queen, echo, router }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = tokio::time::timeout(Duration::from_secs(30), body.collect()).await;
        Reply {
            status: parts.status,
            headers: parts.headers,
            body: body.unwrap().unwrap().to_bytes(),
        }
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        self.send(request(method, path, body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.ask(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.ask(Method::DELETE, path, None).await
    }

    /// A chat, with these fields over what it needs.
    pub(crate) async fn chat(&self, fields: Value) -> Reply {
        self.post("/v1/chat/completions", chat(fields)).await
    }

    /// Waits until nothing is under way any more, anywhere.
    pub(crate) async fn quiet(&self) {
        let quiet = async {
            while self.echo.active() > 0
                || self.queen.counters().await.unwrap() != Counters::default()
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(10), quiet).await.is_err() {
            panic!("not quiet: {:?}, {} runs", self.queen.counters().await, self.echo.active());
        }
    }
}

pub(crate) fn request(method: Method, path: &str, body: Option<Value>) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    match body {
        Some(body) => request
            .header("content-type", "application/json")
            .body(Body::from(serde_json::to_vec(&body).unwrap())),
        None => request.body(Body::empty()),
    }
    .unwrap()
}

/// A chat that is allowed, with these fields over it; `null` takes a field out.
pub(crate) fn chat(fields: Value) -> Value {
    over(
        json!({"model": "bee", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "seed": 7}),
        fields,
    )
}

pub(crate) fn over(mut base: Value, fields: Value) -> Value {
    let Value::Object(fields) = fields else { panic!("fields are an object") };
    base.as_object_mut().unwrap().extend(fields);
    base
}
