//! `CandleWorker` with embedding models, compared with what the sentence-transformers library computes from the same
//! files: `fixtures/make_encoders.py` wrote both.

use std::{fs, path::Path};

use crate::support::{self, job, load, run, write_json};
use futures_util::StreamExt;
use rbee_core::{
    Error, ErrorKind, Finish, Output, Result, Run, Usage, Worker,
    candle::{CandleOptions, CandleWorker},
    hive::Progress,
    request::{EmbedInput, Task},
    worker::Resume,
};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    tokens: u32,
    vector: Vec<f32>,
}

const FIXTURES: [&str; 2] = ["bert-tiny", "roberta-tiny"];

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn golden(name: &str) -> Vec<Case> {
    let bytes = fs::read(fixture(name).join("golden.json")).unwrap();
    serde_json::from_slice::<Golden>(&bytes).unwrap().cases
}

/// A copy of a fixture with one file changed.
fn changed(name: &str, file: &str, change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture(name), dir.path());
    let path = dir.path().join(file);
    let mut value = fs::read(&path).map_or(json!({}), |it| serde_json::from_slice(&it).unwrap());
    change(&mut value);
    write_json(dir.path(), file, &value);
    dir
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn embed(inputs: impl IntoIterator<Item = impl Into<EmbedInput>>) -> Run {
    Run { job: job(Task::embed(inputs), 1), attempt: 1, resume: Resume::default() }
}

async fn vectors(worker: &dyn Worker, run: Run) -> Result<(Vec<Vec<f32>>, Usage)> {
    let mut stream = worker.execute(run).await?;
    let mut made = None;
    while let Some(output) = stream.next().await {
        match output? {
            Output::Vectors(vectors) => made = Some(vectors),
            Output::Metrics(_) | Output::Heartbeat => {}
            Output::Token { .. } => panic!("a token"),
            Output::End { finish, usage, .. } => {
                assert_eq!(finish, Finish::Stop);
                return Ok((made.expect("vectors"), usage));
            }
        }
    }
    panic!("no end");
}

/// The largest difference of two numbers at the same index.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

async fn refusal(dir: &Path) -> Error {
    load(dir).await.expect_err("must be refused")
}

#[tokio::test]
async fn vectors_are_those_of_the_reference_library() {
    for name in FIXTURES {
        let (worker, cases) = (load(fixture(name)).await.unwrap(), golden(name));
        let texts = cases.iter().map(|case| case.text.as_str());
        let (vectors, usage) = vectors(&worker, embed(texts)).await.unwrap();
        for (vector, case) in vectors.iter().zip(&cases) {
            let distance = distance(vector, &case.vector);
            assert!(distance < 1e-5, "{name}: {:?} is off by {distance}", case.text);
        }
        let tokens = cases.iter().map(|case| case.tokens).sum();
        assert_eq!(usage, Usage { prompt_tokens: tokens, ..Usage::default() }, "{name}");
    }
}

#[tokio::test]
async fn a_text_has_the_same_vector_alone_and_among_others() {
    for name in FIXTURES {
        let worker = load(fixture(name)).await.unwrap();
        let words = ["bee", "lily", "the hive", "honey, and more of it", "x"];
        let texts: Vec<String> = (0..200).map(|n| words[..=n % 5].join(" ")).collect();
        let (together, _) = vectors(&worker, embed(texts.clone())).await.unwrap();
        assert_eq!(together.len(), texts.len());
        for (text, vector) in texts.iter().zip(&together).take(10) {
            let (alone, _) = vectors(&worker, embed([text.as_str()])).await.unwrap();
            assert!(distance(&alone[0], vector) < 1e-5, "{name}: {text:?}");
        }
    }
}

#[tokio::test]
async fn it_says_what_it_can_do_and_refuses_the_rest() {
    let worker = load(fixture("bert-tiny")).await.unwrap();
    let can = &worker.info().capabilities;
    assert!(can.embed && !can.generate && !can.resume, "{can:?}");
    assert_eq!(can.context_tokens, Some(24), "sentence_bert_config.json");
    assert!(worker.info().numerics.contains(" f32 batch/"), "{}", worker.info().numerics);
    let health = worker.health().await.unwrap();
    // The file has 16-bit numbers, and a pooler that is not used here.
    let file = fs::metadata(fixture("bert-tiny").join("model.safetensors")).unwrap().len();
    assert_eq!(health.busy, 0);
    assert!((file..2 * file).contains(&health.vram_bytes.unwrap()), "{health:?} of {file}");

    let generate = worker.execute(run("x", 1, Resume::default(), |_| {})).await;
    assert_eq!(generate.err().unwrap().kind(), ErrorKind::Unsupported);
    let generator = support::tiny().await;
    assert_eq!(generator.execute(embed(["x"])).await.err().unwrap().kind(), ErrorKind::Unsupported);
    let continued = Run { resume: Resume { tokens: vec![1], text_bytes: 0 }, ..embed(["x"]) };
    assert_eq!(worker.execute(continued).await.err().unwrap().kind(), ErrorKind::Unsupported);
    vectors(&worker, embed(["it goes on"])).await.unwrap();
}

