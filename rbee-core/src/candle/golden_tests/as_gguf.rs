//! The bundled model as a GGUF file.

use std::{collections::BTreeMap, fs, path::Path};

use candle_core::{DType, Device, safetensors};
use rbee_decoder::matrix::WeightType;
use serde_json::Value;
use tempfile::TempDir;

use super::{DIR, check, check_prompts, engine_of, golden};
use crate::candle::decoder::{
    reference_tests::{cases::Case, gguf},
    test_files,
};

fn json(file: &str) -> Value {
    serde_json::from_slice(&fs::read(Path::new(DIR).join(file)).unwrap()).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Writes the model with its matrices in this type.
fn written(kind: WeightType) -> TempDir {
    let tensors = safetensors::load(Path::new(DIR).join("model.safetensors"), &Device::Cpu);
    let tensors: BTreeMap<_, _> = tensors
        .unwrap()
        .into_iter()
        .map(|(name, tensor)| {
            let shape = tensor.dims().to_vec();
            let numbers = tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap();
            (name, (shape, numbers.to_vec1().unwrap()))
        })
        .collect();
    let (file, tensors) = gguf::parts(&Case::of(json("config.json"), tensors), kind);
    let tokenizer = json("tokenizer.json");
    let vocab = tokenizer["model"]["vocab"].as_object().unwrap();
    let (mut tokens, mut kinds) = (vec![String::new(); vocab.len()], vec![1_i32; vocab.len()]);
    for (token, id) in vocab {
        tokens[id.as_u64().unwrap() as usize].clone_from(token);
    }
    for added in tokenizer["added_tokens"].as_array().unwrap() {
        // Control tokens, and tokens that are written as text.
        let kind = if added["special"] == true { 3 } else { 4 };
        kinds[added["id"].as_u64().unwrap() as usize] = kind;
    }
    let merges = tokenizer["model"]["merges"].as_array().unwrap().iter();
    let merges: Vec<_> =
        merges.map(|pair| format!("{} {}", text(&pair[0]), text(&pair[1]))).collect();
    let file = file
        .with("tokenizer.ggml.model", "gpt2")
        .with("tokenizer.ggml.pre", "gpt-2")
        .with("tokenizer.ggml.tokens", tokens)
        .with("tokenizer.ggml.token_type", kinds)
        .with("tokenizer.ggml.merges", merges)
        .with("tokenizer.ggml.bos_token_id", 1_u32)
        .with("tokenizer.ggml.eos_token_id", 6_u32)
        .with("tokenizer.ggml.eot_token_id", 2_u32)
        .with("tokenizer.ggml.add_bos_token", true)
        .with("tokenizer.chat_template", text(&json("tokenizer_config.json")["chat_template"]));
    test_files::file("bee-tiny.gguf", &test_files::with_tensors(file, &tensors).to_bytes())
}

#[test]
fn a_gguf_file_of_16_bit_floats_gives_the_same_prompts_and_tokens() {
    let (dir, golden) = (written(WeightType::F16), golden());
    let engine = engine_of(dir.path());
    assert_eq!(engine.frontend.vocabulary.eos, [2, 6]);
    check_prompts(&engine, &golden);
    check(engine, &golden.cases);
}

#[test]
fn a_gguf_file_of_8_bits_gives_the_same_tokens() {
    let mut cases = golden().cases;
    // Rounding to 8 bits moves the logits by less than this.
    cases.retain(|case| case.min_gap > 0.1);
    assert!(cases.len() > 20, "{}", cases.len());
    check(engine_of(written(WeightType::Q8_0).path()), &cases);
}
