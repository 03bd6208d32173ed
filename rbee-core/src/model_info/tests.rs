//! Files that are written here, whole and damaged.

use std::{
    fs,
    path::{Path, PathBuf},
};

use proptest::{prelude::*, sample::Index};
use serde_json::{Value, json};

use super::*;
use crate::{Error, ErrorKind};

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/bee-tiny")
}

fn write_json(dir: &Path, name: &str, value: &Value) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, value.to_string()).unwrap();
}

/// A safetensors file of tensors of zeros.
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

/// Writes a GGUF file.
#[derive(Default)]
struct Gguf {
    values: Vec<u8>,
    value_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
    data: usize,
}

impl Gguf {
    fn llama() -> Self {
        Self::default()
            .text("general.architecture", "llama")
            .number("llama.context_length", 4096)
            .number("llama.embedding_length", 64)
            .number("llama.block_count", 3)
            .number("llama.attention.head_count", 8)
            .number("llama.attention.head_count_kv", 2)
            .text("tokenizer.ggml.model", "gpt2")
            .texts("tokenizer.ggml.tokens", &["a", "bc", ""])
            .tensor("token_embd.weight", &[64, 4], 12 + 2, 210)
            .tensor("output_norm.weight", &[64], 0, 256)
    }

    fn string(out: &mut Vec<u8>, text: &str) {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    }

    fn value(mut self, key: &str, kind: u32, value: impl FnOnce(&mut Vec<u8>)) -> Self {
        Self::string(&mut self.values, key);
        self.values.extend(kind.to_le_bytes());
        value(&mut self.values);
        self.value_count += 1;
        self
    }

    fn text(self, key: &str, text: &str) -> Self {
        self.value(key, 8, |out| Self::string(out, text))
    }

    fn number(self, key: &str, number: u32) -> Self {
        self.value(key, 4, |out| out.extend(number.to_le_bytes()))
    }

    fn list(self, key: &str, kind: u32, length: u64, bytes: &[u8]) -> Self {
        self.value(key, 9, |out| {
            out.extend(kind.to_le_bytes());
            out.extend(length.to_le_bytes());
            out.extend(bytes);
        })
    }

    fn texts(self, key: &str, texts: &[&str]) -> Self {
        let mut bytes = Vec::new();
        texts.iter().for_each(|text| Self::string(&mut bytes, text));
        self.list(key, 8, texts.len() as u64, &bytes)
    }

    fn numbers(self, key: &str, numbers: &[i32]) -> Self {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.list(key, 5, numbers.len() as u64, &bytes)
    }

    fn tensor(mut self, name: &str, shape: &[u64], kind: u32, bytes: usize) -> Self {
        let offset = self.data;
        self.data = (offset + bytes).next_multiple_of(32);
        self.tensor_at(name, shape, kind, offset as u64)
    }

    fn tensor_at(mut self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
        Self::string(&mut self.tensors, name);
        self.tensors.extend((shape.len() as u32).to_le_bytes());
        shape.iter().for_each(|side| self.tensors.extend(side.to_le_bytes()));
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
        self.tensor_count += 1;
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(self.tensor_count.to_le_bytes());
        file.extend(self.value_count.to_le_bytes());
        file.extend(&self.values);
        file.extend(&self.tensors);
        file.resize(file.len().next_multiple_of(32) + self.data, 0);
        file
    }

    fn write(&self, path: &Path) -> PathBuf {
        fs::write(path, self.bytes()).unwrap();
        path.to_owned()
    }
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

    let classifier =
        model(&json!({"model_type": "bert", "architectures": ["BertForSequenceClassification"]}));
    assert_eq!(ModelInfo::read(classifier.path()).unwrap().task, ModelTask::Other);
    let roberta = model(
        &json!({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}),
    );
    assert_eq!(ModelInfo::read(roberta.path()).unwrap().context, Some(512));
}

#[test]
fn a_gguf_file_is_described() {
    let dir = tempfile::tempdir().unwrap();
    let file = Gguf::llama()
        .number("general.file_type", 15)
        .text("general.license", "mit")
        .text("tokenizer.chat_template", "{{ messages }}")
        .write(&dir.path().join("bee.gguf"));
    let info = ModelInfo::read(&file).unwrap();
    assert_eq!((info.format, info.task), (ModelFormat::Gguf, ModelTask::Generate));
    assert_eq!((info.parameters, info.weights_bytes), (Some(320), 466));
    assert_eq!((&*info.dtype, info.quantization.as_deref()), ("F32", Some("Q4_K_M")));
    assert_eq!((info.context, info.vocab, info.head_dim), (Some(4_096), Some(3), Some(8)));
    assert_eq!(info.kv_cache, Some(KvCache { whole: 3 * 2 * 16, ..KvCache::default() }));
    assert_eq!((info.licence.as_deref(), info.has_chat_template), (Some("mit"), true));
    assert_eq!(ModelInfo::chat_template(&file).unwrap().as_deref(), Some("{{ messages }}"));
    assert_eq!(ModelInfo::read(dir.path()).unwrap(), info, "the only model of its directory");
}

