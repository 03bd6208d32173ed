//! The memory that is estimated, reserved and refused.

use std::{
    fs,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use rbee_core::{
    CandleFactory, Error, ErrorKind, HiveBackend, HiveId, InProcessHive, ModelRef, Queen, Worker,
    WorkerId, WorkerSpec,
    candle::{CacheType, CandleOptions, CandleWorker},
    hive::{ModelHost, ModelOrigin, Progress, WorkerFactory},
    queen::LoadRequest,
};
use serde_json::{Value, json};

use crate::support::{config, tensors, write_json, write_model};

fn number(value: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(value)
}

/// What the queen expects of a worker on the processor, and what the worker itself has reserved.
async fn expected_and_reserved(path: &Path, factory: CandleFactory, slots: u32) -> (u64, u64) {
    let model: ModelRef = format!("file:{}", path.display()).parse().unwrap();
    let hive = InProcessHive::new().with_factory(factory);
    let queen = Queen::builder().hive(hive).build().await.unwrap();
    let request = LoadRequest { slots: Some(slots), ..LoadRequest::new(model.clone()) };
    let devices = queen.models().estimate(&request, None).await.unwrap();
    let expected = devices.iter().find(|device| device.device.index == 0).unwrap().expected;
    let mut spec = WorkerSpec::new(model);
    (spec.slots, spec.devices) = (slots, vec![0]);
    let (id, hive) = (WorkerId::random(), HiveId::local());
    let worker = factory.load(id, &hive, &spec, Progress::ignore()).await.unwrap();
    (expected, worker.health().await.unwrap().vram_bytes.unwrap())
}

/// A model of this context; if `window` is set, its layers attend to so many tokens.
fn model(context: u32, window: Option<u32>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path());
    let mut config = config();
    config["max_position_embeddings"] = context.into();
    if let Some(window) = window {
        config["architectures"] = json!(["MistralForCausalLM"]);
        config["model_type"] = "mistral".into();
        config["sliding_window"] = window.into();
    }
    write_json(dir.path(), "config.json", &config);
    dir
}

#[tokio::test]
async fn a_worker_reserves_what_the_queen_expects() {
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/bee-tiny");
    let bundled = bundled.canonicalize().unwrap();
    let (long, windowed, endless) =
        (model(10_000, None), model(6_000, Some(16)), model(100_000, None));
    let default = CandleFactory::default();
    let cases = [
        (bundled.as_path(), default, 4),
        (bundled.as_path(), default, 64),
        (long.path(), default, 1),
        (long.path(), default, 8),
        (windowed.path(), default, 3),
        (endless.path(), default, 2),
        (long.path(), CandleFactory { context: Some(5_000), ..default }, 2),
        (long.path(), CandleFactory { slots: number(2), ..default }, 8),
        (long.path(), CandleFactory { cache_tokens: number(1_001), ..default }, 4),
        (long.path(), CandleFactory { cache_type: CacheType::Q8, ..default }, 4),
        (bundled.as_path(), CandleFactory { cache_type: CacheType::F32, ..default }, 4),
    ];
    for (path, factory, slots) in cases {
        let (expected, reserved) = expected_and_reserved(path, factory, slots).await;
        assert_eq!(expected, reserved, "{factory:?}, {slots} slots, {}", path.display());
    }
    let of = |kind| {
        expected_and_reserved(
            endless.path(),
            CandleFactory { cache_type: kind, context: Some(99_999), ..default },
            1,
        )
    };
    let ((half, _), (single, _)) = (of(CacheType::F16).await, of(CacheType::F32).await);
    // 2 layers, 2 heads, keys of 8 numbers and values of 16, in whole blocks; the rest is the same.
    assert_eq!(single - half, 2 * 2 * (8 + 16) * 2 * 100_000);
}

#[tokio::test]
async fn a_worker_has_the_slots_that_its_hive_reports() {
    let text = model(100, None);
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bert-tiny");
    for (path, slots) in [(text.path(), 8), (vectors.as_path(), 1)] {
        let model: ModelRef = format!("file:{}", path.display()).parse().unwrap();
        let hive = InProcessHive::new().with_factory(CandleFactory::default());
        hive.start().await.unwrap();
        let found = hive.provision(&model, ModelOrigin::Here, Progress::ignore()).await.unwrap();
        let reported = hive.report().await.unwrap().models[0].limits.slots;
        let mut spec = WorkerSpec::new(model.clone());
        (spec.slots, spec.devices) = (64, vec![0]);
        let worker = hive.spawn(WorkerId::random(), &spec, Progress::ignore()).await.unwrap();
        let own = worker.info().slots;
        assert_eq!((found.limits.slots, reported, own), (Some(slots), Some(slots), slots));

        // A queen that plans one somewhere else plans the same.
        let other = InProcessHive::new().with_factory(CandleFactory::default());
        let queen = Queen::builder().hive(other).build().await.unwrap();
        let known = queen.models().memory(&found).await.unwrap().unwrap();
        assert_eq!(known.slots, slots.min(4), "4 are ordered by default");
    }
}

/// The error of a load, which must come before anything is loaded.
async fn refused(path: PathBuf, change: impl FnOnce(&mut CandleOptions)) -> Error {
    let mut options = CandleOptions::new("tiny".parse().unwrap());
    change(&mut options);
    let told = Arc::new(Mutex::new(0));
    let count = told.clone();
    let progress = Progress::new(move |_| *count.lock().unwrap() += 1);
    let error = CandleWorker::load(path, options, progress).await.unwrap_err();
    assert_eq!(*told.lock().unwrap(), 0, "{error}");
    error
}

