//! Documents scored by their relevance to a query.

use crate::{
    common::{self, Hall, Reply, over, request},
    tenants::House,
};
use http::{HeaderValue, Method, StatusCode};
use rbee_core::{
    ErrorKind, Finish, Output, Settings, Usage, registry::JobFilter, worker::EchoGate,
};
use rbee_transport_http::wire::rerank::RerankResponse;
use serde_json::{Value, json};

/// A rerank with these fields instead of the default ones.
fn rerank(fields: Value) -> Value {
    let documents = ["a lily", "the bee is in the hive", "a bee", "the hive"];
    over(json!({"model": "bee", "query": "the bee", "documents": documents}), fields)
}

async fn hall() -> Hall {
    Hall::with(common::echo().rerank()).await
}

fn read(reply: &Reply) -> RerankResponse {
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    serde_json::from_slice(&reply.body).unwrap()
}

/// The indexes and the scores of the results.
fn ranks(response: &RerankResponse) -> Vec<(u32, f32)> {
    response.results.iter().map(|result| (result.index, result.relevance_score)).collect()
}

#[tokio::test]
async fn the_most_relevant_document_is_first_and_equal_ones_stay_in_order() {
    let hall = hall().await;
    for path in ["/v1/rerank", "/v2/rerank", "/rerank"] {
        let reply = hall.post(path, rerank(json!({}))).await;
        let response = read(&reply);
        assert_eq!(ranks(&response), [(1, 1.0), (2, 0.5), (3, 0.5), (0, 0.0)], "{path}");
        let texts: Vec<&str> =
            response.results.iter().map(|one| &*one.document.as_ref().unwrap().text).collect();
        assert_eq!(texts, ["the bee is in the hive", "a bee", "the hive", "a lily"]);
        assert_eq!(response.model, "bee");
        assert!(response.usage.total_tokens > 0);
        assert_eq!(response.usage.prompt_tokens, response.usage.total_tokens);
        assert_eq!(response.meta.tokens.input_tokens, response.usage.total_tokens);
        assert_eq!(response.meta.api_version.version, "2");
        assert_eq!(reply.header("x-rbee-job-id"), Some(&*response.id));
        assert!(reply.header("x-rbee-worker-id").is_some());
    }
    hall.quiet().await;
}

