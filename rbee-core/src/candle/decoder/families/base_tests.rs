//! Values of single families: defaults, and what is refused.

use rbee_decoder::architecture::{Architecture, Experts};
use serde_json::json;

use super::{
    super::tests::{
        config, gemma3_270m, gemma3_gguf, llama_32_1b, of_config, of_metadata, phi3, qwen_25,
        qwen3_moe, with,
    },
    *,
};
use crate::model_info::CachePool;

/// The smallest configuration of a class: everything else has the values of the class.
fn class(class: &str, kind: &str) -> Value {
    json!({"architectures": [class], "model_type": kind})
}

fn windows(architecture: &Architecture) -> Vec<Option<usize>> {
    architecture.layers.iter().map(|layer| layer.window).collect()
}

#[test]
fn a_value_that_is_null_is_the_one_that_the_classes_compute() {
    let null = json!({"num_key_value_heads": null, "tie_word_embeddings": null});
    let a = config(with(llama_32_1b(), null)).architecture;
    assert_eq!((a.kv_heads, a.tied), (32, false));
    let a = config(with(qwen3_moe(), json!({"norm_topk_prob": null}))).architecture;
    assert_eq!(a.experts.map(|experts| experts.normalized), Some(false));
}

#[test]
fn both_forms_of_gelu_are_told_apart() {
    let activation = |name: &str| {
        config(with(llama_32_1b(), json!({"hidden_act": name}))).architecture.activation
    };
    assert_eq!(activation("gelu"), Activation::Gelu);
    assert_eq!(activation("gelu_pytorch_tanh"), Activation::GeluTanh);
}

#[test]
fn the_experts_of_qwen_have_two_names() {
    let mut renamed = qwen3_moe();
    let count = renamed.as_object_mut().unwrap().remove("num_experts").unwrap();
    renamed["num_local_experts"] = count;
    let found = config(renamed).architecture.experts;
    assert_eq!(found, Some(Experts { count: 128, used: 8, inner: 768, normalized: true }));
}

#[test]
fn gemma_has_its_own_scale_of_queries_and_its_own_base_below_a_window() {
    let gemma2 = class("Gemma2ForCausalLM", "gemma2");
    let largest = json!({"head_dim": 128, "query_pre_attn_scalar": 144});
    let a = config(with(gemma2, largest)).architecture;
    assert_eq!((a.query_scale, a.final_softcap), (144_f32.powf(-0.5), Some(30.0)));

    let parameters = json!({
        "full_attention": {"rope_type": "default", "rope_theta": 4e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 4e4},
    });
    let a = config(with(gemma3_270m(), json!({"rope_parameters": parameters}))).architecture;
    let half = |rope: usize| a.ropes[rope].inverse_frequencies[64];
    assert!((half(0) - 5e-4).abs() < 1e-9 && (half(1) - 5e-3).abs() < 1e-8, "{a:?}");
}

#[test]
fn a_layer_of_gemma_3_keeps_its_rotation_if_its_window_is_longer_than_any_text() {
    let from_config = config(with(gemma3_270m(), json!({"sliding_window": 32_768}))).architecture;
    let values = with(gemma3_gguf(), json!({"gemma3.attention.sliding_window": 32_768}));
    let from_gguf =
        of_metadata(&values, &[("token_embd.weight", &[262_144, 640])]).unwrap().architecture;
    for a in [from_config, from_gguf] {
        assert_eq!(windows(&a), [None; 18]);
        let ropes: Vec<_> = a.layers.iter().map(|layer| layer.rope).collect();
        assert_eq!(ropes[..7], [1, 1, 1, 1, 1, 0, 1]);
    }
}

/// The values of a small model: heads of 8.
fn in_gguf(kind: &str, changes: Value) -> Value {
    let mut values = json!({
        "context_length": 1024, "embedding_length": 64, "block_count": 4, "feed_forward_length": 96,
        "attention.head_count": 8, "attention.head_count_kv": 2, "attention.layer_norm_rms_epsilon": 1e-5,
    });
    if kind == "qwen3moe" {
        values["expert_feed_forward_length"] = 32.into();
    }
    let values = with(values, changes);
    let prefixed = values.as_object().unwrap().iter();
    let mut all: serde_json::Map<_, _> =
        prefixed.map(|(key, value)| (format!("{kind}.{key}"), value.clone())).collect();
    all.insert("general.architecture".into(), kind.into());
    all.into()
}

const EMBEDDING: (&str, &[usize]) = ("token_embd.weight", &[96, 64]);

fn described(kind: &str, changes: Value, more: &[(&str, &[usize])]) -> super::super::Description {
    of_metadata(&in_gguf(kind, changes), &[&[EMBEDDING], more].concat()).unwrap()
}

