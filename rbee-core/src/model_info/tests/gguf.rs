//! GGUF files that the tests write.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{super::*, refused};
use crate::{
    error::ErrorKind,
    test_gguf::{GgufFile, GgufType, GgufValue},
};

pub(super) fn llama() -> GgufFile {
    GgufFile::new("llama")
        .with("llama.context_length", 4096_u32)
        .with("llama.embedding_length", 64_u32)
        .with("llama.block_count", 3_u32)
        .with("llama.attention.head_count", 8_u32)
        .with("llama.attention.head_count_kv", 2_u32)
        .with("tokenizer.ggml.model", "gpt2")
        .with("tokenizer.ggml.tokens", vec!["a", "bc", ""])
        .tensor("token_embd.weight", &[4, 64], GgufType::Q6K, vec![0; 210])
        .tensor("output_norm.weight", &[64], GgufType::F32, vec![0; 256])
}

fn write(file: &GgufFile, path: &Path) -> PathBuf {
    fs::write(path, file.to_bytes()).unwrap();
    path.to_owned()
}

#[test]
fn a_gguf_file_is_described() {
    let dir = tempfile::tempdir().unwrap();
    let file = llama()
        .with("general.file_type", 15_u32)
        .with("general.license", "mit")
        .with("tokenizer.chat_template", "{{ messages }}");
    let file = write(&file, &dir.path().join("bee.gguf"));
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
        GgufFile::new("x")
            .with("x.block_count", 3_u32)
            .with("x.attention.head_count", 4_u32)
            .with("x.attention.key_length", 10_u32)
            .with("x.attention.value_length", 6_u32)
            .tensor("a", &[1], GgufType::F32, vec![0; 4])
    };
    let cache = |file: GgufFile| ModelInfo::read(write(&file, &path)).unwrap().kv_cache;
    let heads = model().with("x.attention.head_count_kv", vec![1, 0, 2]);
    assert_eq!(cache(heads), Some(KvCache { whole: 16 * 3, ..KvCache::default() }));
    let slides = model()
        .with("x.attention.sliding_window", 8_u32)
        .with("x.attention.sliding_window_pattern", vec![true, false, true]);
    assert_eq!(cache(slides), Some(KvCache { whole: 64, windowed: 128, window: 8 }));
    assert_eq!(cache(model().with("x.attention.kv_lora_rank", 4_u32)), None);
    // Which layers of Gemma have a window is a fact about the architecture.
    let gemma = |name: &str| {
        GgufFile::new(name)
            .with(&format!("{name}.block_count"), 12_u32)
            .with(&format!("{name}.attention.head_count"), 1_u32)
            .with(&format!("{name}.attention.key_length"), 8_u32)
            .tensor("a", &[1], GgufType::F32, vec![0; 4])
    };
    let third = gemma("gemma3").with("gemma3.attention.sliding_window", 512_u32);
    assert_eq!(cache(third), Some(KvCache { whole: 32, windowed: 160, window: 512 }));
    assert_eq!(cache(gemma("gemma2")), Some(KvCache { whole: 96, windowed: 96, window: 4_096 }));
    let bert = GgufFile::new("bert")
        .with("bert.embedding_length", 32_u32)
        .with("bert.context_length", 64_u32)
        .with("bert.pooling_type", 2_u32)
        .tensor("a", &[1], GgufType::F32, vec![0; 4]);
    let info = ModelInfo::read(write(&bert, &path)).unwrap();
    assert_eq!((info.task, info.kv_cache), (ModelTask::Embed, Some(KvCache::default())));
    assert_eq!(info.embedding.unwrap().pooling, Some(Pooling::Cls));
    for (number, task) in [(4, ModelTask::Rerank), (5, ModelTask::Other)] {
        let file = GgufFile::new("bert").with("bert.pooling_type", number).tensor(
            "a",
            &[1],
            GgufType::F32,
            vec![0; 4],
        );
        let info = ModelInfo::read(write(&file, &path)).unwrap();
        assert_eq!((info.task, info.embedding), (task, None));
    }
}

