//! Complete and damaged files that the tests write.

use std::{
    fs,
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use proptest::{prelude::*, sample::Index};
use serde_json::{Value, json};

use super::*;
use crate::error::{Error, ErrorKind};

mod gguf;

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/bee-tiny")
}

fn write_json(dir: &Path, name: &str, value: &Value) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, value.to_string()).unwrap();
}

/// A safetensors file with tensors of zeros.
fn weights(tensors: &[(&str, &str, &[u64], usize)]) -> Vec<u8> {
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [end, end + bytes];
        header.insert(
            (*name).to_owned(),
            json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}),
        );
        end += bytes;
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + end, 0);
    file
}

/// A directory with this configuration and small weights.
fn model(config: &Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_json(dir.path(), "config.json", config);
    let file = weights(&[("a", "BF16", &[4, 8], 64), ("b", "I64", &[0], 0)]);
    fs::write(dir.path().join("model.safetensors"), file).unwrap();
    dir
}

fn refused(path: &Path) -> Error {
    ModelInfo::read(path).expect_err("must be refused")
}

#[test]
fn the_bundled_model_is_described() {
    let info = ModelInfo::read(bundled()).unwrap();
    assert_eq!((info.layers, info.hidden, info.heads), (Some(4), Some(192), Some(6)));
    assert_eq!((info.kv_heads, info.head_dim), (Some(2), Some(32)));
    assert_eq!((info.context, info.vocab), (Some(512), Some(1_024)));
    assert_eq!((&*info.dtype, info.quantization.clone()), ("F16", None));
    assert_eq!(info.weights_bytes, 2 * 1_771_200);
    assert!(info.has_chat_template && info.embedding.is_none());
    let template = ModelInfo::chat_template(bundled()).unwrap().unwrap();
    assert!(template.contains("<|assistant|>"));
    let file = ModelInfo::read(bundled().join("model.safetensors")).unwrap();
    assert_eq!(info, file);
    let wire = serde_json::to_string(&info).unwrap();
    assert_eq!(serde_json::from_str::<ModelInfo>(&wire).unwrap(), info);
}

#[test]
fn layers_with_a_window_are_known_without_a_list_of_them() {
    let cache = |changes: Value| {
        let mut config = json!({
            "hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 8, "num_hidden_layers": 12,
            "head_dim": 8, "sliding_window": 16,
        });
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        let cache = ModelInfo::read(model(&config).path()).unwrap().kv_cache.unwrap();
        (cache.whole / 128, cache.windowed / 128)
    };
    assert_eq!(cache(json!({"model_type": "mistral"})), (0, 12));
    assert_eq!(cache(json!({"model_type": "mistral", "sliding_window": null})), (12, 0));
    assert_eq!(cache(json!({"model_type": "phi3"})), (0, 12));
    assert_eq!(cache(json!({"model_type": "gemma2"})), (6, 6));
    assert_eq!(cache(json!({"model_type": "gemma3_text"})), (2, 10));
    assert_eq!(cache(json!({"model_type": "gemma3_text", "sliding_window_pattern": 4})), (3, 9));
    assert_eq!(cache(json!({"model_type": "qwen3"})), (12, 0));
    let used = json!({"model_type": "qwen3", "use_sliding_window": true, "max_window_layers": 9});
    assert_eq!(cache(used), (9, 3));
}

#[test]
fn memory_is_weights_and_keys_and_values_and_headroom() {
    let info = ModelInfo::read(bundled()).unwrap();
    let need = MemoryNeed { context: Some(100), slots: 3, ..MemoryNeed::default() };
    let estimate = info.memory(&need);
    // 4 layers, 2 heads, 32 wide, keys and values, 100 tokens, 3 slots, 2 bytes.
    assert_eq!(estimate.kv_cache, Some(4 * 2 * 32 * 2 * 100 * 3 * 2));
    assert_eq!((estimate.weights, estimate.headroom), (3_542_400, 64 << 20));
    assert_eq!(estimate.total, 3_542_400 + 307_200 + (64 << 20));
    let in_f32 = info.memory(&MemoryNeed { context: Some(9_999), ..MemoryNeed::in_f32() });
    assert_eq!(in_f32.weights, 4 * 1_771_200);
    assert_eq!(in_f32.kv_cache, Some(4 * 2 * 32 * 2 * 512 * 4), "no longer than the model allows");
    let large = info.memory(&MemoryNeed { slots: u32::MAX, weight_bytes: Some(u32::MAX), ..need });
    assert!(large.headroom >= large.weights / 10);
}

