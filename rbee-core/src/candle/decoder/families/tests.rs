mod gguf;
mod refused;

use std::{collections::BTreeMap, path::Path};

use rbee_decoder::architecture::{Activation, Experts, Pairs};
use serde_json::{Value, json};

use super::*;
use crate::{
    candle::{
        config_fields::ConfigFields,
        decoder::{
            plan::{Names, Plan},
            test_files,
            weights::StoredWeights,
        },
    },
    model_info::CachePool,
};

pub(super) fn of_config(config: &Value, context: u32) -> Loaded<Description> {
    let dir = test_files::file("config.json", config.to_string().as_bytes());
    let config = crate::model_info::families::read(&dir.path().join("config.json"))?;
    let whole = ConfigFields::new(Path::new("config.json"), &config);
    let class = whole.get("architectures").and_then(|list| list.get(0)?.as_str()).unwrap();
    let fields = match whole.object("text_config")? {
        Some(text) => text,
        None => ConfigFields::new(Path::new("config.json"), &config),
    };
    let prefixed = ("language_model.model.embed_tokens.weight", &[1_usize, 1][..]);
    let is_prefixed = class == "Gemma3ForConditionalGeneration";
    let tensors = if is_prefixed { vec![prefixed] } else { Vec::new() };
    let weights = StoredWeights::listed(&tensors);
    Family::of_class(class).unwrap().describe(&Source::config(fields, &weights, context))
}

pub(super) fn config(config: Value) -> Description {
    of_config(&config, CachePool::DEFAULT_CONTEXT).unwrap()
}

pub(super) fn of_metadata(values: &Value, tensors: &[(&str, &[usize])]) -> Loaded<Description> {
    let values: BTreeMap<_, _> = test_files::values(values).into_iter().collect();
    let Some(crate::model_info::gguf::Value::Text(name)) = values.get("general.architecture")
    else {
        panic!("{values:?}")
    };
    let weights = StoredWeights::listed(tensors);
    let object = object(&values, name);
    let fields = ConfigFields::below(Path::new("bee.gguf"), format!("{name}."), &object);
    let source = Source::metadata(fields, &values, name, &weights, CachePool::DEFAULT_CONTEXT);
    Family::of_architecture(name).unwrap().describe(&source)
}

/// The same with the contents of tensors.
pub(super) fn of_file(
    values: &Value,
    tensors: &[test_files::Written],
    context: u32,
) -> Loaded<Description> {
    let values = test_files::values(values);
    let dir = test_files::file("bee.gguf", &test_files::gguf(&values, tensors));
    let parts = crate::model_info::gguf::open_all(&test_files::path(&dir, "bee.gguf")).unwrap();
    let weights = StoredWeights::gguf(parts).unwrap();
    let values: BTreeMap<_, _> = values.into_iter().collect();
    let Some(crate::model_info::gguf::Value::Text(name)) = values.get("general.architecture")
    else {
        panic!("{values:?}")
    };
    let object = object(&values, name);
    let fields = ConfigFields::below(Path::new("bee.gguf"), format!("{name}."), &object);
    let source = Source::metadata(fields, &values, name, &weights, context);
    Family::of_architecture(name).unwrap().describe(&source)
}

pub(super) fn llama_32_1b() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": false, "head_dim": 64,
        "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 8192, "max_position_embeddings": 131072,
        "mlp_bias": false, "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": true, "vocab_size": 128256,
        "rope_scaling": {
            "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3",
        },
    })
}

/// The same object with these changes; `null` removes nothing, but is a value of its own.
pub(super) fn with(mut object: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        object[key] = value.clone();
    }
    object
}

fn llama_31_8b() -> Value {
    let scaling = with(llama_32_1b()["rope_scaling"].clone(), json!({"factor": 8.0}));
    let changes = json!({
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "tie_word_embeddings": false,
        "head_dim": 128, "rope_scaling": scaling,
    });
    with(llama_32_1b(), changes)
}

pub(super) fn qwen_25() -> Value {
    json!({
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu", "hidden_size": 896,
        "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 21,
        "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": true,
        "use_sliding_window": false, "vocab_size": 151936,
    })
}

