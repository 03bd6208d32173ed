//! Damaged or hostile files: loading them is an error that names the file, and never a panic.

use std::{fs, path::Path, time::Duration};

use crate::support::{
    self, answer, config, load, run, safetensors, tensors, tokenizer, tokenizer_config, write_json,
    write_model,
};
use futures_util::future::join_all;
use proptest::{prelude::*, sample::Index, test_runner::FileFailurePersistence};
use rbee_core::{Error, ErrorKind, candle::CandleWorker, request::Sampling, worker::Resume};
use serde_json::{Value, json};

const FILES: [&str; 5] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// Loads within a time limit. If the model loads, it is also run; that may fail but must not break the worker.
pub(super) fn attempt(dir: &Path) -> Result<CandleWorker, Error> {
    runtime().block_on(async {
        let worker = tokio::time::timeout(Duration::from_secs(30), load(dir))
            .await
            .expect("the load hangs")?;
        for seed in 0..2 {
            let run = run("the bee", seed, Resume::default(), |s| s.max_tokens = Some(3));
            let result = tokio::time::timeout(Duration::from_secs(30), async {
                support::collect(rbee_core::Worker::execute(&worker, run).await?).await
            });
            let _ = result.await.expect("the run hangs");
        }
        Ok(worker)
    })
}

/// The error of loading a directory with a fault. It must name the file.
fn fault(dir: &Path, file: &str) -> Error {
    let error = attempt(dir).expect_err(file);
    assert!(error.message().contains(file), "{error} does not name {file}");
    error
}

fn with(file: &str, bytes: impl AsRef<[u8]>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path());
    fs::write(dir.path().join(file), bytes).unwrap();
    dir
}

#[test]
fn a_missing_file_is_named() {
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let dir = tempfile::tempdir().unwrap();
        write_model(dir.path());
        fs::remove_file(dir.path().join(file)).unwrap();
        assert_eq!(fault(dir.path(), file).kind(), ErrorKind::ModelNotFound);
    }
    assert_eq!(
        fault(Path::new("/no/such/model"), "/no/such/model").kind(),
        ErrorKind::ModelNotFound
    );
}

#[test]
fn each_tensor_that_does_not_fit_is_named_with_what_it_should_be() {
    let changed = |change: &dyn Fn(&mut Vec<support::RawTensor>)| {
        let mut all = tensors();
        change(&mut all);
        let dir = with("model.safetensors", safetensors(&all));
        let error = fault(dir.path(), "model.safetensors");
        assert_eq!(error.kind(), ErrorKind::ModelIncompatible);
        error.message().to_owned()
    };
    let missing = changed(&|all| drop(all.remove(3)));
    assert!(
        missing.contains("post_attention_layernorm.weight is missing; its shape must be [32]"),
        "{missing}"
    );
    let shape = changed(&|all| all[0].2.reverse());
    assert!(shape.contains("model.embed_tokens.weight has shape [32, 300]"), "{shape}");
    assert!(shape.contains("must be [300, 32]"), "{shape}");
    let dtype = changed(&|all| all[1].1 = "I32");
    assert!(
        dtype.contains("model.norm.weight has type I32; allowed are F32, F16, BF16"),
        "{dtype}"
    );
    let size = changed(&|all| all[1].1 = "F16");
    assert!(size.contains("model.norm.weight: data_offsets"), "{size}");
    let bias = changed(&|all| {
        all.push(("model.layers.0.self_attn.q_proj.bias".into(), "F32", vec![1], vec![0; 4]))
    });
    assert!(bias.contains("q_proj.bias is not part of a Llama model"), "{bias}");
}

