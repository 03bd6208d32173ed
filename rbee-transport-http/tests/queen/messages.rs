//! Anthropic's Messages API, as a client sees it.

mod count_tokens;
mod errors;
mod stream;
mod tools;

use std::sync::{Arc, Mutex};

use http::{Method, StatusCode};
use rbee_core::{
    Error, ErrorKind, Finish, Job, Output, OutputStream, Queen, QueenBuilder, Result, Run, Usage,
    Worker, WorkerInfo,
    answer::{AnswerFormat, ReasoningFormat, ToolFormat},
    async_trait,
    event::Metrics,
    request::Task,
    worker::WorkerHealth,
};
use rbee_transport_http::wire::messages::{
    AnswerBlock, COUNT_TOKENS, MESSAGES, MessageAnswer, SIGNATURE, StopReason,
};
use serde_json::{Value, json};

use crate::common::{self, Hall, Reply};

/// A model that always gives these outputs.
#[derive(Debug)]
pub(crate) struct Actor {
    info: Arc<WorkerInfo>,
    outputs: Vec<Result<Output>>,
    /// The last job.
    asked: Mutex<Option<Arc<Job>>>,
    /// What it counts; `None` if it cannot.
    counts: Option<Result<u32>>,
}

impl Actor {
    fn new(outputs: Vec<Result<Output>>) -> Self {
        let mut info = WorkerInfo::new("actor".parse().unwrap(), "test");
        info.capabilities.answer = AnswerFormat {
            tools: Some(ToolFormat::Hermes),
            reasoning: Some(ReasoningFormat::Think),
            ..AnswerFormat::default()
        };
        info.capabilities.grammar = true;
        Self { info: Arc::new(info), outputs, asked: Mutex::default(), counts: None }
    }
}

#[async_trait]
impl Worker for Actor {
    fn info(&self) -> &Arc<WorkerInfo> {
        &self.info
    }

    async fn execute(&self, run: Run) -> Result<OutputStream> {
        *self.asked.lock().unwrap() = Some(run.job);
        Ok(Box::pin(futures_util::stream::iter(self.outputs.clone())))
    }

    async fn health(&self) -> Result<WorkerHealth> {
        Ok(WorkerHealth::default())
    }

    async fn count_tokens(&self, _: Arc<Task>) -> Result<u32> {
        let cannot = || Err(Error::new(ErrorKind::Unsupported, "it cannot count"));
        self.counts.clone().unwrap_or_else(cannot)
    }
}

/// Outputs with these tokens, for a prompt of 9 tokens of which 4 were in the cache.
fn recited(tokens: &[&str], finish: Finish) -> Vec<Result<Output>> {
    let token = |text: &&str| Output::Token { id: None, text: (*text).into(), logprobs: None };
    let (prompt_tokens, cached_tokens) = (9, Some(4));
    let metrics = Metrics { prompt_tokens, cached_tokens, ..Metrics::default() };
    let completion_tokens = tokens.len() as u32;
    let usage = Usage { prompt_tokens, completion_tokens, cached_tokens };
    let begin = [Output::Metrics(metrics)];
    let tokens = tokens.iter().map(token);
    let end = Output::End { finish, usage, stop_text: None };
    begin.into_iter().chain(tokens).chain([end]).map(Ok).collect()
}

async fn hall_of(actor: Actor, queen: QueenBuilder) -> (Hall, Arc<Actor>) {
    let actor = Arc::new(actor);
    let hall = Hall::of(common::echo(), queen.worker(actor.clone()), |server| server).await;
    (hall, actor)
}

async fn hall(tokens: &[&str], finish: Finish) -> (Hall, Arc<Actor>) {
    hall_of(Actor::new(recited(tokens, finish)), Queen::builder()).await
}

fn request(fields: Value) -> Value {
    let tool = json!({
        "name": "weather", "description": "Tells the weather.",
        "input_schema": {"type": "object", "properties": {"where": {"type": "string"}}},
    });
    let body = json!({
        "model": "actor", "max_tokens": 50, "tools": [tool],
        "messages": [{"role": "user", "content": "Rain?"}],
    });
    common::over(body, fields)
}

impl Hall {
    async fn message(&self, fields: Value) -> Reply {
        self.post(MESSAGES, request(fields)).await
    }
}

fn answer(reply: &Reply) -> MessageAnswer {
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    serde_json::from_slice(&reply.body).unwrap()
}