pub(super) fn qwen3_moe() -> Value {
    json!({
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "attention_bias": false,
        "decoder_sparse_step": 1, "head_dim": 128, "hidden_act": "silu", "hidden_size": 2048,
        "intermediate_size": 6144, "max_position_embeddings": 40960, "max_window_layers": 48,
        "mlp_only_layers": [], "moe_intermediate_size": 768, "norm_topk_prob": true, "num_attention_heads": 32,
        "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4,
        "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000.0, "sliding_window": null,
        "tie_word_embeddings": false, "use_sliding_window": false, "vocab_size": 151936,
    })
}

pub(super) fn gemma3_270m() -> Value {
    let kinds: Vec<_> = (1..=18)
        .map(|layer| if layer % 6 == 0 { "full_attention" } else { "sliding_attention" })
        .collect();
    json!({
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "_sliding_window_pattern": 6,
        "attention_bias": false, "attn_logit_softcapping": null, "final_logit_softcapping": null,
        "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 640,
        "intermediate_size": 2048, "layer_types": kinds, "max_position_embeddings": 32768,
        "num_attention_heads": 4, "num_hidden_layers": 18, "num_key_value_heads": 1,
        "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000.0,
        "rope_scaling": null, "rope_theta": 1000000.0, "sliding_window": 512,
        "use_bidirectional_attention": false, "vocab_size": 262144,
    })
}

pub(super) fn gemma3_gguf() -> Value {
    json!({
        "general.architecture": "gemma3", "gemma3.context_length": 32768, "gemma3.embedding_length": 640,
        "gemma3.block_count": 18, "gemma3.feed_forward_length": 2048, "gemma3.attention.head_count": 4,
        "gemma3.attention.layer_norm_rms_epsilon": 1e-6, "gemma3.attention.key_length": 256,
        "gemma3.attention.value_length": 256, "gemma3.rope.freq_base": 1000000.0,
        "gemma3.attention.sliding_window": 512, "gemma3.attention.head_count_kv": 1,
    })
}

pub(super) fn phi3(extended: bool) -> Value {
    let plain = json!({
        "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "attention_bias": false, "hidden_act": "silu",
        "hidden_size": 3072, "intermediate_size": 8192, "max_position_embeddings": 4096,
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
        "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-05, "rope_scaling": null,
        "rope_theta": 10000.0, "sliding_window": 2047, "tie_word_embeddings": false, "vocab_size": 32064,
    });
    if !extended {
        return plain;
    }
    let short: Vec<_> = (0..48).map(|pair| 1.0 + f64::from(pair) / 64.0).collect();
    let long: Vec<_> = (0..48).map(|pair| 1.0 + f64::from(pair)).collect();
    let scaling = json!({"type": "longrope", "short_factor": short, "long_factor": long});
    let changes = json!({
        "max_position_embeddings": 131072, "rope_scaling": scaling, "sliding_window": 262144,
    });
    with(plain, changes)
}

/// Compares some of the frequencies with those that the functions of transformers give.
#[track_caller]
pub(super) fn assert_frequencies(
    rope: &rbee_decoder::architecture::Rope,
    expected: &[(usize, f32)],
) {
    for (pair, expected) in expected {
        let found = rope.inverse_frequencies[*pair];
        assert!((found - expected).abs() <= 1e-6 * expected, "{pair}: {found} {expected}");
    }
}