#[tokio::test]
async fn a_text_that_is_too_long_is_refused_with_its_place_and_both_lengths() {
    let worker = load(fixture("bert-tiny")).await.unwrap();
    // [CLS] and [SEP] count.
    vectors(&worker, embed(["bee ".repeat(22)])).await.unwrap();
    let error = worker.execute(embed(["bee".to_owned(), "bee ".repeat(23)])).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::ContextExceeded);
    assert_eq!(
        error.message(),
        "This model's maximum context length is 24 tokens, however you requested 25 tokens (25 in your prompt; 0 for \
         the completion). input[1] is too long. Please reduce your prompt; or completion length."
    );
    assert_eq!(error.param(), Some("input"));
    let none = worker.execute(embed([""; 0])).await.err().unwrap();
    assert_eq!(none.kind(), ErrorKind::InvalidRequest);

    let mut options = CandleOptions::new("tiny".parse().unwrap());
    options.context = Some(10);
    let short =
        CandleWorker::load(fixture("roberta-tiny"), options, Progress::ignore()).await.unwrap();
    assert_eq!(short.info().capabilities.context_tokens, Some(10));
    // 32 positions, of which the first two are unused.
    let free =
        changed("roberta-tiny", "sentence_bert_config.json", |it| it["max_seq_length"] = 99.into());
    let free = load(free.path()).await.unwrap();
    assert_eq!(free.info().capabilities.context_tokens, Some(30));
    vectors(&free, embed(["bee ".repeat(28)])).await.unwrap();
}

#[tokio::test]
async fn pooling_and_length_are_by_the_models_own_files() {
    let text = ["the honey of the bees"];
    let of = async |dir: &Path| {
        let worker = load(dir).await.unwrap();
        vectors(&worker, embed(text)).await.unwrap().0.remove(0)
    };
    let length = |vector: &[f32]| vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    let mean = of(&fixture("bert-tiny")).await;
    assert!((length(&mean) - 1.0).abs() < 1e-5);
    let cls =
        changed("bert-tiny", "1_Pooling/config.json", |it| *it = json!({"pooling_mode": "cls"}));
    let cls = of(cls.path()).await;
    assert!(distance(&cls, &mean) > 1e-2);
    let bare = changed("bert-tiny", "modules.json", |it| drop(it.as_array_mut().unwrap().pop()));
    let bare = of(bare.path()).await;
    assert!(length(&bare) > 1.1, "{}", length(&bare));
    let scaled: Vec<f32> = bare.iter().map(|x| x / length(&bare)).collect();
    assert!(distance(&scaled, &mean) < 1e-5);
    // If nothing says how to pool: the mean, scaled to length 1.
    let plain = tempfile::tempdir().unwrap();
    copy(&fixture("bert-tiny"), plain.path());
    fs::remove_file(plain.path().join("modules.json")).unwrap();
    fs::remove_dir_all(plain.path().join("1_Pooling")).unwrap();
    assert!(distance(&of(plain.path()).await, &mean) < 1e-6);
}

#[tokio::test]
async fn what_this_engine_cannot_do_is_refused_by_file_and_value() {
    for (file, change, said) in [
        (
            "config.json",
            json!({"position_embedding_type": "relative_key"}),
            "position_embedding_type is",
        ),
        ("config.json", json!({"hidden_act": "swish"}), "hidden_act is \"swish\""),
        (
            "config.json",
            json!({"num_attention_heads": 5}),
            "hidden_size is 32 for num_attention_heads 5",
        ),
        (
            "config.json",
            json!({"num_hidden_layers": 3}),
            "encoder.layer.2.attention.self.query.weight is missing",
        ),
        ("config.json", json!({"num_hidden_layers": 1}), "is not part of a BERT model"),
        ("config.json", json!({"is_decoder": true}), "is_decoder is true"),
        (
            "config.json",
            json!({"architectures": ["BertForSequenceClassification"]}),
            "is 2; allowed is 1",
        ),
        ("1_Pooling/config.json", json!({"pooling_mode_max_tokens": true}), "pooling_mode"),
        (
            "config_sentence_transformers.json",
            json!({"default_prompt_name": "query"}),
            "default_prompt_name is \"query\"",
        ),
        ("sentence_bert_config.json", json!({"do_lower_case": true}), "do_lower_case is true"),
    ] {
        let dir = changed("bert-tiny", file, |value| {
            value.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        });
        let error = refusal(dir.path()).await;
        assert_eq!(error.kind(), ErrorKind::ModelIncompatible, "{error}");
        assert!(error.message().contains(said), "{error}");
    }
    let dense = changed("bert-tiny", "modules.json", |list| {
        list.as_array_mut()
            .unwrap()
            .push(json!({"type": "sentence_transformers.models.Dense", "path": "3_Dense"}));
    });
    assert!(refusal(dense.path()).await.message().contains("has a module Dense"));
}

