//! Answers that follow a grammar: JSON schemas and calls of tools, by a real small model.

use std::{collections::BTreeSet, fs, path::Path};

use rbee_core::{
    Error, ErrorKind, Finish, Message, Role, Run, Worker,
    answer::{ParsedAnswer, ToolFormat},
    candle::CandleWorker,
    id::JobId,
    request::{Chat, Grammar, Prompt, Sampling, Task, Tool, ToolChoice},
    worker::Resume,
};
use serde_json::Value;

use crate::support::{Answer, answer, collect, job, load};

async fn bee() -> CandleWorker {
    load(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/models/bee-tiny")).await.unwrap()
}

fn run(chat: Chat, grammar: Option<Grammar>, seed: u64, resume: Resume) -> Run {
    let sampling = Sampling { grammar, max_tokens: Some(250), ..Sampling::default() };
    Run {
        job: job(Task::Generate { prompt: Prompt::Chat(chat), sampling }, seed),
        attempt: 1,
        resume,
    }
}

fn question(text: &str) -> Chat {
    vec![Message::new(Role::User, text)].into()
}

const FLOWER: &str = r#"{
    "type": "object",
    "properties": {
        "color": {"enum": ["red", "blue", "yellow"]},
        "petals": {"type": "integer", "minimum": 3, "maximum": 12},
        "names": {"type": "array", "items": {"type": "string", "maxLength": 6}, "minItems": 1, "maxItems": 2},
        "wild": {"type": "boolean"}
    },
    "required": ["color", "petals", "names"],
    "additionalProperties": false
}"#;

/// The JSON of an answer that has not been cut off.
fn flower(answer: &Answer) -> Value {
    assert_eq!(answer.finish, Finish::Stop, "{}", answer.text());
    let value: Value = serde_json::from_str(&answer.text()).unwrap();
    assert!(["red", "blue", "yellow"].contains(&value["color"].as_str().unwrap()), "{value}");
    assert!((3..=12).contains(&value["petals"].as_i64().unwrap()), "{value}");
    let names = value["names"].as_array().unwrap();
    assert!((1..=2).contains(&names.len()), "{value}");
    assert!(names.iter().all(|name| name.as_str().unwrap().chars().count() <= 6), "{value}");
    assert!(value["wild"].is_boolean() || value["wild"].is_null(), "{value}");
    value
}

#[tokio::test]
async fn every_answer_follows_its_json_schema() {
    let worker = bee().await;
    let grammar = || Some(Grammar::JsonSchema(FLOWER.into()));
    let mut different = BTreeSet::new();
    for seed in 0..24 {
        let chat = question("Describe a flower as JSON.");
        let answer = answer(&worker, run(chat, grammar(), seed, Resume::default())).await;
        different.insert(flower(&answer).to_string());
    }
    assert!(different.len() > 8, "the model still chooses: {different:?}");
}

#[tokio::test]
async fn an_answer_with_a_schema_that_is_cut_anywhere_goes_on_as_if_it_had_not_been() {
    let worker = bee().await;
    let grammar = || Some(Grammar::JsonSchema(FLOWER.into()));
    let chat = || question("Describe a flower as JSON.");
    let whole = answer(&worker, run(chat(), grammar(), 7, Resume::default())).await;
    flower(&whole);
    for cut in 0..=whole.tokens.len() {
        let (before, after) = whole.tokens.split_at(cut);
        let resume = Resume {
            tokens: before.iter().map(|(id, _)| *id).collect(),
            text_bytes: before.iter().map(|(_, text)| text.len()).sum(),
        };
        let rest = answer(&worker, run(chat(), grammar(), 7, resume)).await;
        assert_eq!((&*rest.tokens, rest.finish), (after, whole.finish), "cut at {cut}");
    }
}

#[tokio::test]
async fn other_grammars_hold_too() {
    let worker = bee().await;
    let text = async |grammar| {
        let chat = question("Hi");
        answer(&worker, run(chat, Some(grammar), 3, Resume::default())).await.text()
    };
    let object = text(Grammar::JsonObject).await;
    assert!(object.starts_with('{'), "{object}");
    let date = text(Grammar::Regex(r"20\d\d-(0[1-9]|1[0-2])".into())).await;
    assert!(date.len() == 7 && date.starts_with("20"), "{date}");
    let lark = text(Grammar::Lark("start: \"bee\" (\" \" \"bee\"){2}".into())).await;
    assert_eq!(lark, "bee bee bee");
}

fn with_tools(choice: ToolChoice) -> Chat {
    let city = r#"{"type": "object", "properties": {"city": {"enum": ["Bern", "Oslo"]}}, "required": ["city"], "additionalProperties": false}"#;
    Chat {
        tools: vec![
            Tool::new("weather", "Tells the weather in a city.", city),
            Tool { name: "now".into(), description: None, parameters: None },
        ],
        tool_choice: choice,
        parallel_tool_calls: false,
        ..question("Will it rain in Bern?")
    }
}