#[tokio::test]
async fn a_cache_larger_than_memory_is_refused_with_all_amounts() {
    let dir = model(1 << 20, None);
    let path = || dir.path().to_owned();
    let error = refused(path(), |options| options.cache_tokens = NonZeroU32::new(u32::MAX)).await;
    assert_eq!(error.kind(), ErrorKind::InsufficientVram);
    // The largest number in whole blocks; 2 layers, 2 heads, keys of 8 numbers and values of 16, 2 bytes.
    let (tokens, bytes) = (1_u64 << 32, (1_u64 << 32) * 2 * 2 * (8 + 16) * 2);
    let amounts = format!(
        "{bytes} bytes for the keys and values of {tokens} tokens in f16 (context 32768, 8 slots); this machine has "
    );
    assert!(error.message().contains(&amounts), "{error}");

    let error = refused(path(), |options| options.slots = NonZeroU32::MAX).await;
    assert_eq!(error.kind(), ErrorKind::InsufficientVram);
    assert!(error.message().contains("17592186040320 tokens"), "{error}");

    let error = refused(path(), |options| {
        (options.context, options.slots) = (Some(u32::MAX), NonZeroU32::MAX);
        options.cache_type = CacheType::F32;
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::InsufficientVram);
    assert!(error.message().contains("in f32 (context 1048576, 4294967295 slots)"), "{error}");
}

#[tokio::test]
async fn the_memory_of_the_largest_step_is_part_of_what_a_model_needs() {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path());
    let mut config = config();
    config["vocab_size"] = (1 << 22).into();
    write_json(dir.path(), "config.json", &config);
    let mut all = tensors();
    all.rotate_left(1);
    let embeddings = all.last_mut().unwrap();
    embeddings.2[0] = 1 << 22;
    let (shape, bytes) = (embeddings.2.clone(), (1_u64 << 22) * 32 * 4);
    embeddings.3.clear();
    // The file has no blocks for the embeddings.
    let mut start = 0;
    let mut header = serde_json::Map::new();
    for (name, dtype, shape, bytes) in &all {
        let end = start + bytes.len() as u64;
        header.insert(
            name.clone(),
            json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]}),
        );
        start = end;
    }
    let name = "model.embed_tokens.weight";
    header[name] = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, start + bytes]});
    let header = Value::Object(header).to_string();
    let path = dir.path().join("model.safetensors");
    fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()).unwrap();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(8 + header.len() as u64 + start + bytes).unwrap();
    let error = refused(dir.path().to_owned(), |options| {
        (options.slots, options.cache_tokens) = (NonZeroU32::MAX, NonZeroU32::new(1 << 20));
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::InsufficientVram);
    // A sequence for each block of 32 tokens, each with its logits twice; and 512 rows of prompts.
    let row = 5 * 32 + 3 * 32 + 2 * 16 + 2 * 64;
    let work = 4 * ((512 + 32_768) * row + 32_768 * 2 * (1_u64 << 22));
    assert!(error.message().contains(&format!("{work} bytes for its computation")), "{error}");
}

#[tokio::test]
async fn a_model_for_vectors_that_is_larger_than_memory_is_refused_before_it_is_read() {
    let from = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/bert-tiny"));
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json"] {
        fs::copy(from.join(name), dir.path().join(name)).unwrap();
    }
    let read = |name: &str| fs::read(from.join(name)).unwrap();
    let mut config: Value = serde_json::from_slice(&read("config.json")).unwrap();
    let (hidden, vocab) = (config["hidden_size"].clone(), config["vocab_size"].clone());
    (config["hidden_size"], config["vocab_size"]) = (65_536.into(), 4_194_304.into());
    // In this model it is the same number as the width.
    config["max_position_embeddings"] = 65_536.into();
    write_json(dir.path(), "config.json", &config);
    // The same tensors, with the new lengths.
    let file = read("model.safetensors");
    let (length, rest) = file.split_first_chunk::<8>().unwrap();
    let length = u64::from_le_bytes(*length) as usize;
    let mut header: serde_json::Map<String, Value> =
        serde_json::from_slice(&rest[..length]).unwrap();
    header.remove("__metadata__");
    let mut total = 0_u64;
    for tensor in header.values_mut() {
        let mut bytes = 4;
        for side in tensor["shape"].as_array_mut().unwrap() {
            if *side == hidden {
                *side = 65_536.into();
            } else if *side == vocab {
                *side = 4_194_304.into();
            }
            bytes *= side.as_u64().unwrap();
        }
        (tensor["dtype"], tensor["data_offsets"]) = ("F32".into(), json!([total, total + bytes]));
        total += bytes;
    }
    let header = Value::Object(header).to_string();
    let path = dir.path().join("model.safetensors");
    fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()).unwrap();
    // The file has no blocks for them.
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(8 + header.len() as u64 + total).unwrap();
    let error = refused(dir.path().to_owned(), |_| {}).await;
    assert_eq!(error.kind(), ErrorKind::InsufficientVram, "{error}");
    assert!(error.message().contains(" bytes for its weights; this machine has "), "{error}");
}
