//! Models as GGUF files, as llama.cpp's converter lays them out.

use candle_core::{
    DType, Device, Tensor,
    quantized::{GgmlDType, QTensor},
};
use rbee_decoder::matrix::WeightType;
use serde_json::Value;

use super::{super::test_files::Written, cases::Case};
use crate::test_gguf::GgufFile;

/// The bytes of numbers in a data type.
pub(super) fn quantize(numbers: Vec<f32>, shape: &[usize], kind: WeightType) -> Vec<u8> {
    let tensor = Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap();
    let kind = match kind {
        WeightType::F32 => GgmlDType::F32,
        WeightType::F16 => GgmlDType::F16,
        WeightType::Bf16 => GgmlDType::BF16,
        WeightType::Q4_0 => GgmlDType::Q4_0,
        WeightType::Q4_1 => GgmlDType::Q4_1,
        WeightType::Q5_0 => GgmlDType::Q5_0,
        WeightType::Q5_1 => GgmlDType::Q5_1,
        WeightType::Q8_0 => GgmlDType::Q8_0,
        WeightType::Q2K => GgmlDType::Q2K,
        WeightType::Q3K => GgmlDType::Q3K,
        WeightType::Q4K => GgmlDType::Q4K,
        WeightType::Q5K => GgmlDType::Q5K,
        WeightType::Q6K => GgmlDType::Q6K,
    };
    let tensor = tensor.to_dtype(DType::F32).unwrap();
    QTensor::quantize(&tensor, kind).unwrap().data().unwrap().into_owned()
}

/// The roles of a layer: their names in `model.safetensors`, and in GGUF files.
const ROLES: [(&str, &str); 22] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.gate", "ffn_gate_inp"),
    ("mlp.experts.gate_proj", "ffn_gate_exps"),
    ("mlp.experts.up_proj", "ffn_up_exps"),
    ("mlp.experts.down_proj", "ffn_down_exps"),
    ("model.norm", "output_norm"),
    ("model.embed_tokens", "token_embd"),
    ("lm_head", "output"),
    ("post_attention_layernorm", "ffn_norm"),
];

/// The architecture's name in GGUF files.
fn architecture(case: &Case) -> &str {
    match case.config["model_type"].as_str().unwrap() {
        "mistral" => "llama",
        "qwen3_moe" => "qwen3moe",
        "gemma3_text" => "gemma3",
        other => other,
    }
}

/// The name of a tensor. That of an expert is the one of the tensor of all experts.
fn name(case: &Case, name: &str) -> String {
    let (stem, suffix) = name.rsplit_once('.').unwrap();
    let (layer, role) =
        match stem.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')) {
            Some((layer, role)) => (format!("blk.{layer}."), role.to_owned()),
            None => (String::new(), stem.to_owned()),
        };
    let role: Vec<&str> = role.split('.').filter(|part| part.parse::<u32>().is_err()).collect();
    let role = role.join(".");
    if architecture(case).starts_with("gemma") && role == "post_attention_layernorm" {
        return format!("{layer}post_attention_norm.{suffix}");
    }
    let found = ROLES.iter().find(|(other, _)| *other == role);
    format!("{layer}{}.{suffix}", found.unwrap_or_else(|| panic!("{name}")).1)
}

/// The rows of a Llama's queries or keys in the order of GGUF files, in which the two numbers of a pair are neighbors.
fn interleaved(numbers: &[f32], heads: usize, rows: usize) -> Vec<f32> {
    let (cols, head) = (numbers.len() / rows, rows / heads);
    let row = |at: usize| {
        let (start, at) = (at / head * head, at % head);
        let row = start + at / 2 + at % 2 * (head / 2);
        &numbers[row * cols..(row + 1) * cols]
    };
    (0..rows).flat_map(row).copied().collect()
}

/// The numbers of a tensor as GGUF files have them.
fn numbers(case: &Case, name: &str) -> Vec<f32> {
    let mut numbers = case.tensor(name);
    let (kind, shape) = (architecture(case), &case.tensors[name]);
    let heads = |key: &str| case.config[key].as_u64().unwrap() as usize;
    if kind == "llama" && name.contains("q_proj") {
        numbers = interleaved(&numbers, heads("num_attention_heads"), shape[0]);
    }
    if kind == "llama" && name.contains("k_proj") {
        numbers = interleaved(&numbers, heads("num_key_value_heads"), shape[0]);
    }
    if kind.starts_with("gemma") && name.ends_with("norm.weight") {
        numbers.iter_mut().for_each(|number| *number += 1.0);
    }
    numbers
}

/// True if a GGUF file can describe the model.
pub(super) fn can_have(case: &Case) -> bool {
    let config = &case.config;
    let scale = |name: &str| config[name].as_f64();
    // The format has no window of Qwen 2, no dense layers among those with experts, and no scale of the scores.
    !(config["use_sliding_window"] == true
        || config["mlp_only_layers"].as_array().is_some_and(|layers| !layers.is_empty())
        || scale("query_pre_attn_scalar").is_some_and(|it| Some(it) != scale("head_dim")))
}