fn calls(worker: &CandleWorker, chat: &Chat, answer: &Answer) -> ParsedAnswer {
    let options = worker.info().capabilities.answer.options(chat.callable());
    assert_eq!(options.format, Some(ToolFormat::Hermes));
    ParsedAnswer::of(&answer.text(), options, JobId::from_random_bits(1), false)
}

#[tokio::test]
async fn a_required_call_is_valid_with_every_seed() {
    let worker = bee().await;
    for seed in 0..100 {
        let chat = with_tools(ToolChoice::Required);
        let answer = answer(&worker, run(chat.clone(), None, seed, Resume::default())).await;
        let parsed = calls(&worker, &chat, &answer);
        assert_eq!((&*parsed.content, parsed.tool_calls.len()), ("", 1), "{}", answer.text());
        assert!(parsed.is_complete, "{}", answer.text());
        let call = &parsed.tool_calls[0];
        let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
        match &*call.name {
            "weather" => assert!(["Bern", "Oslo"].contains(&arguments["city"].as_str().unwrap())),
            "now" => assert_eq!(arguments, serde_json::json!({})),
            other => panic!("{other} is no tool"),
        }
    }
}

/// The bundled model with a template that has the texts of another syntax in a comment, in place of its own.
async fn bee_that_writes(comment: &str) -> (tempfile::TempDir, CandleWorker) {
    let from = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/models/bee-tiny");
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(Path::new(from).join(name), dir.path().join(name)).unwrap();
    }
    let template = fs::read_to_string(Path::new(from).join("chat_template.jinja")).unwrap();
    let template = format!("{{# tools {comment} #}}{}", template.replace("tool_call>", "call>"));
    fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    let worker = load(dir.path().to_str().unwrap()).await.unwrap();
    (dir, worker)
}

#[tokio::test]
async fn a_required_call_is_valid_in_every_syntax() {
    let schema = r#"{
        "type": "object",
        "properties": {
            "city": {"enum": ["Bern", "La Paz"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 14},
            "note": {"type": "string", "maxLength": 6},
            "now": {"anyOf": [{"type": "boolean"}, {"type": "null"}]}
        },
        "required": ["city", "now"]
    }"#;
    for (comment, format) in [
        ("<tool_call><function=f><parameter=a>", ToolFormat::QwenXml),
        ("<tool_call><arg_key><arg_value>", ToolFormat::Glm),
        ("<minimax:tool_call><invoke name=\"f\"><parameter name=\"a\">", ToolFormat::Minimax),
        ("<seed:tool_call><function=f><parameter=a>", ToolFormat::Seed),
        ("[TOOL_CALLS][ARGS]", ToolFormat::MistralArgs),
        ("[TOOL_CALLS]", ToolFormat::Mistral),
        ("[func_name1(params_name1=1)]", ToolFormat::Pythonic),
    ] {
        let (_dir, worker) = bee_that_writes(comment).await;
        let mut different = BTreeSet::new();
        for seed in 0..12 {
            let mut chat = with_tools(ToolChoice::Named("weather".into()));
            chat.tools[0].parameters = Some(schema.into());
            let options = worker.info().capabilities.answer.options(chat.callable());
            assert_eq!(options.format, Some(format));
            let answer = answer(&worker, run(chat, None, seed, Resume::default())).await;
            let text = answer.text();
            let parsed = ParsedAnswer::of(&text, options, JobId::from_random_bits(1), false);
            assert_eq!((&*parsed.content, parsed.tool_calls.len()), ("", 1), "{text}");
            assert!(parsed.is_complete, "{text}");
            let arguments: Value = serde_json::from_str(&parsed.tool_calls[0].arguments).unwrap();
            assert!(["Bern", "La Paz"].contains(&arguments["city"].as_str().unwrap()), "{text}");
            let days = &arguments["days"];
            assert!(days.is_null() || (1..=14).contains(&days.as_i64().unwrap()), "{text}");
            let note = arguments["note"].as_str().unwrap_or_default();
            assert!(note.chars().count() <= 6, "{text}");
            let now = arguments.get("now").unwrap();
            assert!(now.is_boolean() || now.is_null(), "{text}");
            different.insert(text);
        }
        assert!(different.len() > 3, "the model still chooses: {different:?}");
    }
}

#[tokio::test]
async fn a_named_tool_is_called_and_no_other() {
    let worker = bee().await;
    for seed in 0..20 {
        let mut chat = with_tools(ToolChoice::Named("weather".into()));
        chat.parallel_tool_calls = true;
        let answer = answer(&worker, run(chat.clone(), None, seed, Resume::default())).await;
        let parsed = calls(&worker, &chat, &answer);
        let names: Vec<&str> = parsed.tool_calls.iter().map(|call| &*call.name).collect();
        assert_eq!(names, ["weather"], "{}", answer.text());
    }
}