#[test]
fn the_architecture_of_llama_and_its_like() {
    let Description { architecture: a, layout, .. } = config(llama_32_1b());
    assert_eq!((a.family, a.vocab, a.hidden, a.inner), ("Llama", 128_256, 2_048, 8_192));
    assert_eq!((a.heads, a.kv_heads, a.head_dim, a.layers.len()), (32, 8, 64, 16));
    assert_eq!((a.tied, a.qkv_bias, a.qk_norm, a.post_norms), (true, false, false, false));
    assert_eq!((a.norm_eps, a.norm_shift, a.query_scale), (1e-5, 0.0, 0.125));
    assert_eq!((a.activation, layout), (Activation::Silu, Layout::default()));
    assert_eq!((a.ropes[0].pairs, a.ropes[0].magnitude), (Pairs::Halves, 1.0));
    assert_frequencies(
        &a.ropes[0],
        &[
            (0, 1.0),
            (1, 0.663_601_3),
            (8, 0.037_606_03),
            (16, 4.295_567e-4),
            (24, 1.661_967_4e-6),
            (31, 9.418_306e-8),
        ],
    );
    let a = config(llama_31_8b()).architecture;
    assert!(!a.tied);
    assert_frequencies(
        &a.ropes[0],
        &[(1, 0.814_617_2), (32, 5.248_46e-4), (48, 6.647_869_7e-6), (63, 3.068_926e-7)],
    );

    let mistral = json!({
        "architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_act": "silu",
        "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 32768,
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": false, "vocab_size": 32000,
    });
    let first = config(mistral.clone()).architecture;
    assert!(first.layers.iter().all(|layer| layer.window == Some(4_096)));
    assert_eq!((first.family, first.head_dim), ("Mistral", 128));
    let changes = json!({"sliding_window": null, "rope_theta": 1e6, "vocab_size": 32768});
    let third = config(with(mistral, changes)).architecture;
    assert!(third.layers.iter().all(|layer| layer.window.is_none()));

    let smol = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 576,
        "intermediate_size": 1536, "max_position_embeddings": 8192, "num_attention_heads": 9,
        "num_hidden_layers": 30, "num_key_value_heads": 3, "rms_norm_eps": 1e-05, "rope_interleaved": false,
        "rope_scaling": null, "rope_theta": 100000, "tie_word_embeddings": true, "vocab_size": 49152,
    });
    let a = config(smol).architecture;
    assert_eq!((a.head_dim, a.layers.len(), a.positions, a.tied), (64, 30, 8_192, true));
    assert_frequencies(&a.ropes[0], &[(16, 100_000_f32.powf(-0.5))]);
    let yi = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 4096,
        "intermediate_size": 11008, "max_position_embeddings": 4096, "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 4, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_theta": 5000000.0, "tie_word_embeddings": false, "vocab_size": 64000,
    });
    let a = config(yi).architecture;
    assert_eq!((a.kv_heads, a.positions, a.vocab), (4, 4_096, 64_000));
    let bias = config(with(llama_32_1b(), json!({"attention_bias": true}))).architecture;
    assert!(bias.qkv_bias && bias.output_bias);
}

#[test]
fn the_architecture_of_qwen() {
    let a = config(qwen_25()).architecture;
    assert_eq!((a.family, a.heads, a.kv_heads, a.head_dim), ("Qwen2", 14, 2, 64));
    assert_eq!((a.qkv_bias, a.output_bias, a.qk_norm, a.tied), (true, false, false, true));
    assert!(a.layers.iter().all(|layer| layer.window.is_none()));
    let changes = json!({"use_sliding_window": true, "sliding_window": 4096});
    let windowed = config(with(qwen_25(), changes)).architecture;
    let windows: Vec<_> = windowed.layers.iter().map(|layer| layer.window).collect();
    assert_eq!(windows[20..22], [None, Some(4_096)]);

    let yarn = json!({"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"});
    let changes = json!({"hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4, "rope_scaling": yarn});
    let a = config(with(qwen_25(), changes.clone())).architecture;
    assert_eq!(a.ropes[0].magnitude, 1.138_629_4);
    assert_frequencies(
        &a.ropes[0],
        &[
            (1, 0.805_842_2),
            (16, 0.031_622_78),
            (32, 6.029_411_5e-4),
            (48, 7.905_694e-6),
            (63, 3.102_344_4e-7),
        ],
    );
    let more = json!({"truncate": false, "mscale": 0.7, "mscale_all_dim": 0.5, "beta_fast": 16, "beta_slow": 2});
    let changes = with(changes, json!({"rope_scaling": with(yarn, more)}));
    let a = config(with(qwen_25(), changes)).architecture;
    assert_eq!(a.ropes[0].magnitude, 1.025_928_6);
    assert_frequencies(&a.ropes[0], &[(32, 5.956_8e-4), (48, 7.905_694e-6)]);

    let qwen3 = json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": false, "head_dim": 128,
        "hidden_act": "silu", "hidden_size": 1024, "intermediate_size": 3072, "max_position_embeddings": 40960,
        "max_window_layers": 28, "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null,
        "tie_word_embeddings": true, "use_sliding_window": false, "vocab_size": 151936,
    });
    let a = config(qwen3).architecture;
    assert_eq!((a.qk_norm, a.qkv_bias, a.head_dim, a.hidden), (true, false, 128, 1_024));
    assert_eq!(a.experts, None);

    let Description { architecture: a, layout, .. } = config(qwen3_moe());
    let experts = Experts { count: 128, used: 8, inner: 768, normalized: true };
    assert_eq!((a.experts, a.qk_norm, layout.fused_experts), (Some(experts), true, false));
    assert!(a.layers.iter().all(|layer| layer.experts));
    let changes =
        json!({"mlp_only_layers": [1], "decoder_sparse_step": 2, "norm_topk_prob": false});
    let a = config(with(qwen3_moe(), changes)).architecture;
    let mixed: Vec<_> = a.layers.iter().take(4).map(|layer| layer.experts).collect();
    assert_eq!((mixed, a.experts.unwrap().normalized), (vec![false, false, false, true], false));
}

