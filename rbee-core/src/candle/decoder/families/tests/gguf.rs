//! Architectures from the metadata of GGUF files.

use super::*;

#[test]
fn gguf_files_give_the_same_architectures_as_configurations() {
    let embedding = |vocab: usize, width: usize| ("token_embd.weight", [vocab, width]);
    let (name, shape) = embedding(262_144, 640);
    let Description { architecture: a, layout, .. } =
        of_metadata(&gemma3_gguf(), &[(name, &shape)]).unwrap();
    // The converter adds 1 to the weights of the norms.
    let expected = config(gemma3_270m()).architecture;
    assert_eq!(a, rbee_decoder::architecture::Architecture { norm_shift: 0.0, ..expected });
    assert_eq!(layout.names, Names::Gguf);

    let moe = json!({
        "general.architecture": "qwen3moe", "qwen3moe.context_length": 40960, "qwen3moe.embedding_length": 2048,
        "qwen3moe.block_count": 48, "qwen3moe.feed_forward_length": 6144, "qwen3moe.attention.head_count": 32,
        "qwen3moe.attention.head_count_kv": 4, "qwen3moe.attention.key_length": 128,
        "qwen3moe.attention.value_length": 128, "qwen3moe.rope.freq_base": 1000000.0,
        "qwen3moe.attention.layer_norm_rms_epsilon": 1e-6, "qwen3moe.expert_count": 128,
        "qwen3moe.expert_used_count": 8, "qwen3moe.expert_feed_forward_length": 768,
    });
    let (name, shape) = embedding(151_936, 2_048);
    let tensors = [(name, &shape[..]), ("output.weight", &shape[..])];
    let found = of_metadata(&moe, &tensors).unwrap();
    assert_eq!(found.architecture, config(qwen3_moe()).architecture);
    let layer = first_layer(&found);
    let experts = ("blk.0.ffn_gate_exps.weight".to_owned(), vec![128, 768, 2_048]);
    assert!(layer.contains(&experts), "{layer:?}");

    let qwen2 = json!({
        "general.architecture": "qwen2", "qwen2.context_length": 32768, "qwen2.embedding_length": 896,
        "qwen2.block_count": 24, "qwen2.feed_forward_length": 4864, "qwen2.attention.head_count": 14,
        "qwen2.attention.head_count_kv": 2, "qwen2.rope.freq_base": 1000000.0,
        "qwen2.attention.layer_norm_rms_epsilon": 1e-6,
    });
    let (name, shape) = embedding(151_936, 896);
    let tensors = [(name, &shape[..]), ("blk.0.attn_q.bias", &[896])];
    assert_eq!(of_metadata(&qwen2, &tensors).unwrap().architecture, config(qwen_25()).architecture);

    let gemma2 = json!({
        "general.architecture": "gemma2", "gemma2.context_length": 8192, "gemma2.embedding_length": 4608,
        "gemma2.block_count": 46, "gemma2.feed_forward_length": 36864, "gemma2.attention.head_count": 32,
        "gemma2.attention.head_count_kv": 16, "gemma2.attention.key_length": 128,
        "gemma2.attention.value_length": 128, "gemma2.attention.layer_norm_rms_epsilon": 1e-6,
        "gemma2.attn_logit_softcapping": 50.0, "gemma2.final_logit_softcapping": 30.0,
        "gemma2.attention.sliding_window": 4096,
    });
    let (name, shape) = embedding(256_000, 4_608);
    let a = of_metadata(&gemma2, &[(name, &shape)]).unwrap().architecture;
    assert_eq!((a.query_scale, a.attention_softcap), (144_f32.powf(-0.5), Some(50.0)));
    assert_eq!((a.layers[0].window, a.layers[1].window), (Some(4_096), None));
}

#[test]
fn llama_in_gguf_rotates_neighbors_and_its_factors_are_tensors() {
    let values = json!({
        "general.architecture": "llama", "llama.context_length": 131072, "llama.embedding_length": 64,
        "llama.block_count": 2, "llama.feed_forward_length": 64, "llama.attention.head_count": 8,
        "llama.attention.head_count_kv": 2, "llama.rope.freq_base": 500000.0, "llama.vocab_size": 96,
        "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.dimension_count": 8,
    });
    let embedding = ("token_embd.weight", &[96_usize, 64][..]);
    let plain = of_metadata(&values, &[embedding]).unwrap().architecture;
    assert_eq!((plain.ropes[0].pairs, plain.tied), (Pairs::Neighbors, true));
    assert_frequencies(&plain.ropes[0], &[(2, 500_000_f32.powf(-0.5))]);
    let linear = with(
        values.clone(),
        json!({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}),
    );
    let linear = of_metadata(&linear, &[embedding]).unwrap().architecture;
    assert_frequencies(&linear.ropes[0], &[(0, 0.25)]);
    let yarn = json!({
        "llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0,
        "llama.rope.scaling.original_context_length": 32768,
    });
    let yarn = of_metadata(&with(values.clone(), yarn), &[embedding]).unwrap().architecture;
    assert_eq!(yarn.ropes[0].magnitude, 1.138_629_4);

    let factors = test_files::Written::of_numbers("rope_freqs.weight", &[1.0, 2.0, 4.0, 32.0]);
    let written = [
        test_files::Written::new(
            "token_embd.weight",
            rbee_decoder::matrix::WeightType::F16,
            &[96, 64],
        ),
        factors,
    ];
    let scaled = of_file(&values, &written, CachePool::DEFAULT_CONTEXT).unwrap().architecture;
    let expected: Vec<_> = plain.ropes[0]
        .inverse_frequencies
        .iter()
        .zip([1.0, 2.0, 4.0, 32.0])
        .map(|(frequency, factor)| frequency / factor)
        .collect();
    assert_eq!(scaled.ropes[0].inverse_frequencies, expected);
}