#[tokio::test]
async fn a_model_that_may_call_does_it_when_it_wants_to_and_is_free_until_then() {
    let worker = bee().await;
    let mut chat = with_tools(ToolChoice::Auto);
    let called = answer(&worker, run(chat.clone(), None, 1, Resume::default())).await;
    let parsed = calls(&worker, &chat, &called);
    let [call] = &*parsed.tool_calls else { panic!("{}", called.text()) };
    assert_eq!((&*call.name, &*call.arguments), ("weather", r#"{"city": "Bern"}"#));
    assert!(parsed.content.is_empty() && parsed.is_complete, "{}", called.text());

    chat.messages = question("Who are you?").messages;
    let free = answer(&worker, run(chat.clone(), None, 1, Resume::default())).await;
    let parsed = calls(&worker, &chat, &free);
    assert!(parsed.content.contains("bee-tiny") && parsed.tool_calls.is_empty(), "{}", free.text());
}

#[tokio::test]
async fn with_tools_and_a_schema_an_answer_is_either_calls_or_json_of_the_schema() {
    let worker = bee().await;
    let grammar = || Some(Grammar::JsonSchema(FLOWER.into()));
    let (mut with_calls, mut with_json) = (0, 0);
    for seed in 0..40 {
        let mut chat = with_tools(ToolChoice::Auto);
        if seed % 2 == 0 {
            chat.messages = question("Describe a flower as JSON.").messages;
        }
        let whole = answer(&worker, run(chat.clone(), grammar(), seed, Resume::default())).await;
        let mut options = worker.info().capabilities.answer.options(chat.callable());
        options.calls_alone = true;
        let parsed = ParsedAnswer::of(&whole.text(), options, JobId::from_random_bits(1), false);
        match &parsed.tool_calls[..] {
            [] => {
                assert_eq!(parsed.content, whole.text());
                flower(&whole);
                with_json += 1;
            }
            calls => {
                assert!(parsed.content.is_empty() && parsed.is_complete, "{}", whole.text());
                assert!(calls.len() == 1 && ["weather", "now"].contains(&&*calls[0].name));
                with_calls += 1;
            }
        }
    }
    assert!(with_json > 0, "{with_calls} calls and {with_json} texts");
    // One that must call has no other answer, and one that cannot call has no call.
    let must = with_tools(ToolChoice::Required);
    let whole = answer(&worker, run(must.clone(), grammar(), 3, Resume::default())).await;
    assert_eq!(calls(&worker, &must, &whole).tool_calls.len(), 1, "{}", whole.text());
    let cannot = with_tools(ToolChoice::None);
    flower(&answer(&worker, run(cannot, grammar(), 3, Resume::default())).await);
}

#[tokio::test]
async fn an_answer_with_tools_and_a_schema_that_is_cut_anywhere_goes_on_as_if_it_had_not_been() {
    let worker = bee().await;
    let grammar = || Some(Grammar::JsonObject);
    let chat = || with_tools(ToolChoice::Auto);
    let whole = answer(&worker, run(chat(), grammar(), 5, Resume::default())).await;
    for cut in (0..=whole.tokens.len()).step_by(3) {
        let (before, after) = whole.tokens.split_at(cut);
        let resume = Resume {
            tokens: before.iter().map(|(id, _)| *id).collect(),
            text_bytes: before.iter().map(|(_, text)| text.len()).sum(),
        };
        let rest = answer(&worker, run(chat(), grammar(), 5, resume)).await;
        assert_eq!((&*rest.tokens, rest.finish), (after, whole.finish), "cut at {cut}");
    }
}

#[tokio::test]
async fn a_grammar_that_cannot_be_used_is_refused_by_the_field_and_with_the_reason() {
    let worker = bee().await;
    let refused = async |chat: Chat, grammar| -> Error {
        match worker.execute(run(chat, grammar, 1, Resume::default())).await {
            Err(error) => error,
            Ok(stream) => collect(stream).await.unwrap_err(),
        }
    };
    for (grammar, said) in [
        (Grammar::JsonSchema(r#"{"type": "strin"}"#.into()), "strin"),
        (Grammar::JsonSchema(r#"{"not": {"type": "string"}}"#.into()), "not"),
        (Grammar::JsonSchema(r##"{"$ref": "#/nowhere"}"##.into()), "nowhere"),
        (Grammar::JsonSchema("{".into()), "JSON"),
        (Grammar::Regex("a(".into()), "regular expression"),
        (Grammar::Lark("start: nothing".into()), "Lark"),
    ] {
        let error = refused(question("Hi"), Some(grammar)).await;
        assert_eq!(
            (error.kind(), error.param()),
            (ErrorKind::InvalidRequest, Some("response_format"))
        );
        assert!(error.message().contains(said), "{error}");
    }
    let mut chat = with_tools(ToolChoice::Required);
    chat.tools[0].parameters = Some(r#"{"type": "object", "unknownKeyword": 1}"#.into());
    let error = refused(chat, None).await;
    assert_eq!((error.kind(), error.param()), (ErrorKind::InvalidRequest, Some("tool_choice")));
    let mut chat = with_tools(ToolChoice::Auto);
    chat.tools[0].parameters = Some(r#"{"type": "object", "not": {}}"#.into());
    let answer = answer(&worker, run(chat, None, 1, Resume::default())).await;
    assert!(!answer.text().is_empty(), "a model that decides itself writes calls as it can");
    assert!(error.message().contains("unknownKeyword"), "{error}");
}
