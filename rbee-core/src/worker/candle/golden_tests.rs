//! The bundled model against what the transformers library answers with it, token by token.

use std::path::Path;

use serde::Deserialize;

use super::{
    CandleOptions, Engine,
    generate::{Plan, Sink, generate},
    load,
};
use crate::{Finish, Message, Output, Progress, Resume, Sampling};

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
    tokenizer_cases: Vec<TokenizerCase>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    messages: Option<Vec<Message>>,
    rendered: String,
    add_special_tokens: bool,
    input_ids: Vec<u32>,
    max_new_tokens: u32,
    output_ids: Vec<u32>,
    text: String,
    finish: String,
}

#[derive(Deserialize)]
struct TokenizerCase {
    text: String,
    ids: Vec<u32>,
}

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/models/bee-tiny");

/// The bundled model, loaded.
pub(super) fn bundled_engine() -> Engine {
    let options = CandleOptions::new("bee-tiny".parse().unwrap());
    load(Path::new(DIR), &options, &Progress::ignore(), &|| false)
        .unwrap()
        .0
}

fn bundled() -> (Engine, Golden) {
    let golden = std::fs::read(Path::new(DIR).join("golden.json")).unwrap();
    (bundled_engine(), serde_json::from_slice(&golden).unwrap())
}

#[derive(Default)]
struct Heard {
    ids: Vec<u32>,
    text: String,
}

impl Sink for Heard {
    fn put(&mut self, output: Output) -> bool {
        if let Output::Token { id, text } = output {
            self.ids.extend(id);
            self.text += &text;
        }
        true
    }

    fn closed(&self) -> bool {
        false
    }
}

#[test]
fn greedy_answers_are_those_of_transformers() {
    let (engine, golden) = bundled();
    assert!(golden.cases.len() >= 10);
    for case in &golden.cases {
        let name = &case.name;
        let sampling = Sampling {
            temperature: 0.0,
            max_tokens: Some(case.max_new_tokens),
            ..Sampling::default()
        };
        let plan = Plan::new(
            case.input_ids.clone(),
            sampling,
            0,
            Resume::default(),
            engine.context,
            engine.voice.vocab,
        );
        let mut heard = Heard::default();
        let end = generate(&engine.voice, &plan.unwrap(), &mut heard).unwrap();
        assert_eq!(heard.ids, case.output_ids, "{name}");
        assert_eq!(heard.text, case.text, "{name}");
        let finish = match end {
            Some(Output::End { finish, .. }) => finish,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(finish.as_str(), case.finish, "{name}");
        assert!(finish == Finish::Length || engine.voice.eos.contains(heard.ids.last().unwrap()));
    }
}

#[test]
fn prompts_are_rendered_and_encoded_as_transformers_does() {
    let (engine, golden) = bundled();
    let codec = &engine.voice.codec;
    for case in &golden.cases {
        let name = &case.name;
        if let Some(messages) = &case.messages {
            let rendered = engine.template.as_ref().unwrap().render(messages).unwrap();
            assert_eq!(rendered, case.rendered, "{name}");
        }
        let ids = codec
            .encode(&case.rendered, case.add_special_tokens)
            .unwrap();
        assert_eq!(ids, case.input_ids, "{name}");
        assert_eq!(case.add_special_tokens, case.messages.is_none(), "{name}");
    }
    for case in &golden.tokenizer_cases {
        assert_eq!(
            codec.encode(&case.text, false).unwrap(),
            case.ids,
            "{:?}",
            case.text
        );
    }
}