#[test]
fn the_tensors_of_a_gguf_file_say_which_biases_it_has_and_which_matrices_are_fused() {
    let plain = described("llama", json!({}), &[]).architecture;
    assert_eq!((plain.qkv_bias, plain.output_bias), (false, false));
    let bias = described("llama", json!({}), &[("blk.0.attn_output.bias", &[64])]).architecture;
    assert_eq!((bias.qkv_bias, bias.output_bias), (false, true));
    let tensors: [(&str, &[usize]); 2] =
        [("blk.0.attn_qkv.weight", &[96, 64]), ("blk.0.attn_qkv.bias", &[96])];
    let fused = described("phi3", json!({}), &tensors);
    assert!(fused.architecture.qkv_bias && fused.layout.fused_qkv);
    let apart = described("phi3", json!({}), &[]);
    assert!(!apart.architecture.qkv_bias && !apart.layout.fused_qkv && apart.layout.fused_gate);
}

#[test]
fn windows_in_gguf_files_are_read_in_every_family() {
    let window = json!({"attention.sliding_window": 256});
    for kind in ["llama", "phi3"] {
        assert_eq!(windows(&described(kind, window.clone(), &[]).architecture), [Some(256); 4]);
    }
    let pattern = with(window, json!({"attention.sliding_window_pattern": 2}));
    for kind in ["qwen2", "qwen3"] {
        let found = windows(&described(kind, pattern.clone(), &[]).architecture);
        assert_eq!(found, [Some(256), None, Some(256), None], "{kind}");
    }
}

#[test]
fn gemma_in_gguf_has_the_limits_of_its_generation_and_the_base_that_the_file_states() {
    let window = json!({"attention.sliding_window": 256, "rope.freq_base_swa": 4e4});
    let a = described("gemma2", json!({}), &[]).architecture;
    assert_eq!((a.attention_softcap, a.final_softcap, a.qk_norm), (Some(50.0), Some(30.0), false));
    let a = described("gemma3", window, &[]).architecture;
    assert_eq!((a.attention_softcap, a.final_softcap, a.qk_norm), (None, None, true));
    assert!((a.ropes[1].inverse_frequencies[2] - 5e-3).abs() < 1e-8, "{:?}", a.ropes[1]);
}

#[test]
fn metadata_of_every_family_that_is_wrong_or_of_another_kind_of_model_is_refused() {
    for (kind, changes, said) in [
        ("llama", json!({"vocab_size": 95}), "llama.vocab_size is 95; allowed is 96"),
        ("llama", json!({"attention.head_count": 1024}), "the width of a head is 0;"),
        ("llama", json!({"expert_count": 8}), "llama.expert_count is 8; allowed is 0"),
        ("phi3", json!({"expert_count": 8}), "phi3.expert_count is 8; allowed is 0"),
        ("qwen2", json!({"expert_count": 8}), "qwen2.expert_count is 8; allowed is 0"),
        ("gemma3", json!({"expert_used_count": 2}), "gemma3.expert_used_count is 2; allowed is 0"),
        (
            "qwen3moe",
            json!({"expert_count": 4, "expert_used_count": 5}),
            "each token uses 5 of 4 experts in 4 layers;",
        ),
        (
            "qwen3moe",
            json!({"expert_count": 4, "expert_used_count": 2, "expert_gating_func": 2}),
            "qwen3moe.expert_gating_func is 2; allowed is 1",
        ),
        (
            "gemma2",
            json!({"rope.freq_base": 1e4, "rope.freq_base_swa": 2e4}),
            "gemma2.rope.freq_base_swa is 20000.0; allowed is the same as rope.freq_base",
        ),
    ] {
        let changes = match kind {
            "gemma3" => with(changes, json!({"attention.sliding_window": 256})),
            _ => changes,
        };
        let error = of_metadata(&in_gguf(kind, changes), &[EMBEDDING]).expect_err(said).to_string();
        assert!(error.contains(said), "{error}");
    }
    for rows in [0, 4_194_305] {
        let tensors = [("token_embd.weight", &[rows, 64][..])];
        let error = of_metadata(&in_gguf("llama", json!({})), &tensors).unwrap_err().to_string();
        let said = format!("has shape [{rows}, 64]; allowed are 1 to 4194304 rows of 64 numbers");
        assert!(error.contains(&said), "{error}");
    }
}

#[test]
fn configurations_of_every_family_that_are_wrong_are_refused() {
    let kinds = vec!["linear_attention"; 24];
    for (base, changes, said) in [
        (phi3(false), json!({"attention_bias": true}), "attention_bias is true; allowed is false"),
        (phi3(false), json!({"lm_head_bias": true}), "lm_head_bias is true; allowed is false"),
        (
            class("MistralForCausalLM", "mistral"),
            json!({"attention_bias": true}),
            "attention_bias is true; allowed is false",
        ),
        (qwen_25(), json!({"layer_types": kinds}), "allowed is 24 of \"full_attention\""),
    ] {
        let error = of_config(&with(base, changes), CachePool::DEFAULT_CONTEXT)
            .expect_err(said)
            .to_string();
        assert!(error.contains(said), "{error}");
    }
}
