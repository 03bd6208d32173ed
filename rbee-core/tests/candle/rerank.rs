//! `CandleWorker` with cross-encoders, compared with what the transformers library computes from the same files:
//! `fixtures/make_rerankers.py` wrote both.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::support::{self, job, load, run, write_json};
use futures_util::StreamExt;
use rbee_core::{
    ErrorKind, Finish, Output, Result, Run, Usage, Worker,
    models::{ModelInfo, ModelTask},
    request::Task,
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
    query: String,
    document: String,
    tokens: u32,
    logit: f32,
}

const BERT: &str = "bert-reranker-tiny";
const ROBERTA: &str = "xlm-roberta-reranker-tiny";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn golden(name: &str) -> Vec<Case> {
    let bytes = fs::read(fixture(name).join("golden.json")).unwrap();
    serde_json::from_slice::<Golden>(&bytes).unwrap().cases
}

/// A copy of a fixture.
fn copied(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

/// A copy of a fixture with one file changed.
fn changed(name: &str, file: &str, change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let dir = copied(name);
    let old = fs::read(dir.path().join(file));
    let mut value = old.map_or(json!({}), |it| serde_json::from_slice(&it).unwrap());
    change(&mut value);
    write_json(dir.path(), file, &value);
    dir
}

/// A copy of a fixture with these keys in `config.json`.
fn configured(name: &str, keys: &Value) -> tempfile::TempDir {
    changed(name, "config.json", |config| {
        config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    })
}

fn rerank(query: &str, documents: impl IntoIterator<Item = impl Into<String>>) -> Run {
    Run { job: job(Task::rerank(query, documents), 1), attempt: 1, resume: Resume::default() }
}

async fn scores(worker: &dyn Worker, run: Run) -> Result<(Vec<f32>, Usage)> {
    let mut stream = worker.execute(run).await?;
    let mut made = None;
    while let Some(output) = stream.next().await {
        match output? {
            Output::Vectors(vectors) => made = Some(vectors),
            Output::Metrics(_) | Output::Heartbeat => {}
            Output::Token { .. } => panic!("a token"),
            Output::End { finish, usage, .. } => {
                assert_eq!(finish, Finish::Stop);
                let mut vectors = made.expect("scores");
                assert_eq!(vectors.len(), 1);
                return Ok((vectors.remove(0), usage));
            }
        }
    }
    panic!("no end");
}

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

#[tokio::test]
async fn scores_are_those_of_the_reference_library() {
    // The first one has the score function Identity in its configuration; the second one has none.
    for (name, function) in [(BERT, (|logit| logit) as fn(f32) -> f32), (ROBERTA, sigmoid)] {
        let (worker, cases) = (load(fixture(name)).await.unwrap(), golden(name));
        for query in ["where is the bee?", "honey"] {
            let cases: Vec<&Case> = cases.iter().filter(|case| case.query == query).collect();
            assert_eq!(cases.len(), 6);
            let documents = cases.iter().map(|case| case.document.as_str());
            let (scores, usage) = scores(&worker, rerank(query, documents)).await.unwrap();
            for (score, case) in scores.iter().zip(&cases) {
                let off = (score - function(case.logit)).abs();
                assert!(off < 1e-5, "{name}: {query:?}, {:?} is off by {off}", case.document);
            }
            let tokens = cases.iter().map(|case| case.tokens).sum();
            assert_eq!(usage, Usage { prompt_tokens: tokens, ..Usage::default() }, "{name}");
        }
    }
}

#[tokio::test]
async fn the_score_function_is_that_of_the_models_files() {
    let case = &golden(BERT)[0];
    let of = async |dir: &Path| {
        let worker = load(dir).await.unwrap();
        scores(&worker, rerank(&case.query, [&*case.document])).await.unwrap().0[0]
    };
    let near = |score: f32, expected: f32| (score - expected).abs() < 1e-5;
    let sigmoid_of = "torch.nn.modules.activation.Sigmoid";
    let identity = "torch.nn.modules.linear.Identity";
    let newer = json!({"sentence_transformers": {"activation_fn": sigmoid_of}});
    assert!(near(of(configured(BERT, &newer).path()).await, sigmoid(case.logit)));
    let none = json!({"sentence_transformers": null});
    assert!(near(of(configured(BERT, &none).path()).await, sigmoid(case.logit)));
    let older = json!({
        "sentence_transformers": {"version": "4"}, "sbert_ce_default_activation_function": identity,
    });
    assert!(near(of(configured(BERT, &older).path()).await, case.logit));
    let newest = changed(BERT, "config_sentence_transformers.json", |config| {
        config["activation_fn"] = sigmoid_of.into();
    });
    assert!(near(of(newest.path()).await, sigmoid(case.logit)), "the newest file counts");
    for (file, keys, said) in [
        (
            "config.json",
            json!({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Tanh"}}),
            "sentence_transformers.activation_fn is \"torch.nn.modules.activation.Tanh\"",
        ),
        (
            "config_sentence_transformers.json",
            json!({"activation_fn": 7}),
            "activation_fn is 7; allowed are Sigmoid and Identity",
        ),
    ] {
        let dir = changed(BERT, file, |config| {
            config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        });
        let error = load(dir.path()).await.expect_err("must be refused");
        assert_eq!(error.kind(), ErrorKind::ModelIncompatible);
        assert!(error.message().contains(said), "{error}");
    }
}

#[tokio::test]
async fn a_document_has_the_same_score_alone_and_among_others() {
    for name in [BERT, ROBERTA] {
        let worker = load(fixture(name)).await.unwrap();
        let words = ["bee", "lily", "the hive", "honey, and more of it", "x"];
        let documents: Vec<String> = (0..200).map(|n| words[..=n % 5].join(" ")).collect();
        let (together, _) = scores(&worker, rerank("the bee", documents.clone())).await.unwrap();
        assert_eq!(together.len(), documents.len());
        for (document, score) in documents.iter().zip(&together).take(10) {
            let alone = scores(&worker, rerank("the bee", [document.as_str()])).await.unwrap().0;
            assert!((alone[0] - score).abs() < 1e-5, "{name}: {document:?}");
        }
    }
}

#[tokio::test]
async fn it_says_what_it_can_do_and_refuses_the_rest() {
    let worker = load(fixture(BERT)).await.unwrap();
    let can = &worker.info().capabilities;
    assert!(can.rerank && !can.embed && !can.generate && !can.resume, "{can:?}");
    assert_eq!(can.context_tokens, Some(24), "tokenizer_config.json");
    assert_eq!(worker.info().slots, 1);
    let kind = async |run: Run| worker.execute(run).await.err().unwrap().kind();
    assert_eq!(kind(run("x", 1, Resume::default(), |_| {})).await, ErrorKind::Unsupported);
    let embed = Run { job: job(Task::embed(["x"]), 1), ..rerank("x", ["x"]) };
    assert_eq!(kind(embed).await, ErrorKind::Unsupported);
    let continued = Run { resume: Resume { tokens: vec![1], text_bytes: 0 }, ..rerank("x", ["x"]) };
    assert_eq!(kind(continued).await, ErrorKind::Unsupported);
    assert_eq!(kind(rerank("x", [""; 0])).await, ErrorKind::InvalidRequest);
    let generator = support::tiny().await;
    let refused = generator.execute(rerank("x", ["x"])).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    let encoder = load(fixture("bert-tiny")).await.unwrap();
    let refused = encoder.execute(rerank("x", ["x"])).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    scores(&worker, rerank("it goes", ["on"])).await.unwrap();
}

#[tokio::test]
async fn a_query_without_room_for_a_document_is_refused() {
    let worker = load(fixture(ROBERTA)).await.unwrap();
    // <s>, </s> </s> and </s> count.
    let query = |tokens: usize| "bee ".repeat(tokens);
    scores(&worker, rerank(&query(19), ["honey"])).await.unwrap();
    let error = worker.execute(rerank(&query(20), ["honey"])).await.err().unwrap();
    assert_eq!((error.kind(), error.param()), (ErrorKind::ContextExceeded, Some("query")));
    assert_eq!(
        error.message(),
        "This model's maximum context length is 24 tokens, however you requested 25 tokens (25 in your prompt; 0 for \
         the completion). query is too long. Please reduce your prompt; or completion length."
    );
}

#[tokio::test]
async fn a_model_for_other_labels_is_refused_with_their_number() {
    for (labels, said) in [
        (json!({"id2label": {"0": "bad", "1": "good", "2": "none"}}), "is 3; allowed is 1"),
        (json!({"num_labels": 2, "id2label": null}), "is 2; allowed is 1"),
        (json!({"id2label": null}), "is 2; allowed is 1"),
        (json!({"id2label": ["good"]}), "is not known; allowed is 1"),
    ] {
        for name in [BERT, ROBERTA] {
            let dir = configured(name, &labels);
            let error = load(dir.path()).await.expect_err("must be refused");
            assert_eq!(error.kind(), ErrorKind::ModelIncompatible);
            assert!(error.message().contains(said), "{error}");
            assert!(error.message().contains("only as a reranker"), "{error}");
            assert_eq!(ModelInfo::read(dir.path()).unwrap().task, ModelTask::Other);
        }
    }
    for name in [BERT, ROBERTA] {
        let info = ModelInfo::read(fixture(name)).unwrap();
        assert_eq!((info.task, info.embedding), (ModelTask::Rerank, None));
    }
    let counted = configured(BERT, &json!({"num_labels": 1, "id2label": null}));
    assert_eq!(ModelInfo::read(counted.path()).unwrap().task, ModelTask::Rerank);
    load(counted.path()).await.unwrap();
}

/// The header of a safetensors file, with these changes.
fn with_header(name: &str, change: impl FnOnce(&mut String)) -> tempfile::TempDir {
    let dir = copied(name);
    let path = dir.path().join("model.safetensors");
    let file = fs::read(&path).unwrap();
    let (length, rest) = file.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    let mut header = String::from_utf8(header.to_vec()).unwrap();
    change(&mut header);
    let length = (header.len() as u64).to_le_bytes();
    fs::write(&path, [&length, header.as_bytes(), data].concat()).unwrap();
    dir
}

#[tokio::test]
async fn a_head_that_does_not_fit_is_refused_by_its_tensor() {
    for (name, from, to, said) in [
        (BERT, "bert.pooler.dense.weight", "bert.pooler.other.weight", "bert.pooler.dense.weight"),
        (BERT, "\"classifier.bias\"", "\"other.bias\"", "classifier.bias is missing"),
        (ROBERTA, "classifier.dense.bias", "classifier.other.bias", "classifier.dense.bias"),
        (ROBERTA, "classifier.out_proj.weight", "other.weight", "classifier.out_proj.weight"),
    ] {
        let dir = with_header(name, |header| *header = header.replace(from, to));
        let error = load(dir.path()).await.expect_err("must be refused");
        assert_eq!(error.kind(), ErrorKind::ModelIncompatible);
        assert!(error.message().contains(said), "{error}");
        assert!(error.message().contains("is missing"), "{error}");
    }
    let shape = with_header(ROBERTA, |header| {
        let entry = |shape: &str| {
            format!(r#""classifier.out_proj.weight":{{"dtype":"F16","shape":{shape}"#)
        };
        assert!(header.contains(&entry("[1,32]")), "{header}");
        *header = header.replace(&entry("[1,32]"), &entry("[32]"));
    });
    let error = load(shape.path()).await.expect_err("must be refused");
    assert!(error.message().contains("out_proj.weight has shape [32]"), "{error}");
    assert!(error.message().contains("must be [1, 32]"), "{error}");

    let types = changed(BERT, "tokenizer.json", |it| {
        it["post_processor"]["pair"][3]["Sequence"]["type_id"] = 2.into();
    });
    let types = load(types.path()).await.expect_err("must be refused");
    assert_eq!(types.kind(), ErrorKind::ModelIncompatible, "{types}");
    assert!(types.message().contains("the type 2; by config.json allowed are 0 to 1"), "{types}");
    let twice = changed(ROBERTA, "tokenizer.json", |it| {
        let pair = it["post_processor"]["pair"].as_array_mut().unwrap();
        let text = pair.iter().find(|part| part.get("Sequence").is_some()).unwrap().clone();
        pair.push(text);
    });
    let none = changed(ROBERTA, "tokenizer.json", |it| it["post_processor"] = Value::Null);
    for dir in [twice, none] {
        let error = load(dir.path()).await.expect_err("must be refused");
        assert_eq!(error.kind(), ErrorKind::ModelIncompatible);
        assert!(error.message().contains("post_processor has a template for pairs"), "{error}");
    }
    let dense = changed(BERT, "modules.json", |list| {
        *list = json!([{"type": "sentence_transformers.models.Dense", "path": "1_Dense"}]);
    });
    let dense = load(dense.path()).await.expect_err("must be refused");
    assert!(dense.message().contains("has a module Dense"), "{dense}");
}
