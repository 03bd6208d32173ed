//! Answers that follow a grammar, whose worker is killed while it writes.

use std::time::Duration;

use rbee_core::{
    EventKind, Queen, Request,
    request::{Grammar, Tool, ToolChoice},
};

use crate::machine::{Machine, bee_tiny, kill, spawned};

/// A long list, so that a worker is killed in the middle of it.
const SCHEMA: &str = r#"{
    "type": "object",
    "properties": {
        "flowers": {"type": "array", "items": {"enum": ["rose", "lily", "tulip"]}, "minItems": 60, "maxItems": 60}
    },
    "required": ["flowers"],
    "additionalProperties": false
}"#;

/// The text of an answer. If `kill_at` tokens have come, its worker is killed.
async fn answer(
    queen: &Queen,
    request: Request,
    machine: &Machine,
    kill_at: Option<usize>,
) -> String {
    let mut job = queen.submit(request).await.unwrap();
    let (id, mut text, mut tokens, mut worker) = (job.id(), String::new(), 0, None);
    while let Some(event) = job.next().await {
        match event.kind {
            EventKind::Started(started) => worker = started.worker,
            EventKind::Token { text: more, .. } => {
                text.push_str(&more);
                tokens += 1;
                if Some(tokens) == kill_at {
                    kill(machine.worker_pid(worker.unwrap()));
                }
            }
            EventKind::Error(error) => panic!("{error}"),
            _ => {}
        }
    }
    let attempts = queen.job(id).await.unwrap().attempts;
    assert_eq!(attempts, if kill_at.is_some() { 2 } else { 1 }, "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guided_answer_goes_on_after_a_kill_of_its_worker_as_if_nothing_had_happened() {
    let machine = Machine::new();
    let hive = machine.hive(&[]);
    spawned(&hive).await;
    let model = bee_tiny().model.to_string();
    let queen = Queen::builder().hive(hive).build().await.unwrap();
    let plain = || Request::chat(&model).user("Name flowers.").seed(7).max_tokens(480);
    let json =
        plain().sampling(|sampling| sampling.grammar = Some(Grammar::JsonSchema(SCHEMA.into())));
    let call = plain()
        .tool(Tool { name: "pick".into(), description: None, parameters: Some(SCHEMA.into()) })
        .tool_choice(ToolChoice::Required);
    for request in [json, call] {
        let whole = answer(&queen, request.clone(), &machine, None).await;
        assert!(whole.contains("flowers"), "{whole}");
        for kill_at in [1, 9, 40] {
            let resumed = answer(&queen, request.clone(), &machine, Some(kill_at)).await;
            assert_eq!(resumed, whole, "killed after {kill_at} tokens");
        }
    }
    queen.shutdown(Duration::from_secs(5)).await.unwrap();
}