#[test]
fn the_architecture_of_gemma() {
    let gemma2 = json!({
        "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "attention_bias": false,
        "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "head_dim": 256,
        "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2304,
        "intermediate_size": 9216, "max_position_embeddings": 8192, "num_attention_heads": 8,
        "num_hidden_layers": 26, "num_key_value_heads": 4, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
        "rope_theta": 10000.0, "sliding_window": 4096, "vocab_size": 256000,
    });
    let a = config(gemma2).architecture;
    assert_eq!((a.attention_softcap, a.final_softcap), (Some(50.0), Some(30.0)));
    assert_eq!((a.norm_shift, a.post_norms, a.qk_norm, a.tied), (1.0, true, false, true));
    assert_eq!((a.embedding_scale, a.query_scale), (48.0, 0.0625));
    assert_eq!(a.activation, Activation::GeluTanh);
    let windows: Vec<_> = a.layers.iter().map(|layer| layer.window).collect();
    assert_eq!(windows[..3], [Some(4_096), None, Some(4_096)]);

    let a = config(gemma3_270m()).architecture;
    assert_eq!((a.hidden, a.heads, a.kv_heads, a.head_dim), (640, 4, 1, 256));
    assert_eq!((a.qk_norm, a.attention_softcap, a.final_softcap), (true, None, None));
    assert_eq!(a.embedding_scale, 640_f32.sqrt());
    let layer = |layer: usize| (a.layers[layer].window, a.layers[layer].rope);
    assert_eq!((layer(0), layer(4), layer(5)), ((Some(512), 1), (Some(512), 1), (None, 0)));
    assert_frequencies(&a.ropes[0], &[(64, 1e-3)]);
    assert_frequencies(&a.ropes[1], &[(64, 1e-2)]);
    // Without a list of its layers, and in the form of transformers 5.
    let old = with(gemma3_270m(), json!({"layer_types": null, "sliding_window_pattern": 6}));
    assert_eq!(config(old).architecture, a);
    let parameters = json!({
        "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    });
    let mut new = with(gemma3_270m(), json!({"rope_parameters": parameters}));
    for key in ["rope_theta", "rope_local_base_freq", "rope_scaling"] {
        new.as_object_mut().unwrap().remove(key);
    }
    assert_eq!(config(new).architecture, a);

    // The text part of a model that also sees images states only what its class does not.
    let images = json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
        "text_config": {
            "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
            "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024,
        },
        "vision_config": {"hidden_size": 1152},
    });
    let Description { architecture: a, layout, .. } = config(images);
    assert_eq!((a.vocab, a.heads, a.kv_heads, a.head_dim), (262_208, 8, 4, 256));
    assert_eq!((a.layers.len(), a.layers[5].window, a.layers[6].window), (34, None, Some(1_024)));
    assert!(matches!(layout.names, Names::Prefixed { model: "language_model.model.", .. }));
    assert_frequencies(
        &a.ropes[0],
        &[(0, 0.125), (1, 0.112_210_89), (64, 1.25e-4), (127, 1.392_467_4e-7)],
    );
    assert_frequencies(&a.ropes[1], &[(0, 1.0), (64, 1e-2)]);
}

#[test]
fn the_architecture_of_phi() {
    let Description { architecture: a, layout, .. } = config(phi3(false));
    assert_eq!((layout.fused_qkv, layout.fused_gate), (true, true));
    assert_eq!((a.head_dim, a.kv_heads), (96, 32));
    assert!(a.layers.iter().all(|layer| layer.window == Some(2_047)));

    // The window is longer than the longest text, and the factors are chosen by the context that is offered.
    let short = of_config(&phi3(true), 4_096).unwrap().architecture;
    let long = of_config(&phi3(true), 4_097).unwrap().architecture;
    assert!(short.layers.iter().all(|layer| layer.window.is_none()));
    assert_eq!((short.ropes[0].magnitude, long.ropes[0].magnitude), (1.190_238_1, 1.190_238_1));
    assert_frequencies(
        &short.ropes[0],
        &[(1, 0.812_705_64), (12, 0.084_210_53), (24, 7.272_727_3e-3), (47, 6.985_384e-5)],
    );
    assert_frequencies(
        &long.ropes[0],
        &[(1, 0.412_702_08), (12, 7.692_308e-3), (24, 4e-4), (47, 2.524_015_6e-6)],
    );

    let changes = json!({
        "num_attention_heads": 24, "num_key_value_heads": 8, "partial_rotary_factor": 0.75,
        "tie_word_embeddings": true, "vocab_size": 200064, "full_attn_mod": 1, "lm_head_bias": false,
    });
    let mini = config(with(phi3(true), changes)).architecture;
    assert_eq!(
        (mini.head_dim, mini.ropes[0].inverse_frequencies.len(), mini.tied),
        (128, 48, true)
    );
    assert_frequencies(&mini.ropes[0], &[(1, 0.412_702_08), (47, 2.524_015_6e-6)]);
}