#[test]
fn a_header_that_lies_about_its_size_takes_no_memory() {
    let mut file = safetensors(&tensors());
    file[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let error = fault(with("model.safetensors", &file).path(), "model.safetensors");
    assert!(error.message().contains("its header claims 18446744073709551615 bytes"), "{error}");
    let header = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    for (text, said) in [
        (
            r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,0]}}"#,
            "does not make shape",
        ),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, "two rising numbers"),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, "two rising numbers up to 0"),
        (r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}}"#, "shape is [-1]"),
        (r#"{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":1}"#, "is listed twice"),
        (r#"[]"#, "its header is malformed"),
        (r#"{"a":"#, "its header is malformed"),
    ] {
        let error = fault(with("model.safetensors", header(text)).path(), "model.safetensors");
        assert!(error.message().contains(said), "{error}");
    }
    let error = fault(with("model.safetensors", b"abc").path(), "model.safetensors");
    assert!(error.message().contains("has 3 bytes"), "{error}");
}

#[test]
fn an_index_never_leads_out_of_its_directory() {
    for name in [
        "../model.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "..",
        "a\\b.safetensors",
        "weights.bin",
    ] {
        let dir = tempfile::tempdir().unwrap();
        write_model(dir.path());
        fs::remove_file(dir.path().join("model.safetensors")).unwrap();
        write_json(dir.path(), "model.safetensors.index.json", &json!({"weight_map": {"a": name}}));
        let error = fault(dir.path(), "model.safetensors.index.json");
        assert_eq!(error.kind(), ErrorKind::ModelIncompatible);
        assert!(error.message().contains("allowed are names of .safetensors files"), "{error}");
    }
}

#[test]
fn a_configuration_of_a_model_larger_than_its_weights_takes_no_memory() {
    for (key, value) in
        [("num_hidden_layers", 1_024), ("vocab_size", 4_194_304), ("intermediate_size", 1_048_576)]
    {
        let mut config = config();
        config[key] = value.into();
        let error = fault(with("config.json", config.to_string()).path(), "model.safetensors");
        assert_eq!(error.kind(), ErrorKind::ModelIncompatible, "{error}");
    }
    let mut long = config();
    long["max_position_embeddings"] = 16_777_216.into();
    let worker = attempt(with("config.json", long.to_string()).path()).unwrap();
    let context = rbee_core::Worker::info(&worker).capabilities.context_tokens;
    assert_eq!(context, Some(32_768));
}

#[test]
fn a_tokenizer_that_does_not_fit_the_model_is_refused() {
    let mut dropout = tokenizer();
    dropout["model"]["dropout"] = 0.5.into();
    let error = fault(with("tokenizer.json", dropout.to_string()).path(), "tokenizer.json");
    assert!(error.message().contains("model.dropout is 0.5"), "{error}");
    // Truncation and padding of prompts are left over from training, and ignored.
    let mut cut = tokenizer();
    cut["truncation"] =
        json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
    let dir = with("tokenizer.json", cut.to_string());
    let usage = runtime().block_on(async {
        let worker = load(dir.path()).await.unwrap();
        answer(&worker, run("q q q q", 1, Resume::default(), |s| s.max_tokens = Some(1)))
            .await
            .usage
    });
    assert!(usage.prompt_tokens > 5, "{usage:?}");
}

#[test]
fn a_tokenizer_that_takes_much_memory_is_refused() {
    let refusal = |change: &dyn Fn(&mut Value)| {
        let mut tokenizer = tokenizer();
        change(&mut tokenizer);
        fault(with("tokenizer.json", tokenizer.to_string()).path(), "tokenizer.json")
    };
    let longer =
        |content: &str| json!({"type": "Replace", "pattern": {"String": "a"}, "content": content});
    // Every step makes an added token ten times as long.
    let error = refusal(&|tokenizer| {
        tokenizer["added_tokens"][0]["content"] = "a".into();
        tokenizer["added_tokens"][0]["normalized"] = true.into();
        let steps = vec![longer("aaaaaaaaaa"); 12];
        tokenizer["normalizer"] = json!({"type": "Sequence", "normalizers": steps});
    });
    assert!(error.message().contains("can make a text 1000000000000 times as long"), "{error}");
    for step in [longer(&"a".repeat(101)), json!({"type": "Prepend", "prepend": "a".repeat(100)})] {
        let error = refusal(&|tokenizer| tokenizer["normalizer"] = step.clone());
        assert!(error.message().contains("can make a text 101 times as long"), "{error}");
    }
    let error = refusal(&|tokenizer| {
        tokenizer["added_tokens"][0]["content"] = "x".repeat(1_025).into();
    });
    assert!(error.message().contains("has 1025 bytes; allowed are at most 1024"), "{error}");
}

#[test]
fn tokens_without_an_embedding_are_refused_in_a_prompt_and_never_generated() {
    let mut large = tokenizer();
    // A token that is added gets the first id that the vocabulary leaves.
    let vocab = large["model"]["vocab"].as_object_mut().unwrap();
    for id in vocab.len()..=300 {
        vocab.insert(format!("z{id}"), id.into());
    }
    let added = |id: u32, content: &str, special: bool| {
        json!({
            "id": id, "content": content, "special": special, "normalized": false, "single_word": false,
            "lstrip": false, "rstrip": false,
        })
    };
    let tokens = large["added_tokens"].as_array_mut().unwrap();
    tokens.extend([added(301, "honey", false), added(302, "<|new|>", true)]);
    let dir = with("tokenizer.json", large.to_string());
    // The end of a text can be such a token.
    write_json(dir.path(), "generation_config.json", &json!({"eos_token_id": [2, 302]}));
    let plain = tempfile::tempdir().unwrap();
    write_model(plain.path());
    let run = |prompt: &str| run(prompt, 3, Resume::default(), |s| s.max_tokens = Some(60));
    runtime().block_on(async {
        let (worker, plain) = (load(dir.path()).await.unwrap(), load(plain.path()).await.unwrap());
        let expected = answer(&plain, run("the bee <|new|>")).await.ids();
        assert_eq!(answer(&worker, run("the bee <|new|>")).await.ids(), expected);
        let refused = match rbee_core::Worker::execute(&worker, run("some honey")).await {
            Err(error) => error,
            Ok(stream) => support::collect(stream).await.unwrap_err(),
        };
        assert_eq!(refused.kind(), ErrorKind::InvalidRequest);
        let said = "token \"honey\" with id 301, for which the model has no embedding; its vocab_size is 300";
        assert!(refused.message().contains(said), "{refused}");
        assert_eq!(answer(&worker, run("the bee <|new|>")).await.ids(), expected);
    });
}

#[test]
fn logits_that_are_no_numbers_are_a_fault_of_that_run_alone() {
    let mut all = tensors();
    for bytes in all[0].3.chunks_exact_mut(4).skip(32 * 50).take(32) {
        bytes.copy_from_slice(&f32::NAN.to_le_bytes());
    }
    let dir = with("model.safetensors", safetensors(&all));
    runtime().block_on(async {
        let worker = load(dir.path()).await.unwrap();
        for _ in 0..3 {
            let run = run("x", 1, Resume::default(), |s| s.max_tokens = Some(3));
            let stream = rbee_core::Worker::execute(&worker, run).await.unwrap();
            let error = support::collect(stream).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WorkerFault);
            assert!(error.message().contains("the logit of token"), "{error}");
        }
    });
}