#[test]
fn the_parts_of_a_gguf_model_are_read_together() {
    let dir = tempfile::tempdir().unwrap();
    let name = |number: u32| dir.path().join(format!("bee-{number:05}-of-00002.gguf"));
    let count = |file: GgufFile, number: u16| {
        file.with("split.no", number).with("split.count", 2_u16).with("split.tensors.count", 3_i32)
    };
    let first = write(&count(llama(), 0), &name(1));
    assert_eq!(refused(&first).kind(), ErrorKind::ModelNotFound);
    assert!(refused(dir.path()).message().contains("bee-00002-of-00002.gguf"));
    let more = || GgufFile::empty().tensor("more", &[8], GgufType::F32, vec![0; 32]);
    write(&count(more(), 1), &name(2));
    let info = ModelInfo::read(dir.path()).unwrap();
    assert_eq!((info.parameters, info.weights_bytes), (Some(328), 498));
    assert_eq!(ModelInfo::read(name(2)).unwrap(), info);
    write(&count(more(), 0), &name(2));
    assert!(refused(&first).message().contains("is not file 2 of 2"));
    write(&count(GgufFile::empty(), 1), &name(2));
    assert!(refused(&first).message().contains("is a model of 3 tensors"), "{}", refused(&first));
    write(&llama(), &dir.path().join("other.gguf"));
    assert!(refused(dir.path()).message().contains("name one of the files"));
    write(&llama(), &dir.path().join("mmproj-other.gguf"));
    ModelInfo::read(dir.path().join("other.gguf")).unwrap();
}

#[test]
fn tensors_that_lie_on_one_another_or_outside_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bee.gguf");
    let said = |file: GgufFile| refused(&write(&file, &path)).message().to_owned();
    let over = said(llama().tensor_at("x", &[4], GgufType::F32, 16));
    assert!(
        over.contains("begins at byte 16 of the data; the one before it ends at 210"),
        "{over}"
    );
    let outside = said(llama().tensor_at("x", &[4], GgufType::F32, 1 << 40));
    assert!(outside.contains("it was cut off"), "{outside}");
    let huge = said(llama().tensor_at("x", &[1 << 40, 1 << 40], GgufType::F32, 480));
    assert!(huge.contains("which type F32 cannot have"), "{huge}");
    let odd = said(llama().tensor_at("x", &[33], GgufType::Q8_0, 480));
    assert!(odd.contains("which type Q8_0 cannot have"), "{odd}");
    let twice = said(llama().with("llama.block_count", 3_u32));
    assert!(twice.contains("llama.block_count is listed twice"), "{twice}");
    let none = said(GgufFile::new("llama"));
    assert!(none.contains("has no tensors"), "{none}");
    let nameless = said(GgufFile::empty().tensor("x", &[1], GgufType::F32, vec![0; 4]));
    assert!(nameless.contains("no general.architecture"), "{nameless}");
    // An unknown type from a later version is no reason for a refusal, as long as the file is complete.
    let unknown = llama().tensor_of_number("x", &[4], 4_000, vec![0; 32]);
    ModelInfo::read(write(&unknown, &path)).unwrap();
}

#[test]
fn counts_that_lie_take_neither_memory_nor_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bee.gguf");
    for kind in [0, 4, 8, 9, 12] {
        let file = GgufFile::empty().with("x", GgufValue::raw_array(kind, u64::MAX, &[]));
        let error = refused(&write(&file, &path));
        assert!(error.message().contains("past the end"), "{error}");
    }
    let nested = (0..9).fold(Vec::new(), |inner: Vec<u8>, _| {
        [&9_u32.to_le_bytes()[..], &1_u64.to_le_bytes(), &inner].concat()
    });
    let deep = GgufFile::empty().with("x", GgufValue::Raw(9, nested));
    assert!(refused(&write(&deep, &path)).message().contains("at depth 4"));
    let mut bytes = llama().to_bytes();
    bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    assert!(refused(&path).message().contains("claims 18446744073709551615 tensors"));
    let mut big_endian = llama().to_bytes();
    big_endian[4..8].copy_from_slice(&3_u32.to_be_bytes());
    fs::write(&path, &big_endian).unwrap();
    assert!(refused(&path).message().contains("big-endian"));
}