/// The tensors of the first layer.
fn first_layer(description: &Description) -> Vec<(String, Vec<usize>)> {
    let plan = Plan::new(&description.architecture, &description.layout);
    let mut tensors: Vec<_> = plan
        .tensors()
        .map(|it| (it.name.clone(), it.shape.clone()))
        .filter(|(name, _)| name.contains("layers.0.") || name.contains("blk.0."))
        .collect();
    tensors.sort();
    tensors.dedup();
    tensors
}

#[test]
fn the_tensors_have_the_names_and_shapes_of_the_library() {
    let names = |description: &Description, prefix: &str| -> Vec<String> {
        let tensors = first_layer(description);
        let strip = |(name, shape): &(String, Vec<usize>)| {
            format!("{} {shape:?}", name.strip_prefix(prefix).unwrap())
        };
        tensors.iter().map(strip).collect()
    };
    assert_eq!(
        names(&config(qwen_25()), "model.layers.0."),
        [
            "input_layernorm.weight [896]",
            "mlp.down_proj.weight [896, 4864]",
            "mlp.gate_proj.weight [4864, 896]",
            "mlp.up_proj.weight [4864, 896]",
            "post_attention_layernorm.weight [896]",
            "self_attn.k_proj.bias [128]",
            "self_attn.k_proj.weight [128, 896]",
            "self_attn.o_proj.weight [896, 896]",
            "self_attn.q_proj.bias [896]",
            "self_attn.q_proj.weight [896, 896]",
            "self_attn.v_proj.bias [128]",
            "self_attn.v_proj.weight [128, 896]",
        ]
    );
    assert_eq!(
        names(&config(gemma3_270m()), "model.layers.0."),
        [
            "input_layernorm.weight [640]",
            "mlp.down_proj.weight [640, 2048]",
            "mlp.gate_proj.weight [2048, 640]",
            "mlp.up_proj.weight [2048, 640]",
            "post_attention_layernorm.weight [640]",
            "post_feedforward_layernorm.weight [640]",
            "pre_feedforward_layernorm.weight [640]",
            "self_attn.k_norm.weight [256]",
            "self_attn.k_proj.weight [256, 640]",
            "self_attn.o_proj.weight [640, 1024]",
            "self_attn.q_norm.weight [256]",
            "self_attn.q_proj.weight [1024, 640]",
            "self_attn.v_proj.weight [256, 640]",
        ]
    );
    assert_eq!(
        names(&config(phi3(false)), "model.layers.0."),
        [
            "input_layernorm.weight [3072]",
            "mlp.down_proj.weight [3072, 8192]",
            "mlp.gate_up_proj.weight [16384, 3072]",
            "post_attention_layernorm.weight [3072]",
            "self_attn.o_proj.weight [3072, 3072]",
            "self_attn.qkv_proj.weight [9216, 3072]",
        ]
    );
    let moe = names(&config(qwen3_moe()), "model.layers.0.");
    for name in [
        "mlp.gate.weight [128, 2048]",
        "mlp.experts.127.gate_proj.weight [768, 2048]",
        "mlp.experts.0.down_proj.weight [2048, 768]",
        "self_attn.q_norm.weight [128]",
    ] {
        assert!(moe.iter().any(|found| found == name), "{name}: {moe:?}");
    }
    let plan = Plan::new(&config(llama_31_8b()).architecture, &Layout::default());
    assert_eq!(plan.head.unwrap().name, "lm_head.weight");
    assert_eq!(plan.layers[31].q.name, "model.layers.31.self_attn.q_proj.weight");
}