#[test]
fn a_bad_request_leaves_the_answers_of_its_neighbors_as_they_are() {
    use rbee_core::Worker;
    let neighbor = |seed: u64| {
        run(&format!("neighbor {seed} of the bee"), seed, Resume::default(), |sampling| {
            (sampling.max_tokens, sampling.logprobs) = (Some(12), Some(2));
        })
    };
    let bad = |prompt: &str, change: &dyn Fn(&mut Sampling)| {
        run(prompt, 1, Resume::default(), |sampling| {
            sampling.max_tokens = Some(4);
            change(sampling);
        })
    };
    let mut odd = vec![
        bad("", &|_| {}),
        bad(&"q7".repeat(47), &|_| {}),
        bad(&"q7 ".repeat(10_000), &|_| {}),
        bad("\0<|end|>\u{10fffd}", &|_| {}),
        bad("bee", &|s| s.logit_bias = [(300, 1.0)].into()),
        bad("bee", &|s| s.logit_bias = [(u32::MAX, f32::NAN)].into()),
        bad("bee", &|s| s.logit_bias = (0..300).map(|token| (token, -100.0)).collect()),
        bad("bee", &|s| s.top_k = u32::MAX),
        bad("bee", &|s| (s.temperature, s.top_p, s.min_p) = (1e-45, 1e-45, 1.0)),
        bad("bee", &|s| (s.repetition_penalty, s.frequency_penalty) = (1e-45, 2.0)),
        bad("bee", &|s| s.stop = vec!["ab".repeat(128), "b".into(), "a".into(), " ".into()]),
        bad("bee", &|s| s.max_tokens = Some(u32::MAX)),
    ];
    for value in [f32::NAN, f32::INFINITY] {
        odd.push(bad("bee", &|s| s.temperature = value));
        odd.push(bad("bee", &|s| s.top_p = value));
        odd.push(bad("bee", &|s| s.presence_penalty = value));
    }
    runtime().block_on(async {
        let worker = support::tiny().await;
        let mut alone = Vec::new();
        for seed in 0..7 {
            alone.push(answer(&*worker, neighbor(seed)).await);
        }
        for run in odd {
            let what = format!("{:?}", run.job.task);
            let outcome = async { support::collect(worker.execute(run).await?).await };
            let others = join_all((0..7).map(|seed| answer(&*worker, neighbor(seed))));
            let (outcome, others) = tokio::join!(outcome, others);
            assert_eq!(others, alone, "{what}");
            if let Err(error) = outcome {
                let kinds = [ErrorKind::InvalidRequest, ErrorKind::ContextExceeded];
                assert!(kinds.contains(&error.kind()), "{error:?} {what}");
            }
            assert_eq!(worker.health().await.unwrap().busy, 0, "{what}");
        }
    });
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path());
    fs::remove_file(dir.path().join("config.json")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", dir.path().join("config.json")).unwrap();
    assert!(fault(dir.path(), "config.json").message().contains("is not a regular file"));
}