/// A model with its matrices in this type: metadata and tensors. Norms, biases and the router have 32 bits.
pub(in crate::candle) fn parts(case: &Case, kind: WeightType) -> (GgufFile, Vec<Written>) {
    let mut tensors = Vec::new();
    let file = metadata(case, &mut tensors);
    for (own, shape) in &case.tensors {
        let exact = shape.len() == 1 || own.ends_with("mlp.gate.weight");
        let kind = if exact { WeightType::F32 } else { kind };
        let quantized = |own: &str| quantize(numbers(case, own), shape, kind);
        let (shape, bytes) = if !own.contains(".experts.") {
            (shape.clone(), quantized(own))
        } else if own.contains(".experts.0.") {
            let count = case.config["num_experts"].as_u64().unwrap() as usize;
            let of = |expert: usize| own.replace(".experts.0.", &format!(".experts.{expert}."));
            let bytes = (0..count).flat_map(|expert| quantized(&of(expert))).collect();
            (vec![count, shape[0], shape[1]], bytes)
        } else {
            continue;
        };
        tensors.push(Written { name: name(case, own), kind, shape, bytes });
    }
    (file, tensors)
}

fn metadata(case: &Case, tensors: &mut Vec<Written>) -> GgufFile {
    let (config, prefix) = (&case.config, architecture(case));
    let key = |key: &str| format!("{prefix}.{key}");
    let number = |key: &str| config[key].as_f64().map(|number| number as f32);
    let count = |key: &str| config[key].as_u64().map(|count| count as u32);
    let mut file = GgufFile::new(prefix);
    for (theirs, ours) in [
        ("vocab_size", "vocab_size"),
        ("max_position_embeddings", "context_length"),
        ("hidden_size", "embedding_length"),
        ("num_hidden_layers", "block_count"),
        ("intermediate_size", "feed_forward_length"),
        ("num_attention_heads", "attention.head_count"),
        ("num_key_value_heads", "attention.head_count_kv"),
        ("head_dim", "attention.key_length"),
        ("head_dim", "attention.value_length"),
        ("num_experts", "expert_count"),
        ("num_experts_per_tok", "expert_used_count"),
        ("moe_intermediate_size", "expert_feed_forward_length"),
        ("original_max_position_embeddings", "rope.scaling.original_context_length"),
    ] {
        if let Some(count) = count(theirs) {
            file = file.with(&key(ours), count);
        }
    }
    if let Some(normalized) = config["norm_topk_prob"].as_bool() {
        file = file.with(&key("expert_weights_norm"), normalized);
    }
    if let Some(window) = count("sliding_window") {
        file = file.with(&key("attention.sliding_window"), window);
    }
    for (theirs, ours) in [
        ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
        ("rope_theta", "rope.freq_base"),
        ("attn_logit_softcapping", "attn_logit_softcapping"),
        ("final_logit_softcapping", "final_logit_softcapping"),
    ] {
        if let Some(number) = number(theirs) {
            file = file.with(&key(ours), number);
        }
    }
    let (hidden, heads) = (count("hidden_size").unwrap(), count("num_attention_heads").unwrap());
    let head_dim = count("head_dim").unwrap_or(hidden / heads);
    let rotated = head_dim as f32 * number("partial_rotary_factor").unwrap_or(1.0);
    file = file.with(&key("rope.dimension_count"), rotated as u32);
    rotation(case, file, head_dim, tensors)
}

/// Adds how rotations are scaled.
fn rotation(
    case: &Case,
    mut file: GgufFile,
    head_dim: u32,
    tensors: &mut Vec<Written>,
) -> GgufFile {
    let (config, prefix) = (&case.config, architecture(case));
    let key = |key: &str| format!("{prefix}.{key}");
    let scaling = match &config["rope_scaling"] {
        Value::Null => &config["rope_parameters"],
        scaling => scaling,
    };
    let number = |key: &str| scaling[key].as_f64().unwrap();
    let mut factors =
        |name: &str, factors: Vec<f32>| tensors.push(Written::of_numbers(name, &factors));
    if let Some(theta) = scaling["rope_theta"].as_f64().filter(|_| config["rope_theta"].is_null()) {
        file = file.with(&key("rope.freq_base"), theta as f32);
    }
    match scaling["rope_type"].as_str().or(scaling["type"].as_str()) {
        Some(kind @ ("linear" | "yarn")) => {
            file = file
                .with(&key("rope.scaling.type"), kind)
                .with(&key("rope.scaling.factor"), number("factor") as f32);
            if kind == "yarn" {
                let original = number("original_max_position_embeddings") as u32;
                file = file.with(&key("rope.scaling.original_context_length"), original);
            }
            file
        }
        Some("llama3") => {
            let (low, high) = (number("low_freq_factor"), number("high_freq_factor"));
            let original = number("original_max_position_embeddings");
            let theta = config["rope_theta"].as_f64().unwrap();
            let factor = |pair: u32| {
                let frequency = theta.powf(-2.0 * f64::from(pair) / f64::from(head_dim));
                let turns = original * frequency / std::f64::consts::TAU;
                let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                (1.0 / (smooth + (1.0 - smooth) / number("factor"))) as f32
            };
            factors("rope_freqs.weight", (0..head_dim / 2).map(factor).collect());
            file
        }
        Some("longrope") => {
            let positions = config["max_position_embeddings"].as_f64().unwrap();
            let original = config["original_max_position_embeddings"].as_f64().unwrap();
            let magnitude = (1.0 + (positions / original).ln() / original.ln()).sqrt();
            file = file.with(&key("rope.scaling.attn_factor"), magnitude as f32);
            for (theirs, ours) in [
                ("long_factor", "rope_factors_long.weight"),
                ("short_factor", "rope_factors_short.weight"),
            ] {
                let list = scaling[theirs].as_array().unwrap().iter();
                let list = list.map(|factor| factor.as_f64().unwrap() as f32).collect();
                factors(ours, list);
            }
            file
        }
        _ => file,
    }
}