#[test]
fn a_shared_cache_has_every_layer_of_as_many_tokens_as_the_rule_says() {
    let gemma = ModelInfo {
        kv_cache: Some(KvCache { whole: 3 * 512, windowed: 15 * 512, window: 512 }),
        head_dim: Some(256),
        context: Some(131_072),
        ..ModelInfo::read(bundled()).unwrap()
    };
    let kv = |context, slots, pool| {
        let need = MemoryNeed { context, slots, pool: Some(pool), ..MemoryNeed::default() };
        gemma.memory(&need).kv_cache.unwrap()
    };
    let (pool, token) = (CachePool::default(), 18 * 512 * 2);
    assert_eq!(kv(None, 4, pool), token * 32_768, "one whole context");
    assert_eq!(kv(None, 16, pool), token * 16 * 4_096, "more than one");
    assert_eq!(kv(Some(1_000), 4, pool), token * 4_000);
    assert_eq!(kv(Some(500_000), 1, pool), token * 131_072, "the model's own");
    let set = CachePool { tokens: NonZeroU32::new(100), ..pool };
    assert_eq!(kv(None, 4, set), token * 128, "whole blocks");
    let q8 = CachePool { kind: CacheType::Q8, ..pool };
    assert_eq!(kv(None, 4, q8), token * 32_768 * 17 / 32);
    let vast = CachePool { tokens: NonZeroU32::new(u32::MAX), kind: CacheType::F32 };
    assert_eq!(kv(Some(u32::MAX), u32::MAX, vast), (token * 2) << 32);
    let all =
        ModelInfo { kv_cache: Some(KvCache { whole: u64::MAX, ..KvCache::default() }), ..gemma };
    let need = MemoryNeed { pool: Some(vast), ..MemoryNeed::default() };
    assert_eq!(all.memory(&need).total, u64::MAX);
}

#[test]
fn values_of_a_head_fill_whole_registers_in_a_shared_cache() {
    let info = ModelInfo {
        // Two heads of 40.
        kv_cache: Some(KvCache { whole: 160, ..KvCache::default() }),
        head_dim: Some(40),
        context: None,
        ..ModelInfo::read(bundled()).unwrap()
    };
    let kv = |info: &ModelInfo, kind| {
        let pool = CachePool { kind, tokens: NonZeroU32::new(32) };
        info.memory(&MemoryNeed { pool: Some(pool), ..MemoryNeed::default() }).kv_cache.unwrap()
    };
    // A key has 40 numbers, and a value takes the space of 48. Each has two scales of 2 bytes as 8-bit integers.
    assert_eq!(kv(&info, CacheType::F32), 32 * 2 * 88 * 4);
    assert_eq!(kv(&info, CacheType::F16), 32 * 2 * 88 * 2);
    assert_eq!(kv(&info, CacheType::Q8), 32 * 2 * (88 + 2 * 2 * 2));
    // Sizes that no file states, and that no model has.
    let of = |whole, windowed, head_dim| {
        let kv_cache = Some(KvCache { whole, windowed, window: 8 });
        kv(&ModelInfo { kv_cache, head_dim, ..info.clone() }, CacheType::F16)
    };
    assert_eq!(of(256, 0, None), of(256, 0, Some(128)));
    assert_eq!(of(100, 0, Some(40)), of(160, 0, Some(40)), "whole heads");
    assert_eq!(of(0, 160, Some(40)), of(160, 0, Some(40)));
    assert!(of(160, 0, Some(0)) > 0);
    assert_eq!(CachePool::context(Some(u32::MAX), None), 1 << 20);
    assert_eq!(CachePool::default().blocks(0, 0), 1);
}

