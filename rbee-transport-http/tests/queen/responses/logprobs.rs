//! Log probabilities of the text of a response.

use http::StatusCode;
use serde_json::{Value, json};

use super::{hall, request, with_tools};

const INCLUDED: &str = "message.output_text.logprobs";

fn tokens(logprobs: &Value) -> Vec<&str> {
    let all = logprobs.as_array().unwrap().iter();
    all.map(|one| one["token"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_text_of_a_message_has_those_of_its_tokens_whole_streamed_and_stored() {
    let answer = &["<think>", "Hm", "</think>", "Let ", "me ", "look."][..];
    let (hall, _) = hall(&[answer]).await;
    let fields = json!({"include": [INCLUDED], "top_logprobs": 2});
    let whole = hall.respond(request(fields.clone())).await;
    assert_eq!(whole.status, StatusCode::OK, "{}", whole.text());
    let whole = whole.json();
    assert_eq!(whole["top_logprobs"], 2);
    let part = &whole["output"][1]["content"][0];
    assert_eq!(part["text"], "Let me look.");
    assert_eq!(tokens(&part["logprobs"]), ["Let ", "me ", "look."]);
    let top = json!([
        {"token": "x", "logprob": -0.5, "bytes": [120]}, {"token": "y", "logprob": -0.5, "bytes": [121]},
    ]);
    let first = json!({"token": "Let ", "logprob": -0.5, "bytes": b"Let ", "top_logprobs": top});
    assert_eq!(part["logprobs"][0], first);
    assert_eq!(whole["output"][0]["content"], json!([{"type": "reasoning_text", "text": "Hm"}]));
    let path = format!("/v1/responses/{}", whole["id"].as_str().unwrap());
    assert_eq!(hall.get(&path).await.json()["output"], whole["output"]);

    let mut fields = fields;
    fields["stream"] = true.into();
    let events: Vec<Value> = hall
        .respond(request(fields))
        .await
        .events()
        .iter()
        .map(|event| serde_json::from_slice(&event.data).unwrap())
        .collect();
    let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).collect::<Vec<_>>();
    let deltas = of("response.output_text.delta");
    let parts: Vec<_> = deltas
        .iter()
        .map(|event| (event["delta"].as_str().unwrap(), tokens(&event["logprobs"])))
        .collect();
    let each = ["Let ", "me ", "look."].map(|text| (text, vec![text]));
    assert_eq!(parts, each);
    let done = of("response.output_text.done");
    assert_eq!(tokens(&done[0]["logprobs"]), ["Let ", "me ", "look."]);
    let last = of("response.completed");
    assert_eq!(last[0]["response"]["output"][1]["content"][0]["logprobs"], part["logprobs"]);
}

#[tokio::test]
async fn a_number_of_likeliest_tokens_requests_them_and_calls_have_none() {
    let call = r#"<tool_call>{"name": "weather", "arguments": {}}</tool_call>"#;
    let (hall, _) = hall(&[&["Now.", call]]).await;
    let reply = hall.respond(with_tools(json!({"top_logprobs": 1}))).await.json();
    let part = &reply["output"][0]["content"][0];
    assert_eq!((&part["text"], tokens(&part["logprobs"])), (&json!("Now."), vec!["Now."]));
    assert_eq!(part["logprobs"][0]["top_logprobs"].as_array().unwrap().len(), 1);
    assert_eq!(reply["output"][1]["type"], "function_call");
    for fields in [json!({}), json!({"top_logprobs": 0})] {
        let reply = hall.respond(with_tools(fields)).await.json();
        assert_eq!(reply["output"][0]["content"][0]["logprobs"], json!([]));
    }
    let included = hall.respond(with_tools(json!({"include": [INCLUDED]}))).await.json();
    assert_eq!(included["output"][0]["content"][0]["logprobs"][0]["top_logprobs"], json!([]));
}
