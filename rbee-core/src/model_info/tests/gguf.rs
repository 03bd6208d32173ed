//! GGUF files that the tests write.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{super::*, refused};
use crate::error::ErrorKind;

/// Writes a GGUF file.
#[derive(Default)]
pub(super) struct Gguf {
    values: Vec<u8>,
    value_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
    data: usize,
}

impl Gguf {
    pub(super) fn llama() -> Self {
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

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(self.tensor_count.to_le_bytes());
        file.extend(self.value_count.to_le_bytes());
        file.extend(&self.values);
        file.extend(&self.tensors);
        file.resize(file.len().next_multiple_of(32) + self.data, 0);
        file
    }

    pub(super) fn write(&self, path: &Path) -> PathBuf {
        fs::write(path, self.bytes()).unwrap();
        path.to_owned()
    }
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
    assert_eq!((info.license.as_deref(), info.has_chat_template), (Some("mit"), true));
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
    // Which layers of Gemma have a window is a fact about the architecture.
    let gemma = |name: &str| {
        Gguf::default()
            .text("general.architecture", name)
            .number(&format!("{name}.block_count"), 12)
            .number(&format!("{name}.attention.head_count"), 1)
            .number(&format!("{name}.attention.key_length"), 8)
            .tensor("a", &[1], 0, 4)
    };
    let third = gemma("gemma3").number("gemma3.attention.sliding_window", 512);
    assert_eq!(cache(third), Some(KvCache { whole: 32, windowed: 160, window: 512 }));
    assert_eq!(cache(gemma("gemma2")), Some(KvCache { whole: 96, windowed: 96, window: 4_096 }));
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
    assert!(twice.contains("llama.block_count is listed twice"), "{twice}");
    let none = said(Gguf::default().text("general.architecture", "llama"));
    assert!(none.contains("has no tensors"), "{none}");
    let nameless = said(Gguf::default().tensor("x", &[1], 0, 4));
    assert!(nameless.contains("no general.architecture"), "{nameless}");
    // An unknown type from a later version is no reason for a refusal, as long as the file is complete.
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