#[test]
fn configurations_of_many_kinds_are_understood() {
    let info = |config: Value| ModelInfo::read(model(&config).path()).unwrap();
    let gemma = info(json!({
        "model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "vocab_size": 7,
        "text_config": {
            "hidden_size": 640, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 1,
            "head_dim": 256, "max_position_embeddings": 32_768, "sliding_window": 512, "vocab_size": 262_144,
            "rope_parameters": {"rope_theta": 1e6},
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        },
    }));
    assert_eq!((&*gemma.architecture, gemma.task), ("gemma3", ModelTask::Generate));
    assert_eq!((gemma.vocab, gemma.head_dim), (Some(262_144), Some(256)));
    assert_eq!(gemma.kv_cache, Some(KvCache { whole: 512, windowed: 1_024, window: 512 }));
    let need = MemoryNeed { context: Some(1_000), ..MemoryNeed::default() };
    assert_eq!(gemma.memory(&need).kv_cache, Some(2 * (512 * 1_000 + 1_024 * 512)));

    let base = json!({
        "model_type": "x", "architectures": ["XForCausalLM"], "hidden_size": 64, "num_hidden_layers": 4,
        "num_attention_heads": 8, "max_position_embeddings": 128,
    });
    let with = |more: Value| {
        let mut config = base.clone();
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        info(config)
    };
    let whole = |info: &ModelInfo| info.kv_cache.map(|cache| (cache.whole, cache.windowed));
    assert_eq!(whole(&with(json!({}))), Some((4 * 2 * 64, 0)));
    assert_eq!(whole(&with(json!({"num_key_value_heads": 2}))), Some((4 * 2 * 16, 0)));
    let idle = with(json!({"sliding_window": 16, "use_sliding_window": false,
                           "layer_types": ["sliding_attention", "full_attention", "full_attention", "full_attention"]}));
    assert_eq!(whole(&idle), Some((4 * 2 * 64, 0)));
    let hybrid = with(
        json!({"layer_types": ["linear_attention", "linear_attention", "conv", "full_attention"]}),
    );
    assert_eq!(whole(&hybrid), Some((2 * 64, 0)));
    let compressed = with(json!({"kv_lora_rank": 16}));
    assert_eq!(compressed.kv_cache, None);
    assert_eq!(compressed.memory(&MemoryNeed::default()).kv_cache, None);
    assert_eq!(with(json!({"num_attention_heads": [1, 2]})).kv_cache, None);
    let gptq = with(json!({"quantization_config": {"quant_method": "gptq", "bits": 4}}));
    assert_eq!(gptq.quantization.as_deref(), Some("gptq-4bit"));
    assert_eq!(
        with(json!({"num_key_value_heads": 4_000_000_000_u32, "head_dim": 4_000_000_000_u32,
                           "num_hidden_layers": 4_000_000_000_u32}))
        .kv_cache,
        None
    );
    assert_eq!(info(json!({})).task, ModelTask::Other);
}

#[test]
fn packed_weights_hide_how_many_there_are() {
    let dir = model(&json!({"model_type": "llama"}));
    let file = weights(&[("a", "I32", &[16], 64), ("b", "F16", &[2], 4)]);
    fs::write(dir.path().join("model.safetensors"), file).unwrap();
    let info = ModelInfo::read(dir.path()).unwrap();
    assert_eq!((info.parameters, info.weights_bytes, &*info.dtype), (None, 68, "I32"));
}

#[test]
fn a_model_for_vectors_tells_how_it_makes_them() {
    let bert = json!({
        "model_type": "bert", "architectures": ["BertModel"], "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 64,
    });
    let dir = model(&bert);
    let read = || ModelInfo::read(dir.path()).unwrap();
    let plain = read();
    assert_eq!((plain.task, plain.kv_cache), (ModelTask::Embed, Some(KvCache::default())));
    let expected = EmbeddingInfo {
        dimension: Some(32),
        pooling: Some(Pooling::Mean),
        normalize: true,
        max_tokens: Some(64),
    };
    assert_eq!(plain.embedding, Some(expected));

    let module = |kind: &str, path: &str| json!({"type": format!("sentence_transformers.models.{kind}"), "path": path});
    let modules = |list: &[Value]| write_json(dir.path(), "modules.json", &list.into());
    write_json(
        dir.path(),
        "1_Pooling/config.json",
        &json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}),
    );
    write_json(dir.path(), "sentence_bert_config.json", &json!({"max_seq_length": 16}));
    modules(&[module("Transformer", ""), module("Pooling", "1_Pooling")]);
    let cls = EmbeddingInfo {
        pooling: Some(Pooling::Cls),
        normalize: false,
        max_tokens: Some(16),
        ..expected
    };
    assert_eq!(read().embedding, Some(cls));
    modules(&[
        module("Transformer", ""),
        module("Pooling", "1_Pooling"),
        module("Dense", "2_Dense"),
    ]);
    assert_eq!(read().embedding, Some(EmbeddingInfo { dimension: None, pooling: None, ..cls }));
    modules(&[module("Pooling", "../1_Pooling")]);
    assert!(refused(dir.path()).message().contains("../1_Pooling"));

    let task = |class: &str, labels: Value| {
        let mut config = json!({"model_type": "bert", "architectures": [class]});
        config.as_object_mut().unwrap().extend(labels.as_object().unwrap().clone());
        ModelInfo::read(model(&config).path()).unwrap().task
    };
    for class in ["Bert", "Roberta", "XLMRoberta", "Camembert"] {
        let class = format!("{class}ForSequenceClassification");
        assert_eq!(task(&class, json!({})), ModelTask::Other, "two labels by default");
        assert_eq!(task(&class, json!({"num_labels": 1})), ModelTask::Rerank);
        assert_eq!(task(&class, json!({"id2label": {"0": "LABEL_0"}})), ModelTask::Rerank);
        let three = json!({"id2label": {"0": "a", "1": "b", "2": "c"}});
        assert_eq!(task(&class, three), ModelTask::Other);
    }
    assert_eq!(
        task("DebertaV2ForSequenceClassification", json!({"num_labels": 1})),
        ModelTask::Other
    );
    let roberta = model(
        &json!({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}),
    );
    assert_eq!(ModelInfo::read(roberta.path()).unwrap().context, Some(512));
}

