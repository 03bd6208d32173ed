//! Descriptions that are refused.

use super::*;

#[test]
fn a_configuration_that_is_wrong_or_unknown_is_refused_by_key_and_value() {
    for (base, changes, said) in [
        (llama_32_1b(), json!({"hidden_size": 0}), "hidden_size is 0; allowed is 2 to 65536"),
        (llama_32_1b(), json!({"head_dim": 63}), "head_dim is 63; allowed is an even number"),
        (llama_32_1b(), json!({"num_key_value_heads": 5}), "num_key_value_heads is 5;"),
        (llama_32_1b(), json!({"rms_norm_eps": -1e-5}), "rms_norm_eps is -0.00001;"),
        (llama_32_1b(), json!({"rms_norm_eps": "NaN"}), "rms_norm_eps is \"NaN\";"),
        (
            llama_32_1b(),
            json!({"num_hidden_layers": 1_u64 << 40}),
            "num_hidden_layers is 1099511627776;",
        ),
        (
            llama_32_1b(),
            json!({"hidden_act": "relu"}),
            "hidden_act is \"relu\"; allowed is \"silu\"",
        ),
        (llama_32_1b(), json!({"mlp_bias": true}), "mlp_bias is true; allowed is false"),
        (llama_32_1b(), json!({"quantization_config": {}}), "quantization_config is {};"),
        (llama_32_1b(), json!({"tie_word_embeddings": 1}), "tie_word_embeddings is 1;"),
        (
            llama_32_1b(),
            json!({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
            "rope_scaling.rope_type is \"dynamic\"; allowed is \"default\", \"linear\"",
        ),
        (
            llama_32_1b(),
            json!({"rope_scaling": {"type": "linear", "factor": 0.0}}),
            "rope_scaling.factor is 0.0;",
        ),
        (
            llama_32_1b(),
            json!({"rope_scaling": {"type": "yarn"}}),
            "rope_scaling.factor is missing",
        ),
        (
            llama_32_1b(),
            json!({"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}}),
            "rope_scaling.short_factor is [1.0]; allowed is a list of 32 numbers",
        ),
        (llama_32_1b(), json!({"rope_theta": 0.0}), "rope_theta is 0.0;"),
        (
            qwen_25(),
            json!({"layer_types": ["full_attention"]}),
            "layer_types is [\"full_attention\"]; allowed is 24 of",
        ),
        (qwen_25(), json!({"sliding_window": -1}), "sliding_window is -1;"),
        (qwen3_moe(), json!({"num_experts": 0}), "num_experts is 0;"),
        (qwen3_moe(), json!({"num_local_experts": 64}), "num_local_experts is 64; allowed is 128"),
        (qwen3_moe(), json!({"num_experts_per_tok": 129}), "each token uses 129 of 128 experts"),
        (
            qwen3_moe(),
            json!({"num_experts": 4096}),
            "4096 experts in 48 layers; allowed are at most",
        ),
        (gemma3_270m(), json!({"sliding_window": null}), "sliding_window is missing"),
        (
            gemma3_270m(),
            json!({"use_bidirectional_attention": true}),
            "use_bidirectional_attention is true;",
        ),
        (gemma3_270m(), json!({"query_pre_attn_scalar": 0}), "query_pre_attn_scalar is 0;"),
        (
            phi3(false),
            json!({"partial_rotary_factor": 0.01}),
            "partial_rotary_factor is 0.01 for heads of 96;",
        ),
    ] {
        let error = of_config(&with(base, changes), CachePool::DEFAULT_CONTEXT)
            .expect_err(said)
            .to_string();
        assert!(error.starts_with("config.json: ") && error.contains(said), "{error}");
    }
}

#[test]
fn metadata_that_is_wrong_or_unknown_is_refused_by_key_and_value() {
    let embedding = ("token_embd.weight", &[262_144_usize, 640][..]);
    for (changes, said) in [
        (json!({"gemma3.block_count": 0}), "gemma3.block_count is 0; allowed is 1 to 1024"),
        (
            json!({"gemma3.attention.head_count": 4_000_000_000_u32}),
            "gemma3.attention.head_count is 4000000000;",
        ),
        (json!({"gemma3.attention.head_count_kv": 3}), "gemma3.attention.head_count_kv is 3;"),
        (
            json!({"gemma3.attention.layer_norm_rms_epsilon": -1.5}),
            "layer_norm_rms_epsilon is -1.5;",
        ),
        (
            json!({"gemma3.attention.layer_norm_rms_epsilon": null}),
            "layer_norm_rms_epsilon is \"NaN\";",
        ),
        (
            json!({"gemma3.attention.value_length": 128}),
            "gemma3.attention.value_length is 128; allowed is 256",
        ),
        (
            json!({"gemma3.attention.causal": false}),
            "gemma3.attention.causal is false; allowed is true",
        ),
        (json!({"gemma3.attention.sliding_window": 0}), "gemma3.attention.sliding_window is 0;"),
        (
            json!({"gemma3.attention.sinks": 4}),
            "gemma3.attention.sinks is 4; allowed is no such key",
        ),
        (json!({"gemma3.logit_scale": 0.5}), "gemma3.logit_scale is 0.5; allowed is no such key"),
        (json!({"gemma3.expert_count": 8}), "gemma3.expert_count is 8; allowed is 0"),
        (json!({"gemma3.pooling_type": 3}), "gemma3.pooling_type is 3; allowed is 0"),
        (
            json!({"gemma3.rope.dimension_count": 7}),
            "gemma3.rope.dimension_count is 7; allowed is an even number",
        ),
        (
            json!({"gemma3.rope.scaling.type": "dynamic"}),
            "gemma3.rope.scaling.type is \"dynamic\";",
        ),
        (
            json!({"gemma3.rope.scaling.attn_factor": 1.5}),
            "gemma3.rope.scaling.attn_factor is 1.5;",
        ),
        (json!({"gemma3.rope.freq_base": 0.0}), "gemma3.rope.freq_base is 0.0;"),
        (json!({"gemma3.embedding_length": 641}), "token_embd.weight has shape [262144, 640]"),
        (
            json!({"gemma3.feed_forward_length": [2048, 4096]}),
            "gemma3.feed_forward_length is [2048,4096]; allowed is 1 to 1048576",
        ),
    ] {
        let error = of_metadata(&with(gemma3_gguf(), changes), &[embedding]).expect_err(said);
        assert!(error.to_string().contains(said), "{error}");
    }
    let error = of_metadata(&gemma3_gguf(), &[]).unwrap_err().to_string();
    assert!(error.contains("tensor token_embd.weight is missing"), "{error}");
}
