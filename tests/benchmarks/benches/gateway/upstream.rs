//! The workers: the same words at the same speed, over rbee's protocol and over OpenAI's.

use std::{convert::Infallible, io::Write, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    routing::{get, post},
};
use futures_util::{StreamExt, stream};
use rbee_core::{HiveId, InProcessHive, worker::EchoWorker};
use rbee_transport_http::server;

use crate::Result;

/// Answers at once.
pub(crate) const FAST: &str = "fast";
/// Returns a token every 10 ms, unless the process is started with another pace.
pub(crate) const PACED: &str = "paced";

/// The time between two tokens of the paced workers.
pub(crate) const PACE: Duration = Duration::from_millis(10);
/// What the workers accept.
pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// More than the number of connections.
const SLOTS: u32 = 10_000;

/// The name of the hive that has both workers.
pub(crate) const HIVE: &str = "bench";

/// Serves until it is killed, with this time between two tokens of the paced workers. Prints its ports on standard
/// output: fast worker, paced worker, OpenAI's API, hive.
pub(crate) fn serve(pace: Duration) -> Result<()> {
    crate::cpu::stay_beside();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let worker = |model: &str| {
            Ok::<_, rbee_core::Error>(EchoWorker::builder(model.parse()?).slots(SLOTS))
        };
        let fast = server::worker(worker(FAST)?.build(), TOKEN.parse()?);
        let paced = server::worker(worker(PACED)?.token_delay(pace).build(), TOKEN.parse()?);
        let id: HiveId = HIVE.parse()?;
        let hive = InProcessHive::new()
            .with_id(id.clone())
            .with_worker(worker(FAST)?.hive(id.clone()).build())
            .with_worker(worker(PACED)?.token_delay(pace).hive(id).build());
        let hive = server::hive(Arc::new(hive), TOKEN.parse()?);
        // vLLM's router asks for the health of its workers.
        let openai = Router::new()
            .route("/v1/chat/completions", post(move |body| completions(body, pace)))
            .route("/health", get(async || ()));
        let mut ports = Vec::new();
        for router in [fast, paced, openai, hive] {
            let server = server::Server::bind("127.0.0.1:0".parse()?).await?;
            ports.push(server.address().port().to_string());
            tokio::spawn(server.run(router, Default::default(), Duration::ZERO));
        }
        println!("{}", ports.join(" "));
        std::io::stdout().flush()?;
        std::future::pending::<Result<()>>().await
    })
}

/// A chunk as a queen writes it.
const CHUNK: &[u8] = br#"data: {"id":"chatcmpl-00000000-0000-4000-8000-000000000000","object":"chat.completion.chunk","created":1700000000,"model":"fast","choices":[{"index":0,"delta":{"content":"w123 "},"finish_reason":null}]}

"#;
const LAST: &[u8] = br#"data: {"id":"chatcmpl-00000000-0000-4000-8000-000000000000","object":"chat.completion.chunk","created":1700000000,"model":"fast","choices":[{"index":0,"delta":{},"finish_reason":"length"}]}

data: [DONE]

"#;

async fn completions(body: Bytes, pace: Duration) -> axum::response::Response {
    let request: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let tokens = request["max_tokens"].as_u64().unwrap_or(16) as usize;
    let is_paced = request["model"] == PACED;
    let response = axum::response::Response::builder();
    let built = if request["stream"] == true {
        let frames = stream::iter(0..tokens).then(move |index| async move {
            if is_paced && index > 0 {
                tokio::time::sleep(pace).await;
            }
            Ok::<_, Infallible>(Bytes::from_static(CHUNK))
        });
        let frames = frames.chain(stream::iter([Ok(Bytes::from_static(LAST))]));
        response.header("content-type", "text/event-stream").body(Body::from_stream(frames))
    } else {
        let answer = serde_json::json!({
            "id": "chatcmpl-00000000-0000-4000-8000-000000000000", "object": "chat.completion",
            "created": 1_700_000_000, "model": "fast",
            "choices": [{"index": 0, "finish_reason": "length",
                "message": {"role": "assistant", "content": "w123 ".repeat(tokens)}}],
            "usage": {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": tokens + 5},
        });
        response.header("content-type", "application/json").body(Body::from(answer.to_string()))
    };
    built.unwrap_or_default()
}
