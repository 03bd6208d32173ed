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

/// Adds what is missing. A value that is `null` stays so: the classes give it a meaning of its own.
fn complete(config: &mut Map<String, Value>) {
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
