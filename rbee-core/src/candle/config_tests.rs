use serde_json::{Value, json};

use super::*;

/// A configuration in the form that transformers 5 writes.
fn new_form() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 32,
        "intermediate_size": 64,
        "vocab_size": 300,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "hidden_act": "silu",
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 20000.0},
        "eos_token_id": [2, 1],
        "tie_word_embeddings": true,
    })
}

/// Applies a JSON object of changes, `null` removing a key, and reads the result.
fn read(changes: &Value) -> Loaded<ModelConfig> {
    let mut map = new_form().as_object().unwrap().clone();
    for (key, value) in changes.as_object().unwrap() {
        map.insert(key.clone(), value.clone());
    }
    ConfigFields::new(Path::new("config.json"), &map).model(None)
}

#[test]
fn the_base_of_the_rotary_embedding_is_found_in_either_place() {
    assert_eq!(read(&json!({})).unwrap().llama.rope_theta, 20_000.0);
    let old = json!({"rope_parameters": null, "rope_theta": 500000.0, "rope_scaling": null});
    assert_eq!(read(&old).unwrap().llama.rope_theta, 500_000.0);
    let neither = json!({"rope_parameters": null});
    assert_eq!(read(&neither).unwrap().llama.rope_theta, 10_000.0);
    let both = json!({"rope_theta": 10000.0});
    assert!(read(&both).unwrap_err().to_string().contains("rope_theta is 10000 and"));
}

#[test]
fn llama_3_scaling_is_found_in_either_place() {
    let scaling = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    let old = json!({"rope_parameters": null, "rope_theta": 500000.0, "rope_scaling": scaling});
    let mut inner = scaling.clone();
    inner["rope_theta"] = json!(500000.0);
    let new = json!({"rope_parameters": inner});
    for changes in [old, new] {
        let config = read(&changes).unwrap();
        let scaling = config.llama.rope_scaling.expect("scaling");
        assert_eq!((scaling.factor, scaling.original_max_position_embeddings), (8.0, 8192));
        assert_eq!(config.llama.rope_theta, 500_000.0);
    }
}

#[test]
fn the_context_is_the_models_bounded_by_the_options() {
    let config = |limit| {
        let map = new_form();
        let map = map.as_object().unwrap();
        ConfigFields::new(Path::new("config.json"), map).model(limit).unwrap().context
    };
    assert_eq!((config(None), config(Some(100)), config(Some(9_999))), (512, 100, 512));
    let long = read(&json!({"max_position_embeddings": 131072})).unwrap();
    assert_eq!(long.context, DEFAULT_CONTEXT);
    // The engine uses this value also as a limit on the number of key heads.
    let short = read(&json!({"max_position_embeddings": 2, "num_key_value_heads": 4})).unwrap();
    assert_eq!((short.context, short.llama.max_position_embeddings), (2, 4));
}

#[test]
fn what_the_engine_cannot_do_is_refused_with_file_key_value_and_what_is_allowed() {
    for (changes, said) in [
        (
            json!({"architectures": ["Qwen2ForCausalLM"]}),
            "architectures is [\"Qwen2ForCausalLM\"]; allowed is [\"LlamaForCausalLM\"]",
        ),
        (json!({"architectures": null}), "architectures is missing"),
        (json!({"hidden_size": 0}), "hidden_size is 0; allowed is 2 to 65536"),
        (json!({"hidden_size": -32}), "hidden_size is -32;"),
        (json!({"hidden_size": 1e30}), "hidden_size is 1e+30;"),
        (json!({"hidden_size": 34}), "hidden_size is 34 for num_attention_heads 4;"),
        (json!({"hidden_size": 36, "head_dim": 9}), "hidden_size is 36 for num_attention_heads 4;"),
        (json!({"num_attention_heads": 0}), "num_attention_heads is 0;"),
        (json!({"num_key_value_heads": 3}), "num_key_value_heads is 3;"),
        (json!({"num_hidden_layers": 1_000_000}), "num_hidden_layers is 1000000;"),
        (json!({"vocab_size": 1_u64 << 40}), "vocab_size is 1099511627776;"),
        (json!({"max_position_embeddings": 1}), "max_position_embeddings is 1;"),
        (json!({"head_dim": 16}), "head_dim is 16; allowed is 8"),
        (json!({"hidden_act": "gelu"}), "hidden_act is \"gelu\"; allowed is \"silu\""),
        (json!({"attention_bias": true}), "attention_bias is true; allowed is false"),
        (json!({"mlp_bias": true}), "mlp_bias is true; allowed is false"),
        (json!({"rms_norm_eps": 0.0}), "rms_norm_eps is 0.0;"),
        (json!({"rms_norm_eps": "NaN"}), "rms_norm_eps is \"NaN\";"),
        (json!({"rms_norm_eps": null}), "rms_norm_eps is missing"),
        (json!({"rope_parameters": {"rope_theta": -1.0}}), "rope_parameters.rope_theta is -1.0;"),
        (json!({"rope_parameters": 7}), "rope_parameters is 7; allowed is an object"),
        (
            json!({"rope_parameters": {"rope_type": "yarn"}}),
            "rope_parameters.rope_type is \"yarn\"; allowed is \"default\" or \"llama3\"",
        ),
        (
            json!({"rope_parameters": null, "rope_scaling": {"type": "linear"}}),
            "rope_scaling.type is \"linear\";",
        ),
        (
            json!({"rope_parameters": {"rope_type": "llama3"}}),
            "rope_parameters.low_freq_factor is missing",
        ),
        (
            json!({"rope_parameters": {"partial_rotary_factor": 0.5}}),
            "partial_rotary_factor is 0.5;",
        ),
        (json!({"eos_token_id": -1}), "eos_token_id is -1; allowed is token ids"),
        (json!({"tie_word_embeddings": 1}), "tie_word_embeddings is 1; allowed is true or false"),
        (json!({"quantization_config": {"bits": 4}}), "quantization_config is {\"bits\":4};"),
    ] {
        let error = read(&changes).expect_err(said).to_string();
        assert!(error.starts_with("config.json: ") && error.contains(said), "{error}");
    }
}

#[test]
fn the_tokens_that_end_a_text_come_from_both_files() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, value: Value| {
        std::fs::write(dir.path().join(name), value.to_string()).unwrap()
    };
    write("config.json", new_form());
    assert_eq!(ModelConfig::load(dir.path(), None).unwrap().eos, [1, 2]);
    write("generation_config.json", json!({"eos_token_id": 7}));
    assert_eq!(ModelConfig::load(dir.path(), None).unwrap().eos, [1, 2, 7]);
    // A token without an embedding ends nothing.
    write("generation_config.json", json!({"eos_token_id": [7, 300]}));
    assert_eq!(ModelConfig::load(dir.path(), None).unwrap().eos, [1, 2, 7]);
    write("generation_config.json", json!({"eos_token_id": "seven"}));
    let error = ModelConfig::load(dir.path(), None).unwrap_err().to_string();
    assert!(error.contains("generation_config.json: eos_token_id is \"seven\""), "{error}");
}