#[tokio::test]
async fn a_conversation_is_answered_as_anthropics_clients_expect_it() {
    let hall = Hall::new().await;
    let body =
        json!({"model": "bee", "max_tokens": 4, "messages": [{"role": "user", "content": "Hi"}]});
    let reply = hall.post("/v1/messages?beta=true", body).await;
    let answer = answer(&reply);
    let job = reply.header("x-rbee-job-id").unwrap();
    assert_eq!(answer.id, format!("msg_{}", job.replace('-', "")));
    assert_eq!((&*answer.kind, &*answer.role, &*answer.model), ("message", "assistant", "bee"));
    let [AnswerBlock::Text { text }] = &answer.content[..] else { panic!("{answer:?}") };
    assert_eq!(text.split_whitespace().count(), 4, "{text}");
    assert_eq!(answer.stop_reason, Some(StopReason::MaxTokens));
    assert_eq!((answer.usage.input_tokens, answer.usage.output_tokens), (1, 4));
    assert_eq!(reply.header("request-id"), reply.header("x-correlation-id"));
    let json = reply.json();
    assert!(json.as_object().unwrap().contains_key("stop_sequence"), "{json}");
    hall.quiet().await;
}

#[tokio::test]
async fn an_answer_has_blocks_for_thinking_text_and_calls() {
    let (hall, _) = hall(&tools::ANSWER, Finish::Stop).await;
    let reply = hall.message(json!({})).await;
    let job = reply.header("x-rbee-job-id").unwrap().replace('-', "");
    let json = reply.json();
    let call = |index: u32, input: Value| json!({"type": "tool_use", "id": format!("toolu_{job}_{index}"), "name": "weather", "input": input});
    assert_eq!(
        json["content"],
        json!([
            {"type": "thinking", "thinking": "Hm.", "signature": SIGNATURE},
            {"type": "text", "text": "Let me look."},
            call(0, json!({"where": "Bern"})),
            call(1, json!({})),
        ])
    );
    assert_eq!(json["stop_reason"], "tool_use");
    assert_eq!(
        json["usage"],
        json!({
            "input_tokens": 5, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0,
            "output_tokens": tools::ANSWER.len(),
        })
    );
}

#[tokio::test]
async fn an_empty_answer_has_no_blocks() {
    let (hall, _) = hall(&[], Finish::Stop).await;
    let answer = answer(&hall.message(json!({})).await);
    assert_eq!((answer.content, answer.stop_reason), (Vec::new(), Some(StopReason::EndTurn)));
}

#[tokio::test]
async fn thinking_that_is_omitted_is_an_empty_block() {
    let (hall, _) = hall(&tools::ANSWER, Finish::Stop).await;
    let thinking = json!({"type": "adaptive", "display": "omitted"});
    let answer = answer(&hall.message(json!({"thinking": thinking})).await);
    let empty = AnswerBlock::Thinking { thinking: String::new(), signature: SIGNATURE.into() };
    assert_eq!(answer.content[0], empty);
    let reply = hall.message(json!({"thinking": thinking, "stream": true})).await;
    assert!(!reply.text().contains("thinking_delta"), "{}", reply.text());
    assert!(reply.text().contains("signature_delta"), "{}", reply.text());
}

#[tokio::test]
async fn a_tenant_sends_its_key_in_anthropics_header_and_uses_only_its_models() {
    let mut actor = Actor::new(recited(&["ok"], Finish::Stop));
    actor.counts = Some(Ok(7));
    let (hall, _) = hall_of(actor, Queen::builder()).await;
    hall.ask(Method::PUT, "/v1/tenants/acme", Some(json!({"models": ["actor"]}))).await;
    let issued = hall.post("/v1/tenants/acme/keys", json!({})).await.json();
    let key = issued["key"].as_str().unwrap();
    let ask = |path: &'static str, fields: Value| {
        let mut asked = common::request(Method::POST, path, Some(request(fields)));
        asked.headers_mut().insert("x-api-key", key.parse().unwrap());
        hall.send(asked)
    };
    for path in [MESSAGES, COUNT_TOKENS] {
        assert_eq!(ask(path, json!({})).await.status, StatusCode::OK, "{path}");
        let mut told = Vec::new();
        for model in ["bee", "no-such-model"] {
            let reply = ask(path, json!({"model": model})).await;
            assert_eq!(reply.status, StatusCode::FORBIDDEN, "{}", reply.text());
            assert_eq!(reply.json()["error"]["type"], "permission_error");
            told.push(reply.json()["error"]["message"].to_string().replace(model, "MODEL"));
        }
        assert_eq!(told[0], told[1], "another's model looks like one that does not exist");
    }
    let mut wrong = common::request(Method::POST, MESSAGES, Some(request(json!({}))));
    wrong.headers_mut().insert("x-api-key", "rbee-wrong".parse().unwrap());
    let reply = hall.send(wrong).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert_eq!(reply.json()["error"]["type"], "authentication_error");
}