#[tokio::test]
async fn results_are_as_many_and_with_as_much_as_requested() {
    let hall = hall().await;
    let ask = async |fields: Value| read(&hall.post("/v1/rerank", rerank(fields)).await);
    assert_eq!(ranks(&ask(json!({"top_n": 2})).await), [(1, 1.0), (2, 0.5)]);
    assert_eq!(ask(json!({"top_n": 1.0})).await.results.len(), 1);
    assert_eq!(ask(json!({"top_n": 99})).await.results.len(), 4);
    let bare = ask(json!({"return_documents": false})).await;
    assert!(bare.results.iter().all(|result| result.document.is_none()));
    let reply = hall.post("/v1/rerank", rerank(json!({"return_documents": false}))).await;
    assert!(!reply.text().contains("document"), "{}", reply.text());
    let objects = json!([{"text": "a bee"}, "the bee"]);
    let mixed = ask(json!({"documents": objects, "rank_fields": ["text"]})).await;
    assert_eq!(ranks(&mixed), [(1, 1.0), (0, 0.5)]);
    assert_eq!(mixed.results[1].document.as_ref().unwrap().text, "a bee");
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_its_place() {
    let hall = hall().await;
    for (fields, param) in [
        (json!({"query": ""}), "query"),
        (json!({"query": null}), "query"),
        (json!({"query": ["a"]}), "query"),
        (json!({"documents": null}), "documents"),
        (json!({"documents": []}), "documents"),
        (json!({"documents": "a"}), "documents"),
        (json!({"documents": vec!["a"; 2_049]}), "documents"),
        (json!({"documents": ["a", 7]}), "documents[1]"),
        (json!({"documents": ["a", null]}), "documents[1]"),
        (json!({"documents": ["a", {"body": "b"}]}), "documents[1].text"),
        (json!({"documents": [{"text": "b", "title": "t"}]}), "documents[0].title"),
        (json!({"documents": [{"text": 7}]}), "documents[0].text"),
        (json!({"top_n": 0}), "top_n"),
        (json!({"top_n": 1.5}), "top_n"),
        (json!({"top_n": -1}), "top_n"),
        (json!({"return_documents": "no"}), "return_documents"),
        (json!({"rank_fields": ["title", "text"]}), "rank_fields"),
        (json!({"max_tokens_per_doc": 512}), "max_tokens_per_doc"),
        (json!({"max_chunks_per_doc": 10}), "max_chunks_per_doc"),
        (json!({"truncation": false}), "truncation"),
        (json!({"raw_scores": true}), "raw_scores"),
        (json!({"instruction": "rank"}), "instruction"),
        (json!({"priority": 3}), "priority"),
        (json!({"texts": ["a"]}), "texts"),
        (json!({"timeout_ms": 0}), "timeout"),
    ] {
        let reply = hall.post("/v1/rerank", rerank(fields.clone())).await;
        let error = reply.json()["error"].clone();
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{fields}: {error}");
        assert_eq!(error["param"], param, "{fields}: {error}");
        assert_eq!(error["type"], "invalid_request_error", "{fields}: {error}");
    }
    for harmless in [
        json!({"truncation": true, "truncate": true, "raw_scores": false, "user": "me"}),
        json!({"max_tokens_per_doc": null, "top_n": null, "return_documents": null}),
    ] {
        assert_eq!(read(&hall.post("/v1/rerank", rerank(harmless)).await).results.len(), 4);
    }
    hall.quiet().await;
}

#[tokio::test]
async fn a_query_that_is_too_long_is_refused_and_a_document_is_not() {
    let hall = Hall::with(common::echo().rerank().context_tokens(50)).await;
    let long = "bee ".repeat(60);
    let reply = hall.post("/v1/rerank", rerank(json!({"query": long}))).await;
    let error = reply.json()["error"].clone();
    assert_eq!((reply.status, &error["param"]), (StatusCode::BAD_REQUEST, &json!("query")));
    assert_eq!(error["code"], "context_length_exceeded");
    let reply = hall.post("/v1/rerank", rerank(json!({"documents": [long]}))).await;
    assert_eq!(ranks(&read(&reply)), [(0, 0.5)]);
}

#[tokio::test]
async fn a_model_that_cannot_rerank_is_refused_and_a_reranker_does_nothing_else() {
    let hall = Hall::with(common::echo().embed(4)).await;
    let error = hall.post("/v1/rerank", rerank(json!({}))).await;
    assert_eq!(error.status, StatusCode::BAD_REQUEST);
    let told = &error.json()["error"];
    assert_eq!(told["code"], "unsupported");
    assert!(told["message"].as_str().unwrap().contains("cannot rerank documents"), "{told}");
    let only = common::echo().rerank().info(|info| info.capabilities.generate = false);
    let hall = Hall::with(only).await;
    for reply in [
        hall.chat(json!({})).await,
        hall.post("/v1/embeddings", json!({"model": "bee", "input": "x"})).await,
    ] {
        let error = &reply.json()["error"];
        assert_eq!(
            (reply.status, &error["code"]),
            (StatusCode::BAD_REQUEST, &json!("unsupported"))
        );
    }
    read(&hall.post("/v1/rerank", rerank(json!({}))).await);
    let model = hall.get("/v1/models/bee").await.json();
    assert_eq!(model["capabilities"], json!(["rerank"]));
}

#[tokio::test]
async fn a_rerank_is_a_job_with_a_priority_a_deadline_and_a_key() {
    let gate = EchoGate::new();
    let hall = Hall::with(common::echo().rerank().slots(1).gate(&gate)).await;
    let keyed = |fields: Value| {
        let mut request = request(Method::POST, "/v1/rerank", Some(rerank(fields)));
        let headers = request.headers_mut();
        headers.insert("idempotency-key", HeaderValue::from_static("once"));
        headers.insert("x-correlation-id", HeaderValue::from_static("my-rerank"));
        request
    };
    let first = hall.send(keyed(json!({"priority": "batch", "timeout_ms": 60_000})));
    let opened = async {
        let filter = JobFilter::default();
        loop {
            let jobs = hall.queen.jobs(&filter).await.unwrap();
            if let Some(job) = jobs.first() {
                assert_eq!(job.priority, rbee_core::Priority::Batch);
                assert_eq!(job.correlation_id.as_str(), "my-rerank");
                break;
            }
            tokio::task::yield_now().await;
        }
        let late = hall.post("/v1/rerank", rerank(json!({"deadline_ms": 1}))).await;
        assert_eq!(late.json()["error"]["code"], "deadline_exceeded", "{}", late.text());
        gate.open();
    };
    let (first, ()) = tokio::join!(first, opened);
    let first = read(&first);
    let again = hall.send(keyed(json!({"priority": "batch", "timeout_ms": 60_000}))).await;
    assert_eq!(read(&again), first, "the same key is the same job");
    let other = hall.send(keyed(json!({"query": "honey"}))).await;
    assert_eq!(other.status, StatusCode::CONFLICT, "{}", other.text());
    hall.quiet().await;
}

#[tokio::test]
async fn a_worker_with_too_few_scores_or_none_is_at_fault() {
    let end = || Ok(Output::End { finish: Finish::Stop, usage: Usage::default(), stop_text: None });
    for scores in [vec![], vec![vec![1.0]], vec![vec![1.0, 2.0, f32::NAN, 3.0]], vec![vec![0.0; 5]]]
    {
        let outputs = [Ok(Output::Vectors(scores.clone())), end()];
        let hall = Hall::with(common::echo().rerank().script(outputs)).await;
        let reply = hall.post("/v1/rerank", rerank(json!({}))).await;
        assert_eq!(reply.status, StatusCode::BAD_GATEWAY, "{scores:?}: {}", reply.text());
        let code = ErrorKind::WorkerFault.code().to_lowercase();
        assert_eq!(reply.json()["error"]["code"], code, "{scores:?}");
    }
}

#[tokio::test]
async fn a_tenant_may_rerank_with_its_models_alone() {
    let house = House::new(Settings::default()).await;
    let key = house.tenant("acme", json!({"models": ["bee"]})).await;
    for path in ["/v1/rerank", "/v2/rerank", "/rerank"] {
        let allowed = house.ask(&key, Method::POST, path, Some(rerank(json!({})))).await;
        // The worker of this queen cannot; the tenant may ask.
        assert_eq!(allowed.json()["error"]["code"], "unsupported", "{path}: {}", allowed.text());
        let other = rerank(json!({"model": "other"}));
        let refused = house.ask(&key, Method::POST, path, Some(other)).await;
        assert!(refused.status.is_client_error(), "{path}: {}", refused.text());
        assert_ne!(refused.json()["error"]["code"], "unsupported", "{path}: {}", refused.text());
        let nobody = house.ask("wrong", Method::POST, path, Some(rerank(json!({})))).await;
        assert_eq!(nobody.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(nobody.json()["error"]["type"].is_string(), "{path}: OpenAI's shape");
    }
}