/// Files that once found a bug; each is loaded as the file that its name begins with.
#[test]
fn the_corpus_is_loaded_or_refused_by_name() {
    let corpus = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus"));
    let mut count = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some((file, _)) = name.split_once("--") else {
            continue;
        };
        let dir = with(file, fs::read(&path).unwrap());
        if let Err(error) = attempt(dir.path()) {
            named(&error);
        }
        count += 1;
    }
    assert!(count >= 8, "{count} files");
}

fn named(error: &Error) {
    let kinds = [ErrorKind::ModelIncompatible, ErrorKind::ModelNotFound];
    assert!(kinds.contains(&error.kind()), "{error:?}");
    let at_all = FILES.iter().any(|file| error.message().contains(file))
        || error.message().contains("panic");
    assert!(at_all, "{error}");
}

/// All positions in a JSON document, as pointers.
fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    out.push(at.to_owned());
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter().take(12) {
                places(value, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), out);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate().take(4) {
                places(value, &format!("{at}/{index}"), out);
            }
        }
        _ => {}
    }
}

/// A value that is wrong at its position.
fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_u64..2_000).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!({"type": "ByteLevel"})),
        Just(
            json!({"type": "Split", "pattern": {"Regex": "(a*)*b"}, "behavior": "Isolated", "invert": false})
        ),
        Just(json!({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]})),
        Just(
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true})
        ),
        Just(json!([[["deep"]], -1, 1e300])),
    ]
}

pub(super) fn cases() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        // For a longer run: PROPTEST_CASES=20000.
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(48),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_value_anywhere_in_the_json_is_loaded_or_refused_by_name(
        which in 0_usize..3, place: Index, value in odd(),
    ) {
        let (file, mut document) = vec![
            ("config.json", config()), ("tokenizer.json", tokenizer()), ("tokenizer_config.json", tokenizer_config()),
        ].swap_remove(which);
        let mut pointers = Vec::new();
        places(&document, "", &mut pointers);
        *document.pointer_mut(&pointers[place.index(pointers.len())]).unwrap() = value;
        let dir = with(file, document.to_string());
        if let Err(error) = attempt(dir.path()) {
            named(&error);
        }
    }

    #[test]
    fn any_bytes_changed_or_cut_off_are_loaded_or_refused_by_name(
        which in 0_usize..FILES.len(), edits in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..6),
        keep in proptest::option::of(any::<Index>()), near_the_head: bool,
    ) {
        let file = FILES[which];
        let dir = tempfile::tempdir().unwrap();
        write_model(dir.path());
        let path = dir.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        let reach = if near_the_head { bytes.len().min(3_000) } else { bytes.len() };
        for (at, byte) in edits {
            bytes[at.index(reach)] = byte;
        }
        if let Some(keep) = keep {
            bytes.truncate(keep.index(reach));
        }
        fs::write(&path, bytes).unwrap();
        if let Err(error) = attempt(dir.path()) {
            named(&error);
        }
    }
}
