//! The memory that is estimated, reserved and refused.

use std::{
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
use serde_json::json;

use crate::support::{config, write_json, write_model};

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
