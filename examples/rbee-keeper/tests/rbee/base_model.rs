//! Tests of models without a chat template, which continue text and have no conversations.

use std::path::Path;

use crate::{
    real::Home,
    support::{Hall, echo},
};
use http::{Request, header};
use rbee_core::{
    Error, ErrorKind, Output, Settings,
    request::{Prompt, Task},
    settings::KeepRequests,
    worker::EchoGate,
};
use rbee_transport_http::client::HttpClient;
use serde_json::{Value, json};

const TEXT: &str = "The fox lives in a";

/// A copy of the bundled model without its chat template. Returns its path.
fn base_model(home: &Home) -> String {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/bee-tiny");
    let to = home.path("base");
    std::fs::create_dir(&to).unwrap();
    for file in ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
    let config = std::fs::read(from.join("tokenizer_config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config.as_object_mut().unwrap().remove("chat_template");
    std::fs::write(to.join("tokenizer_config.json"), config.to_string()).unwrap();
    home.text("base")
}

/// The continuation that OpenAI's API gives for exactly this prompt.
async fn completion(url: &str, model: &str, prompt: &str) -> String {
    let body =
        json!({"model": format!("file:{model}"), "prompt": prompt, "seed": 1, "max_tokens": 8});
    let request = Request::post(format!("{url}/v1/completions"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.to_string().into())
        .unwrap();
    let response = HttpClient::new(None).send(request).await.unwrap();
    let body = response.into_body().read(1 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    body["choices"][0]["text"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_a_chat_template_continues_the_prompt() {
    let mut home = Home::new();
    let model = base_model(&home);
    let url = home.serve(&["--local-hive", "processes"]).await;
    let at = |arguments: &[&str]| home.rbee(&[arguments, &["--host", &url]].concat());
    let run = ["run", &model, "--seed", "1", "--max-tokens", "8"];
    let with = |more: &[&str]| at(&[&run[..], more].concat());

    let typed = with(&[TEXT]).run().await.ok();
    let expected = completion(&url, &model, TEXT).await;
    assert!(!expected.trim().is_empty(), "{expected:?}");
    assert_eq!((typed.out, &*typed.err), (format!("{expected}\n"), ""));

    // The line end that `echo` writes is no part of the prompt; other white space is.
    for line_end in ["", "\n", "\r\n"] {
        let piped = with(&[]).input(&format!("{TEXT}{line_end}")).run().await.ok();
        assert_eq!(piped.out, format!("{expected}\n"), "{line_end:?}");
    }
    let both = with(&["A story."]).input(&format!("{TEXT}\n\n")).run().await.ok();
    let continued = completion(&url, &model, &format!("A story.\n\n{TEXT}\n")).await;
    assert_eq!(both.out.trim_end(), continued.trim_end());

    let verbose = with(&[TEXT, "-v"]).run().await.ok();
    for said in ["no chat template", "at most 8 tokens", "answer 8 tokens"] {
        assert!(verbose.err.contains(said), "{said}: {verbose:?}");
    }

    let ended = with(&[TEXT, "--json"]).run().await.ok();
    assert_eq!(ended.err, "");
    let objects = ended.objects();
    let kinds: Vec<_> = objects.iter().map(|object| &object["object"]).collect();
    assert!(kinds.iter().all(|kind| **kind == "text_completion"), "{kinds:?}");
    let text: String =
        objects.iter().filter_map(|object| object["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, expected);
    assert_eq!(objects.last().unwrap()["usage"]["completion_tokens"], 8);

    let ended = with(&[TEXT, "--system", "Be brief."]).run().await;
    let ended = ended.failed(2, &["takes no instructions (UNSUPPORTED)", "without --system"]);
    assert_eq!(ended.out, "");

    let ended = at(&["chat", &model]).input("hello\nand again\n").run().await;
    let hint = format!("`rbee run file:{model} TEXT` continues a text");
    let ended = ended.failed(2, &["cannot have a conversation (UNSUPPORTED)", &hint]);
    assert_eq!(ended.out, "");
    assert_eq!(ended.err.matches("UNSUPPORTED").count(), 1, "it is refused once: {ended:?}");
    let ended = at(&["chat", &model, "--json"]).input("hello\n").run().await;
    let error: Value = serde_json::from_str(&ended.err).unwrap();
    assert_eq!(error["error"]["code"], "UNSUPPORTED");
    assert_eq!(error["error"]["hints"][0], hint);

    let (seen, code) = with(&[TEXT]).in_terminal(120).end().await;
    assert_eq!(code, Some(0), "{seen}");
    let (note, shown) = seen.split_once("tokens").unwrap();
    assert!(note.contains("no chat template") && shown.contains(expected.trim()), "{seen:?}");
    for verb in ["chat", "run"] {
        let mut terminal = at(&[verb, &model]).in_terminal(120);
        terminal.shows(">>> ").await;
        terminal.types("hello\r");
        let (seen, code) = terminal.end().await;
        assert_eq!(code, Some(2), "the conversation ends: {seen}");
        assert!(seen.contains("continues a text"), "{seen}");
    }
    at(&["shutdown", "--now"]).run().await.ok();
}

fn refusal() -> Error {
    let message = "the model has no chat template; send bare text instead of messages";
    Error::for_client(ErrorKind::Unsupported, message).with_param("messages")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_continuation_without_a_maximum_has_at_most_256_tokens() {
    let settings = Settings { keep_requests: KeepRequests::Always, ..Settings::default() };
    // It refuses the bare text as well, which leaves the request.
    let refuses = echo().script([Err(refusal())]);
    let hall = Hall::built(refuses, |queen| queen.settings(settings), |server| server).await;
    for (arguments, most) in [
        (vec!["run", "bee", "two ", "words\n", "--temperature", "0"], 256),
        (vec!["run", "bee", "two ", "words\n", "--temperature", "0", "--max-tokens", "7"], 7),
    ] {
        let ended = hall.rbee(&arguments).run().await;
        ended.failed(2, &["UNSUPPORTED", "parameter messages"]);
        let job = hall.last_job().await.request.unwrap();
        let Task::Generate { prompt: Prompt::Text(text), sampling } = &job.task else { panic!() };
        assert_eq!((&**text, sampling.max_tokens), ("two  words\n", Some(most)));
        assert!(sampling.temperature.abs() < f32::EPSILON, "the other options hold as well");
    }
    assert_eq!(hall.echo.started(), 4, "two messages and two texts");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_again_once_something_of_an_answer_was_shown() {
    let token = Output::Token { id: None, text: "It".into(), logprobs: None };
    let hall = Hall::with(echo().script([Ok(token), Err(refusal())])).await;
    let ended = hall.rbee(&["run", "bee", "hello"]).run().await;
    let ended = ended.failed(2, &["UNSUPPORTED, parameter messages"]);
    assert_eq!((&*ended.out, hall.echo.started()), ("It\n", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_after_the_head_of_the_answer_is_followed_by_the_text_as_well() {
    let gate = EchoGate::new();
    let hall = Hall::with(echo().gate(&gate).script([Err(refusal())])).await;
    let terminal = hall.rbee(&["run", "bee", "hello"]).in_terminal(120);
    // That is what is shown once the head has arrived.
    terminal.shows("thinking").await;
    gate.open();
    let (seen, code) = terminal.end().await;
    assert_eq!(code, Some(2), "the text is refused too: {seen}");
    assert!(seen.contains("it continues the text by at most 256 tokens"), "{seen}");
    assert_eq!(hall.echo.started(), 2);
}