#[tokio::test]
async fn tokens_give_the_vector_of_their_text_and_nothing_is_added_to_them() {
    let worker = load(fixture("bert-tiny")).await.unwrap();
    let tokenizer = fs::read(fixture("bert-tiny").join("tokenizer.json")).unwrap();
    let tokenizer: Value = serde_json::from_slice(&tokenizer).unwrap();
    let id = |token: &str| tokenizer["model"]["vocab"][token].as_u64().unwrap() as u32;
    let (cls, bee, sep) = (id("[CLS]"), id("bee"), id("[SEP]"));
    let (text, counted) = vectors(&worker, embed(["bee"])).await.unwrap();
    let (ids, usage) = vectors(&worker, embed([vec![cls, bee, sep]])).await.unwrap();
    assert_eq!((text, counted), (ids.clone(), usage));
    let (bare, usage) = vectors(&worker, embed([vec![bee]])).await.unwrap();
    assert_eq!(usage.prompt_tokens, 1);
    assert!(distance(&bare[0], &ids[0]) > 1e-3);

    let vocab = tokenizer["model"]["vocab"].as_object().unwrap().len() as u32;
    let run = embed([EmbedInput::from("bee"), EmbedInput::from(vec![cls, vocab + 1_000])]);
    let error = worker.execute(run).await.err().unwrap();
    assert_eq!((error.kind(), error.param()), (ErrorKind::InvalidRequest, Some("input")));
    let told = format!("input[1][1] is {}; the model has the tokens 0 to ", vocab + 1_000);
    assert!(error.message().starts_with(&told), "{error}");
    let error = worker.execute(embed([Vec::<u32>::new()])).await.err().unwrap();
    assert_eq!(error.message(), "input[0] has 0 tokens; allowed is at least 1");
    let error = worker.execute(embed([vec![bee; 25]])).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::ContextExceeded);
    vectors(&worker, embed([vec![bee; 24]])).await.unwrap();
}

#[tokio::test]
async fn vectors_are_cut_and_normalized_again_where_the_model_was_trained_for_it() {
    let of = |length: u32| {
        let task = Task::Embed { inputs: vec!["the bee".into()], dimensions: Some(length) };
        Run { job: job(task, 1), attempt: 1, resume: Resume::default() }
    };
    let plain = load(fixture("bert-tiny")).await.unwrap();
    let (whole, _) = vectors(&plain, embed(["the bee"])).await.unwrap();
    let own = whole[0].len() as u32;
    assert_eq!(vectors(&plain, of(own)).await.unwrap().0, whole, "its own length is allowed");
    for bad in [1, own - 1, own + 1, u32::MAX] {
        let error = plain.execute(of(bad)).await.err().unwrap();
        assert_eq!((error.kind(), error.param()), (ErrorKind::InvalidRequest, Some("dimensions")));
        let told = format!("dimensions is {bad}; allowed for this model is {own}");
        assert_eq!(error.message(), told);
    }
    let half = own / 2;
    for (file, marks, allowed) in [
        ("config.json", json!({"matryoshka_dimensions": [half, own]}), format!("{half}, {own}")),
        ("config.json", json!({"is_matryoshka": true}), format!("1 to {own}")),
        (
            "config_sentence_transformers.json",
            json!({"truncate_dim": half}),
            format!("{half}, {own}"),
        ),
        (
            "config_sentence_transformers.json",
            json!({"matryoshka_dims": [half]}),
            format!("{half}, {own}"),
        ),
    ] {
        let dir = changed("bert-tiny", file, |config| {
            config.as_object_mut().unwrap().extend(marks.as_object().unwrap().clone());
        });
        let worker = load(dir.path()).await.unwrap();
        let cut = &vectors(&worker, of(half)).await.unwrap().0[0];
        let beginning = &whole[0][..half as usize];
        let length = beginning.iter().map(|x| x * x).sum::<f32>().sqrt();
        let expected: Vec<f32> = beginning.iter().map(|x| x / length).collect();
        assert!(distance(cut, &expected) < 1e-6, "{marks}");
        assert_eq!(
            vectors(&worker, embed(["the bee"])).await.unwrap().0,
            whole,
            "by default whole"
        );
        let error = worker.execute(of(own + 1)).await.err().unwrap();
        let told = format!("dimensions is {}; allowed for this model is {allowed}", own + 1);
        assert_eq!(error.message(), told);
    }
}