#[test]
fn a_file_that_was_cut_off_anywhere_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bee.gguf");
    // The file ends with its last tensor, so no missing byte can be padding.
    let mut gguf = gguf::llama().to_bytes();
    assert_eq!(gguf.len() % 32, 0);
    for length in 0..gguf.len() {
        fs::write(&path, &gguf[..length]).unwrap();
        let error = refused(&path);
        assert_eq!(error.kind(), ErrorKind::ModelIncompatible, "{length}: {error}");
        assert!(error.message().contains("bee.gguf"), "{error}");
    }
    gguf[0] = b'X';
    fs::write(&path, &gguf).unwrap();
    assert!(refused(&path).message().contains("begins with"));

    let dir = model(&json!({"model_type": "llama"}));
    let path = dir.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let error = refused(dir.path());
        assert_eq!(error.kind(), ErrorKind::ModelIncompatible, "{length}: {error}");
        assert!(error.message().contains("model.safetensors"), "{error}");
    }
}

#[test]
fn what_is_not_there_is_not_found_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let error = refused(&dir.path().join("none"));
    assert_eq!(error.kind(), ErrorKind::ModelNotFound);
    assert!(error.message().contains("none"), "{error}");
    let error = refused(dir.path());
    assert_eq!(error.kind(), ErrorKind::ModelNotFound);
    assert!(error.message().contains("has no weights"), "{error}");
    fs::write(dir.path().join("weights.bin"), "").unwrap();
    let error = refused(&dir.path().join("weights.bin"));
    assert_eq!(error.kind(), ErrorKind::ModelIncompatible);

    let index = json!({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}});
    write_json(dir.path(), "model.safetensors.index.json", &index);
    write_json(dir.path(), "config.json", &json!({"model_type": "llama"}));
    let shard = |name: &str| weights(&[(name, "F16", &[2], 4)]);
    fs::write(dir.path().join("model-1.safetensors"), shard("a")).unwrap();
    let error = refused(dir.path());
    assert_eq!(error.kind(), ErrorKind::ModelNotFound);
    assert!(error.message().contains("model-2.safetensors"), "{error}");
    fs::write(dir.path().join("model-2.safetensors"), shard("b")).unwrap();
    assert_eq!(ModelInfo::read(dir.path()).unwrap().parameters, Some(4));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused_by_name(
        edits in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..8), keep in proptest::option::of(any::<Index>()),
        noise in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)), which in 0_usize..3,
    ) {
        let dir = model(&json!({"model_type": "llama", "hidden_size": 64, "num_attention_heads": 8, "num_hidden_layers": 2}));
        let name = ["bee.gguf", "model.safetensors", "config.json"][which];
        let path = dir.path().join(name);
        let mut bytes = if which == 0 { gguf::llama().to_bytes() } else { fs::read(&path).unwrap() };
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(keep) = keep {
            let keep = keep.index(bytes.len());
            bytes.truncate(keep);
        }
        bytes = noise.unwrap_or(bytes);
        fs::write(&path, bytes).unwrap();
        match ModelInfo::read(if which == 0 { &path } else { dir.path() }) {
            Ok(info) => drop(info.memory(&MemoryNeed::default())),
            Err(error) => {
                prop_assert!(matches!(error.kind(), ErrorKind::ModelIncompatible | ErrorKind::ModelNotFound));
                prop_assert!(error.message().contains(name), "{}", error);
            }
        }
    }
}
