//! Rotations: which key of a configuration or a GGUF file says what.

use rbee_decoder::matrix::WeightType;
use serde_json::json;

use super::{
    super::tests::{
        assert_frequencies, llama_32_1b, of_config, of_file, of_metadata, phi3, qwen_25, with,
    },
    *,
};
use crate::candle::decoder::test_files::Written;

const CONTEXT: u32 = 32_768;

/// The rotation of the first layer by `config.json`.
fn rope(base: Value, changes: Value) -> Rope {
    of_config(&with(base, changes), CONTEXT).unwrap().architecture.ropes.swap_remove(0)
}

#[test]
fn values_in_rope_parameters_count_before_older_keys_and_never_contradict_them() {
    let parameters =
        json!({"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.5});
    let changes = json!({
        "rope_theta": null, "rope_scaling": null, "partial_rotary_factor": 0.25, "rope_parameters": parameters,
    });
    let new = rope(llama_32_1b(), changes.clone());
    assert_eq!(new.inverse_frequencies.len(), 16);
    assert_frequencies(&new, &[(8, 1e-3)]);
    let both = with(changes, json!({"rope_theta": 5e5}));
    let error = of_config(&with(llama_32_1b(), both), CONTEXT).unwrap_err().to_string();
    let said = "rope_theta is 500000 and, in rope_parameters, 1000000; allowed is one value";
    assert!(error.contains(said), "{error}");
}

/// The values are those of the library's functions.
#[test]
fn the_transition_of_yarn_is_within_the_frequencies_of_a_head() {
    let rope = |theta: f64, positions: u32, original: u32| {
        let scaling =
            json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": original});
        let changes = json!({
            "hidden_size": 64, "num_attention_heads": 4, "head_dim": 16, "rope_theta": theta,
            "max_position_embeddings": positions, "rope_scaling": scaling,
        });
        rope(qwen_25(), changes)
    };
    let below = rope(1e4, 256, 64);
    assert_frequencies(
        &below,
        &[(0, 1.0), (1, 0.237_170_82), (2, 0.05), (3, 7.905_695e-3), (7, 7.905_695e-5)],
    );
    let above = rope(10.0, 1 << 19, 1 << 17);
    assert_frequencies(
        &above,
        &[(0, 0.25), (1, 0.187_473_55), (4, 0.079_056_94), (7, 0.033_338_036)],
    );
    let nothing = rope(1e4, 24, 6);
    assert_frequencies(&nothing, &[(0, 1.0), (1, 0.079_056_94), (7, 7.905_695e-5)]);
}

#[test]
fn a_magnitude_that_is_stated_replaces_the_recommended_one() {
    let yarn = json!({
        "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096, "beta_fast": 8.0,
        "beta_slow": 2.0, "attention_factor": 1.5, "mscale": 0.7, "mscale_all_dim": 0.5,
    });
    let changes = json!({"head_dim": 128, "rope_theta": 1e4, "rope_scaling": yarn});
    let rope = rope(qwen_25(), changes);
    assert_eq!(rope.magnitude, 1.5);
    assert_frequencies(
        &rope,
        &[
            (16, 0.1),
            (24, 0.031_622_78),
            (32, 8.636_363e-3),
            (40, 1.006_179_3e-3),
            (48, 2.5e-4),
            (63, 2.886_955e-5),
        ],
    );
    let mut config = phi3(true);
    config["rope_scaling"]["attention_factor"] = 1.25.into();
    assert_eq!(of_config(&config, CONTEXT).unwrap().architecture.ropes[0].magnitude, 1.25);
    assert_eq!((yarn_magnitude(0.5, 1.0), longrope_magnitude(0.5, 4_096.0)), (1.0, 1.0));
}

#[test]
fn the_first_files_of_phi_have_other_names_for_longrope() {
    let named = |name: &str| {
        let mut config = phi3(true);
        config["rope_scaling"]["type"] = name.into();
        of_config(&config, CONTEXT).unwrap().architecture.ropes.swap_remove(0)
    };
    assert_eq!((named("su"), named("yarn")), (named("longrope"), named("longrope")));
}

#[test]
fn the_factors_are_those_of_the_context_that_the_model_can_have() {
    let of = |context: u32| {
        let config = with(phi3(true), json!({"max_position_embeddings": 4_096}));
        of_config(&config, context).unwrap().architecture
    };
    assert_eq!(of(131_072), of(4_096));
}

#[test]
fn rotations_that_make_no_sense_are_refused_by_key_and_value() {
    let llama3 = with(llama_32_1b()["rope_scaling"].clone(), json!({"low_freq_factor": 4.0}));
    for (changes, said) in [
        (
            json!({"rope_scaling": llama3}),
            "rope_scaling.low_freq_factor is 4.0; allowed is less than high_freq_factor, 4",
        ),
        (
            json!({"partial_rotary_factor": 0.05}),
            "partial_rotary_factor is 0.05 for heads of 64; allowed is an even number",
        ),
    ] {
        let error = of_config(&with(llama_32_1b(), changes), CONTEXT).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

/// A model with heads of 64.
fn in_gguf(kind: &str) -> Value {
    let values = json!({
        "context_length": 131072, "embedding_length": 64, "block_count": 2, "feed_forward_length": 64,
        "attention.head_count": 1, "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 500000.0,
    });
    let prefixed = values.as_object().unwrap().iter();
    let mut all: serde_json::Map<_, _> =
        prefixed.map(|(key, value)| (format!("{kind}.{key}"), value.clone())).collect();
    all.insert("general.architecture".into(), kind.into());
    all.into()
}

const EMBEDDING: (&str, &[usize]) = ("token_embd.weight", &[96, 64]);

#[test]
fn every_key_of_a_scaling_in_gguf_files_counts() {
    let of = |changes: Value| {
        let values = with(in_gguf("llama"), changes);
        of_metadata(&values, &[EMBEDDING]).unwrap().architecture.ropes.swap_remove(0)
    };
    let expected = |scaling: Scaling| {
        RopeSpec { theta: 500_000.0, dims: 64, scaling }.resolve(Pairs::Neighbors)
    };
    let yarn = json!({
        "llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0,
        "llama.rope.scaling.original_context_length": 32768, "llama.rope.scaling.attn_factor": 1.5,
        "llama.rope.scaling.yarn_attn_factor": 0.5, "llama.rope.scaling.yarn_beta_fast": 8.0,
        "llama.rope.scaling.yarn_beta_slow": 2.0, "llama.rope.scaling.yarn_ext_factor": 1.0,
        "llama.rope.scaling.yarn_log_multiplier": 0.0,
    });
    let scaling = Scaling::Yarn {
        factor: 4.0,
        beta_fast: 8.0,
        beta_slow: 2.0,
        truncate: true,
        original: 32_768.0,
        magnitude: yarn_magnitude(4.0, 1.0) * 1.5 * 0.5,
    };
    assert_eq!(of(yarn), expected(scaling));
    assert_eq!(of(json!({"llama.rope.scale_linear": 4.0})), expected(Scaling::Linear(4.0)));
    let none = json!({"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0});
    assert_eq!(of(none), expected(Scaling::None));
}

#[test]
fn keys_of_gguf_files_that_change_the_rotation_in_an_unknown_way_are_refused() {
    let yarn = json!({"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0});
    for (key, value, said) in [
        ("yarn_ext_factor", 0.5, "llama.rope.scaling.yarn_ext_factor is 0.5; allowed is 1 to 1"),
        ("yarn_log_multiplier", 0.1, "llama.rope.scaling.yarn_log_multiplier is 0.1;"),
    ] {
        let key = format!("llama.rope.scaling.{key}");
        let values = with(with(in_gguf("llama"), yarn.clone()), json!({key: value}));
        let error = of_metadata(&values, &[EMBEDDING]).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let values = with(in_gguf("llama"), json!({"llama.rope.dimension_count_swa": 32}));
    let error = of_metadata(&values, &[EMBEDDING]).unwrap_err().to_string();
    assert!(error.contains("llama.rope.dimension_count_swa is 32; allowed is 64"), "{error}");
}

/// What a file with these factors says.
fn with_factors(values: &Value, factors: &[(&str, f32)], context: u32) -> Loaded<Rope> {
    let embedding = Written::new("token_embd.weight", WeightType::F16, &[96, 64]);
    let vector = |(name, factor): &(&str, f32)| Written::of_numbers(name, &[*factor; 32]);
    let tensors: Vec<_> = [embedding].into_iter().chain(factors.iter().map(vector)).collect();
    Ok(of_file(values, &tensors, context)?.architecture.ropes.swap_remove(0))
}

#[test]
fn the_tensors_with_factors_are_chosen_by_the_context_that_is_offered() {
    let original = json!({
        "phi3.rope.scaling.original_context_length": 4096, "phi3.rope.scaling.attn_factor": 1.25,
    });
    let values = with(in_gguf("phi3"), original);
    let factors = [("rope_factors_long.weight", 4.0), ("rope_factors_short.weight", 2.0)];
    for (context, factor) in [(4_096, 0.5), (4_097, 0.25)] {
        let rope = with_factors(&values, &factors, context).unwrap();
        assert_eq!((rope.inverse_frequencies[0], rope.magnitude), (factor, 1.25), "{context}");
    }
}

#[test]
fn factors_that_make_no_sense_or_come_with_another_scaling_are_refused() {
    let values = in_gguf("llama");
    let name = "rope_freqs.weight";
    for bad in [0.0, f32::NAN] {
        let error = with_factors(&values, &[(name, bad)], CONTEXT).unwrap_err().to_string();
        let said = format!("tensor {name} contains {bad}; allowed are 0.001 to 1000000");
        assert!(error.contains("bee.gguf") && error.contains(&said), "{error}");
    }
    for scaling in [
        json!({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}),
        json!({"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 1.0}),
    ] {
        let values = with(values.clone(), scaling);
        let error = with_factors(&values, &[(name, 2.0)], CONTEXT).unwrap_err().to_string();
        let said = "allowed is 1, because of tensor rope_freqs.weight";
        assert!(error.contains(said), "{error}");
    }
}
