//! The families of models, with the values that their configuration classes in the transformers library have for keys
//! that `config.json` does not contain.
//!
//! Every reader of `config.json` uses [`read`], so that an estimate and a load see the same values. A family is one entry
//! of a table. Values that a class computes from others (heads for keys and values, the width of a head) are not in it:
//! the readers compute them.

use std::path::Path;

use serde_json::{Map, Value};

use super::files::{self, Found, MAX_CONFIG_BYTES};

/// The configuration class of a family.
struct Family {
    /// The key `model_type`.
    model_type: &'static str,
    /// The model class, for a configuration without `architectures`.
    class: &'static str,
    /// The values; the first one of a key counts.
    values: &'static [&'static [(&'static str, Missing)]],
}

/// The value of a key that the file does not contain.
#[derive(Clone, Copy)]
enum Missing {
    Count(u64),
    Number(f64),
    Flag(bool),
    Name(&'static str),
}

/// More layers than any model has.
const MAX_LAYERS: usize = 1 << 16;

use Missing::{Count, Flag, Name, Number};

const BERT: &[(&str, Missing)] = &[
    ("vocab_size", Count(30_522)),
    ("hidden_size", Count(768)),
    ("intermediate_size", Count(3_072)),
    ("num_hidden_layers", Count(12)),
    ("num_attention_heads", Count(12)),
    ("hidden_act", Name("gelu")),
    ("max_position_embeddings", Count(512)),
    ("type_vocab_size", Count(2)),
    ("layer_norm_eps", Number(1e-12)),
    ("pad_token_id", Count(0)),
];

const ROBERTA: &[(&str, Missing)] = &[("vocab_size", Count(50_265)), ("pad_token_id", Count(1))];

const XLM_ROBERTA: &[(&str, Missing)] = &[("pad_token_id", Count(1))];

const QWEN: &[(&str, Missing)] = &[
    ("vocab_size", Count(151_936)),
    ("hidden_size", Count(4_096)),
    ("intermediate_size", Count(22_016)),
    ("num_hidden_layers", Count(32)),
    ("num_attention_heads", Count(32)),
    ("num_key_value_heads", Count(32)),
    ("hidden_act", Name("silu")),
    ("max_position_embeddings", Count(32_768)),
    ("rms_norm_eps", Number(1e-6)),
    ("use_sliding_window", Flag(false)),
    ("tie_word_embeddings", Flag(false)),
];

const QWEN3: &[(&str, Missing)] = &[("head_dim", Count(128)), ("attention_bias", Flag(false))];

const QWEN3_MOE: &[(&str, Missing)] = &[
    ("hidden_size", Count(2_048)),
    ("intermediate_size", Count(6_144)),
    ("num_hidden_layers", Count(24)),
    ("num_key_value_heads", Count(4)),
    ("attention_bias", Flag(false)),
    ("decoder_sparse_step", Count(1)),
    ("moe_intermediate_size", Count(768)),
    ("num_experts_per_tok", Count(8)),
    ("norm_topk_prob", Flag(false)),
];

const GEMMA: &[(&str, Missing)] = &[
    ("hidden_size", Count(2_304)),
    ("intermediate_size", Count(9_216)),
    ("num_hidden_layers", Count(26)),
    ("num_attention_heads", Count(8)),
    ("num_key_value_heads", Count(4)),
    ("head_dim", Count(256)),
    ("hidden_activation", Name("gelu_pytorch_tanh")),
    ("rms_norm_eps", Number(1e-6)),
    ("attention_bias", Flag(false)),
    ("query_pre_attn_scalar", Count(256)),
    ("sliding_window", Count(4_096)),
    ("tie_word_embeddings", Flag(true)),
];

const GEMMA2: &[(&str, Missing)] = &[
    ("vocab_size", Count(256_000)),
    ("max_position_embeddings", Count(8_192)),
    ("final_logit_softcapping", Number(30.0)),
    ("attn_logit_softcapping", Number(50.0)),
];

const GEMMA3: &[(&str, Missing)] =
    &[("vocab_size", Count(262_208)), ("max_position_embeddings", Count(131_072))];

const FAMILIES: &[Family] = &[
    Family {
        model_type: "llama",
        class: "LlamaForCausalLM",
        values: &[&[
            ("vocab_size", Count(32_000)),
            ("hidden_size", Count(4_096)),
            ("intermediate_size", Count(11_008)),
            ("num_hidden_layers", Count(32)),
            ("num_attention_heads", Count(32)),
            ("hidden_act", Name("silu")),
            ("max_position_embeddings", Count(2_048)),
            ("rms_norm_eps", Number(1e-6)),
            ("tie_word_embeddings", Flag(false)),
        ]],
    },
    Family {
        model_type: "mistral",
        class: "MistralForCausalLM",
        values: &[&[
            ("vocab_size", Count(32_000)),
            ("hidden_size", Count(4_096)),
            ("intermediate_size", Count(14_336)),
            ("num_hidden_layers", Count(32)),
            ("num_attention_heads", Count(32)),
            ("num_key_value_heads", Count(8)),
            ("hidden_act", Name("silu")),
            ("max_position_embeddings", Count(131_072)),
            ("rms_norm_eps", Number(1e-6)),
            ("sliding_window", Count(4_096)),
            ("tie_word_embeddings", Flag(false)),
        ]],
    },
    Family { model_type: "qwen2", class: "Qwen2ForCausalLM", values: &[QWEN] },
    Family { model_type: "qwen3", class: "Qwen3ForCausalLM", values: &[QWEN3, QWEN] },
    Family { model_type: "qwen3_moe", class: "Qwen3MoeForCausalLM", values: &[QWEN3_MOE, QWEN] },
    Family { model_type: "gemma2", class: "Gemma2ForCausalLM", values: &[GEMMA2, GEMMA] },
    Family { model_type: "gemma3_text", class: "Gemma3ForCausalLM", values: &[GEMMA3, GEMMA] },
    Family {
        model_type: "phi3",
        class: "Phi3ForCausalLM",
        values: &[&[
            ("vocab_size", Count(32_064)),
            ("hidden_size", Count(3_072)),
            ("intermediate_size", Count(8_192)),
            ("num_hidden_layers", Count(32)),
            ("num_attention_heads", Count(32)),
            ("hidden_act", Name("silu")),
            ("max_position_embeddings", Count(4_096)),
            ("original_max_position_embeddings", Count(4_096)),
            ("rms_norm_eps", Number(1e-5)),
            ("tie_word_embeddings", Flag(false)),
        ]],
    },
    Family { model_type: "bert", class: "BertModel", values: &[BERT] },
    Family { model_type: "roberta", class: "RobertaModel", values: &[ROBERTA, BERT] },
    Family { model_type: "xlm-roberta", class: "XLMRobertaModel", values: &[XLM_ROBERTA, BERT] },
    Family { model_type: "camembert", class: "CamembertModel", values: &[XLM_ROBERTA, BERT] },
];

/// Reads `config.json`, with the values of its family for what is missing.
pub(crate) fn read(path: &Path) -> Found<Map<String, Value>> {
    let mut config = files::parse_object(path, &files::read(path, MAX_CONFIG_BYTES)?)?;
    complete(&mut config);
    Ok(config)
}

/// The window of the layers that attend to the last tokens only, and which layers these are.
///
/// If the configuration does not list the kinds of its layers, its class computes them.
pub(crate) fn windowed_layers(config: &Map<String, Value>, layers: usize) -> (u32, Vec<bool>) {
    let number = |key: &str| config.get(key).and_then(Value::as_u64);
    let window = number("sliding_window").and_then(|window| u32::try_from(window).ok());
    let off = config.get("use_sliding_window") == Some(&Value::Bool(false));
    let window = window.filter(|_| !off).unwrap_or(0);
    if window == 0 || layers > MAX_LAYERS {
        return (0, Vec::new());
    }
    let kind = config.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let every = |period: u64| (1..=layers as u64).map(move |layer| layer % period.max(1) != 0);
    let listed = config.get("layer_types").and_then(Value::as_array);
    let slides = match (kind, listed.filter(|list| list.len() == layers)) {
        // This class ignores the list.
        ("mistral", _) | ("phi3" | "qwen3_moe", None) => vec![true; layers],
        (_, Some(list)) => list.iter().map(|kind| kind == "sliding_attention").collect(),
        ("qwen2" | "qwen3", None) => {
            let full = number("max_window_layers").unwrap_or(28);
            (0..layers as u64).map(|layer| layer >= full).collect()
        }
        ("gemma2", None) => every(2).collect(),
        ("gemma3_text", None) => every(number("sliding_window_pattern").unwrap_or(6)).collect(),
        _ => Vec::new(),
    };
    (window, slides)
}

/// The number of labels of a model that classifies texts: `num_labels`, else the number of their names, else the default
/// of the transformers library. `None` if the file does not say it in a known form.
pub(crate) fn labels(config: &Map<String, Value>) -> Option<u64> {
    let get = |key: &str| config.get(key).filter(|value| !value.is_null());
    match (get("num_labels"), get("id2label")) {
        (Some(count), _) => count.as_u64(),
        (None, Some(names)) => Some(names.as_object()?.len() as u64),
        (None, None) => Some(2),
    }
}

/// Adds what is missing. A value that is `null` stays so: the classes give it a meaning of its own.
fn complete(config: &mut Map<String, Value>) {
    // A model of several kinds of input has the values for text in an object of its own.
    if let Some(Value::Object(text)) = config.get_mut("text_config") {
        complete_family(text);
    }
    complete_family(config);
}

fn complete_family(config: &mut Map<String, Value>) {
    let kind = config.get("model_type").and_then(Value::as_str);
    let Some(family) = FAMILIES.iter().find(|family| Some(family.model_type) == kind) else {
        return;
    };
    let classes = config.get("architectures");
    if classes.is_none_or(|classes| classes.is_null() || *classes == Value::Array(Vec::new())) {
        config.insert("architectures".into(), vec![family.class].into());
    }
    for (key, value) in family.values.iter().copied().flatten() {
        if !config.contains_key(*key) {
            let value = match *value {
                Count(count) => count.into(),
                Number(number) => number.into(),
                Flag(is) => is.into(),
                Name(name) => name.into(),
            };
            config.insert((*key).into(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn completed(config: Value) -> Value {
        let mut config = config.as_object().unwrap().clone();
        complete(&mut config);
        config.into()
    }

    #[test]
    fn missing_keys_have_the_values_of_the_configuration_class() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/chat_templates/cases.json");
        let cases: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for family in FAMILIES {
            let classes = &cases["configurations"][family.model_type];
            let config = completed(json!({"model_type": family.model_type}));
            assert_eq!(config["architectures"], json!([family.class]));
            let config = config.as_object().unwrap();
            assert!(config.len() > 10, "{config:?}");
            for (key, value) in config.iter().filter(|(key, _)| *key != "architectures") {
                assert_eq!(*value, classes[key], "{} {key}", family.model_type);
            }
        }
    }

    #[test]
    fn what_is_written_stays_and_an_unknown_family_gets_nothing() {
        let other = json!({"model_type": "new_family", "hidden_size": 64});
        assert_eq!(completed(other.clone()), other);
        assert_eq!(completed(json!({})), json!({}));
        let written = completed(json!({
            "model_type": "llama", "architectures": ["LlamaModel"], "max_position_embeddings": null, "vocab_size": 7,
        }));
        assert_eq!(written["architectures"], json!(["LlamaModel"]));
        assert_eq!(
            (&written["max_position_embeddings"], &written["vocab_size"]),
            (&Value::Null, &7.into())
        );
        for none in [json!(null), json!([])] {
            let completed = completed(json!({"model_type": "llama", "architectures": none}));
            assert_eq!(completed["architectures"], json!(["LlamaForCausalLM"]));
        }
    }
}
