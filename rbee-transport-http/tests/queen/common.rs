//! A queen's router, called without a socket.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use rbee_core::{
    HiveId, Queen, QueenBuilder, Result, Worker, WorkerId, WorkerSpec, async_trait,
    engine::Counters,
    hive::{Progress, WorkerFactory},
    worker::{EchoBuilder, EchoWorker},
};
use rbee_transport_http::{
    server::{LogRing, QueenServer},
    wire::sse::{Event, Parser},
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tower::ServiceExt;
use tracing::{Dispatch, subscriber::DefaultGuard};
use tracing_subscriber::layer::SubscriberExt;

pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// Keeps what this thread logs until the guard is dropped.
pub(crate) fn logged(logs: &LogRing) -> DefaultGuard {
    // If there is only one subscriber, the first thread that reaches a line decides for all threads whether the line
    // is enabled. That may be the thread of another test, which enables none. If there are two, both are asked.
    static SECOND: LazyLock<Dispatch> = LazyLock::new(|| tracing_subscriber::registry().into());
    LazyLock::force(&SECOND);
    tracing::subscriber::set_default(tracing_subscriber::registry().with(logs.clone()))
}

/// A queen with one worker, and its routes.
pub(crate) struct Hall {
    pub(crate) queen: Queen,
    pub(crate) echo: Arc<EchoWorker>,
    pub(crate) router: Router,
}

/// A whole response.
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

    /// The chunks of a stream, without `[DONE]`, which must be present.
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
        Self::of(echo, Queen::builder(), |server| server).await
    }

    /// A hall with this worker and further settings of queen and server.
    pub(crate) async fn of(
        echo: EchoBuilder,
        queen: QueenBuilder,
        server: impl FnOnce(QueenServer) -> QueenServer,
    ) -> Self {
        let echo = echo.build();
        let queen = queen.worker(echo.clone()).alias("bee", "echo").build().await.unwrap();
        let router = server(QueenServer::new(queen.clone())).router();
        Self { queen, echo, router }
    }

    /// The response as soon as its head has arrived; dropping it is a disconnect of the client.
    pub(crate) async fn begin(&self, request: Request<Body>) -> Response<Body> {
        let answer = self.router.clone().oneshot(with_host(request));
        tokio::time::timeout(TIMEOUT, answer).await.unwrap().unwrap()
    }

    /// Submits a job; returns its id once it is done.
    pub(crate) async fn submit(&self, fields: Value) -> String {
        let reply = self.post("/v1/jobs", job(fields)).await;
        assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text());
        reply.json()["id"].as_str().unwrap().to_owned()
    }

    /// Waits until the job meets this condition.
    pub(crate) async fn until(&self, job: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let wait = async {
            loop {
                let view = self.get(&format!("/v1/jobs/{job}")).await.json();
                if holds(&view) {
                    return view;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(TIMEOUT, wait).await.unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(with_host(request)).await.unwrap();
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

    /// Sends a chat with these fields in addition to the required ones.
    pub(crate) async fn chat(&self, fields: Value) -> Reply {
        self.post("/v1/chat/completions", chat(fields)).await
    }

    /// Waits until nothing is in progress anywhere.
    pub(crate) async fn quiet(&self) {
        let quiet = async {
            while self.echo.active() > 0
                || self.queen.status().await.unwrap().counters != Counters::default()
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(10), quiet).await.is_err() {
            panic!("not quiet: {:?}, {} runs", self.queen.status().await, self.echo.active());
        }
    }
}

pub(crate) fn request(method: Method, path: &str, body: Option<Value>) -> Request<Body> {
    let changes = matches!(method, Method::POST | Method::PUT | Method::PATCH);
    let mut request = Request::builder().method(method).uri(path);
    if changes || body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let body = body.map_or_else(Body::empty, |body| serde_json::to_vec(&body).unwrap().into());
    request.body(body).unwrap()
}

/// Every client names its host.
pub(crate) fn with_host(mut request: Request<Body>) -> Request<Body> {
    request.headers_mut().entry("host").or_insert(HeaderValue::from_static("localhost"));
    request
}

/// A valid chat, with these fields changed; `null` removes a field.
pub(crate) fn chat(fields: Value) -> Value {
    over(
        json!({"model": "bee", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "seed": 7}),
        fields,
    )
}

/// The same as a job, which is not streamed.
pub(crate) fn job(fields: Value) -> Value {
    chat(fields)
}

/// The next part of a stream.
pub(crate) async fn next(body: &mut Body) -> Option<String> {
    let frame = tokio::time::timeout(TIMEOUT, body.frame()).await.unwrap()?;
    Some(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
}

/// Loads workers as slowly as the test wants.
#[derive(Debug)]
pub(crate) struct SlowFactory(pub(crate) Arc<Semaphore>);

#[async_trait]
impl WorkerFactory for SlowFactory {
    async fn load(
        &self,
        id: WorkerId,
        hive: &HiveId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> Result<Arc<dyn Worker>> {
        progress.update(40, Some(100));
        self.0.acquire().await.unwrap().forget();
        let model = spec.model.clone();
        Ok(EchoWorker::builder(model).id(id).hive(hive.clone()).slots(spec.slots).build())
    }
}

/// A file that is accepted as a model.
pub(crate) struct Model {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) reference: String,
}

pub(crate) fn model() -> Model {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.bin");
    std::fs::write(&path, [0; 1000]).unwrap();
    Model { reference: format!("file:{}", path.display()), directory }
}

pub(crate) fn over(mut base: Value, fields: Value) -> Value {
    let Value::Object(fields) = fields else { panic!("fields are an object") };
    base.as_object_mut().unwrap().extend(fields);
    base
}