#[test]
fn layers_of_a_gguf_file_may_differ() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bee.gguf");
    let model = || {
        Gguf::default()
            .text("general.architecture", "x")
            .number("x.block_count", 3)
            .number("x.attention.head_count", 4)
            .number("x.attention.key_length", 10)
            .number("x.attention.value_length", 6)
            .tensor("a", &[1], 0, 4)
    };
    let cache = |file: Gguf| ModelInfo::read(file.write(&path)).unwrap().kv_cache;
    let heads = model().numbers("x.attention.head_count_kv", &[1, 0, 2]);
    assert_eq!(cache(heads), Some(KvCache { whole: 16 * 3, ..KvCache::default() }));
    let slides = model().number("x.attention.sliding_window", 8).list(
        "x.attention.sliding_window_pattern",
        7,
        3,
        &[1, 0, 1],
    );
    assert_eq!(cache(slides), Some(KvCache { whole: 64, windowed: 128, window: 8 }));
    assert_eq!(cache(model().number("x.attention.kv_lora_rank", 4)), None);
    let bert = Gguf::default()
        .text("general.architecture", "bert")
        .number("bert.embedding_length", 32)
        .number("bert.context_length", 64)
        .number("bert.pooling_type", 2)
        .tensor("a", &[1], 0, 4);
    let info = ModelInfo::read(bert.write(&path)).unwrap();
    assert_eq!((info.task, info.kv_cache), (ModelTask::Embed, Some(KvCache::default())));
    assert_eq!(info.embedding.unwrap().pooling, Some(Pooling::Cls));
}

#[test]
fn the_parts_of_a_gguf_model_are_read_together() {
    let dir = tempfile::tempdir().unwrap();
    let name = |number: u32| dir.path().join(format!("bee-{number:05}-of-00002.gguf"));
    let count = |file: Gguf, number: u32| {
        file.value("split.no", 2, |out| out.extend((number as u16).to_le_bytes()))
            .value("split.count", 2, |out| out.extend(2_u16.to_le_bytes()))
            .value("split.tensors.count", 5, |out| out.extend(3_i32.to_le_bytes()))
    };
    let first = count(Gguf::llama(), 0).write(&name(1));
    assert_eq!(refused(&first).kind(), ErrorKind::ModelNotFound);
    assert!(refused(dir.path()).message().contains("bee-00002-of-00002.gguf"));
    count(Gguf::default().tensor("more", &[8], 0, 32), 1).write(&name(2));
    let info = ModelInfo::read(dir.path()).unwrap();
    assert_eq!((info.parameters, info.weights_bytes), (Some(328), 498));
    assert_eq!(ModelInfo::read(name(2)).unwrap(), info);
    count(Gguf::default().tensor("more", &[8], 0, 32), 0).write(&name(2));
    assert!(refused(&first).message().contains("is not file 2 of 2"));
    count(Gguf::default(), 1).write(&name(2));
    assert!(refused(&first).message().contains("is a model of 3 tensors"), "{}", refused(&first));
    Gguf::llama().write(&dir.path().join("other.gguf"));
    assert!(refused(dir.path()).message().contains("name one of the files"));
    Gguf::llama().write(&dir.path().join("mmproj-other.gguf"));
    ModelInfo::read(dir.path().join("other.gguf")).unwrap();
}

#[test]
fn a_file_that_was_cut_off_anywhere_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bee.gguf");
    // The file ends with its last tensor: not even padding can be missing.
    let mut gguf = Gguf::llama().bytes();
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
fn tensors_that_lie_on_one_another_or_outside_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bee.gguf");
    let said = |file: Gguf| refused(&file.write(&path)).message().to_owned();
    let over = said(Gguf::llama().tensor_at("x", &[4], 0, 16));
    assert!(
        over.contains("begins at byte 16 of the data; the one before it ends at 210"),
        "{over}"
    );
    let outside = said(Gguf::llama().tensor_at("x", &[4], 0, 1 << 40));
    assert!(outside.contains("it was cut off"), "{outside}");
    let huge = said(Gguf::llama().tensor_at("x", &[1 << 40, 1 << 40], 0, 480));
    assert!(huge.contains("which type F32 cannot have"), "{huge}");
    let odd = said(Gguf::llama().tensor_at("x", &[33], 8, 480));
    assert!(odd.contains("which type Q8_0 cannot have"), "{odd}");
    let twice = said(Gguf::llama().number("llama.block_count", 3));
    assert!(twice.contains("llama.block_count stands there twice"), "{twice}");
    let none = said(Gguf::default().text("general.architecture", "llama"));
    assert!(none.contains("has no tensors"), "{none}");
    let nameless = said(Gguf::default().tensor("x", &[1], 0, 4));
    assert!(nameless.contains("no general.architecture"), "{nameless}");
    // A type from the future is no reason to refuse, as long as the file is whole.
    ModelInfo::read(Gguf::llama().tensor("x", &[4], 4_000, 32).write(&path)).unwrap();
}

#[test]
fn counts_that_lie_take_neither_memory_nor_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bee.gguf");
    for kind in [0, 4, 8, 9, 12] {
        let file = Gguf::default().list("x", kind, u64::MAX, &[]);
        let error = refused(&file.write(&path));
        assert!(error.message().contains("past the end"), "{error}");
    }
    let nested = (0..9).fold(Vec::new(), |inner: Vec<u8>, _| {
        [&9_u32.to_le_bytes()[..], &1_u64.to_le_bytes(), &inner].concat()
    });
    let deep = Gguf::default().value("x", 9, |out| out.extend(nested));
    assert!(refused(&deep.write(&path)).message().contains("at depth 4"));
    let mut bytes = Gguf::llama().bytes();
    bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    assert!(refused(&path).message().contains("claims 18446744073709551615 tensors"));
    let mut big_endian = Gguf::llama().bytes();
    big_endian[4..8].copy_from_slice(&3_u32.to_be_bytes());
    fs::write(&path, &big_endian).unwrap();
    assert!(refused(&path).message().contains("big-endian"));
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
        let mut bytes = if which == 0 { Gguf::llama().bytes() } else { fs::read(&path).unwrap() };
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
