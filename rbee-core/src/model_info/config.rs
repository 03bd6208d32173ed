//! Facts about a model in safetensors files, from the configuration files next to them.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Map, Value};

use super::{
    KvCache, ModelFormat, ModelInfo, ModelKind, ModelTask,
    embedding::Pipeline,
    families,
    files::{self, Found, MAX_CONFIG_BYTES, shown},
    kind, license,
    safetensors::{WeightFiles, is_float},
};

/// The classes that are rerankers if they have one label. Such a model of another family may as well be a reward model.
const CLASSIFIERS: [&str; 4] = [
    "BertForSequenceClassification",
    "RobertaForSequenceClassification",
    "XLMRobertaForSequenceClassification",
    "CamembertForSequenceClassification",
];

/// Reads a directory, or a file with the other files next to it; together with its chat template.
pub(super) fn read(dir: &Path, file: Option<&Path>) -> Found<(ModelInfo, Option<String>)> {
    let config = families::read(&dir.join("config.json"))?;
    let weights = Weights::of(&WeightFiles::open(dir, file)?, tied(&config));
    let pipeline = Pipeline::read(dir)?;
    let template = chat_template(dir)?;
    let config = Config::new(&config);
    let task = config.task(&pipeline);
    let (kv_cache, context) = (config.cache(), config.context());
    let info = ModelInfo {
        format: ModelFormat::Safetensors,
        architecture: config.architecture(),
        class: config.class(),
        task,
        parameters: weights.parameters,
        weights_bytes: weights.bytes,
        dtype: weights.dtype,
        quantization: config.quantization(),
        context,
        vocab: config.number(&["vocab_size"]),
        layers: config.layers(),
        hidden: config.hidden(),
        heads: config.heads(),
        kv_heads: config.kv_heads(),
        head_dim: config.head_dim(),
        kv_cache,
        has_chat_template: template.is_some(),
        license: license::of(dir),
        embedding: (task == ModelTask::Embed).then(|| pipeline.info(config.hidden(), context)),
    };
    Ok((info, template))
}

impl ModelKind {
    /// The kind of a model in safetensors with this text as its `config.json`; `None` if the text is not an object. The
    /// task depends on other files too, and stays unknown.
    pub(crate) fn of_config(text: &[u8]) -> Option<Self> {
        let object: Map<String, Value> = serde_json::from_slice(text).ok()?;
        let config = Config::new(&object);
        Some(Self {
            architecture: kind::known(&config.architecture()),
            class: config.class(),
            quantization: config.quantization(),
            ..Self::new(ModelFormat::Safetensors)
        })
    }
}

fn tied(config: &Map<String, Value>) -> bool {
    config.get("tie_word_embeddings") == Some(&Value::Bool(true))
}

/// The totals of the weights.
struct Weights {
    parameters: Option<u64>,
    bytes: u64,
    dtype: String,
}

impl Weights {
    fn of(files: &WeightFiles, tied: bool) -> Self {
        let mut types: BTreeMap<&str, u64> = BTreeMap::new();
        let (mut parameters, mut bytes, mut packed) = (0_u64, 0_u64, 0_u64);
        for (name, entry) in &files.tensors {
            bytes += entry.bytes;
            *types.entry(&*entry.dtype).or_default() += entry.bytes;
            // Tables that can be computed, and a second copy of weights, are not parameters.
            let copied = name.ends_with(".inv_freq") || (tied && name == "lm_head.weight");
            if !is_float(&entry.dtype) {
                packed += entry.bytes;
            } else if !copied {
                parameters = parameters.saturating_add(entry.elements);
            }
        }
        let most = types.into_iter().max_by_key(|(_, bytes)| *bytes);
        Self {
            // A few integers are positions and the like; many are packed weights, several per number.
            parameters: (packed <= bytes / 100).then_some(parameters),
            bytes,
            dtype: most.map_or_else(|| "unknown".into(), |(name, _)| shown(name)),
        }
    }
}

/// `config.json`, and the part of it about text.
struct Config<'a> {
    whole: &'a Map<String, Value>,
    text: &'a Map<String, Value>,
}

impl<'a> Config<'a> {
    fn new(whole: &'a Map<String, Value>) -> Self {
        let text = whole.get("text_config").and_then(Value::as_object).unwrap_or(whole);
        Self { whole, text }
    }

    /// The first of these keys with a positive integer.
    fn number(&self, keys: &[&str]) -> Option<u32> {
        let numbers = keys.iter().filter_map(|key| self.text.get(*key)?.as_u64());
        numbers.filter_map(|number| u32::try_from(number).ok()).find(|number| *number > 0)
    }

    fn architecture(&self) -> String {
        let named = self.whole.get("model_type").and_then(Value::as_str);
        named.map_or_else(|| "unknown".into(), shown)
    }

    /// The first class that is named.
    fn class(&self) -> Option<String> {
        let named = self.whole.get("architectures").and_then(|list| list.get(0));
        named.and_then(Value::as_str).map(shown)
    }

    /// True if the model processes a whole text at once, and keeps no KV cache.
    fn is_encoder(&self) -> bool {
        let kind = self.architecture();
        let decoder = self.whole.get("is_decoder") == Some(&Value::Bool(true));
        !decoder && (kind.contains("bert") || matches!(&*kind, "mpnet" | "electra" | "new"))
    }

    fn task(&self, pipeline: &Pipeline) -> ModelTask {
        let class = self.whole.get("architectures").and_then(|list| list.get(0));
        let class = class.and_then(Value::as_str).unwrap_or_default();
        if CLASSIFIERS.contains(&class) {
            // A cross-encoder: its one label is the relevance of a text to another.
            return match families::labels(self.whole) {
                Some(1) => ModelTask::Rerank,
                _ => ModelTask::Other,
            };
        }
        if pipeline.is_written {
            return ModelTask::Embed;
        }
        if self.is_encoder() {
            let bare =
                class.is_empty() || class.ends_with("Model") || class.ends_with("ForMaskedLM");
            return if bare { ModelTask::Embed } else { ModelTask::Other };
        }
        let images =
            class.ends_with("ForConditionalGeneration") && self.whole.contains_key("text_config");
        if class.ends_with("ForCausalLM") || class.ends_with("LMHeadModel") || images {
            return ModelTask::Generate;
        }
        ModelTask::Other
    }

    fn quantization(&self) -> Option<String> {
        let config = self.whole.get("quantization_config")?.as_object()?;
        let method = config.get("quant_method").and_then(Value::as_str).unwrap_or("unknown");
        let on = |key: &str| config.get(key) == Some(&Value::Bool(true));
        let bits = match config.get("bits").and_then(Value::as_u64) {
            Some(bits) => Some(bits),
            None if on("load_in_4bit") || on("_load_in_4bit") => Some(4),
            None if on("load_in_8bit") || on("_load_in_8bit") => Some(8),
            None => None,
        };
        Some(bits.map_or_else(|| shown(method), |bits| format!("{}-{bits}bit", shown(method))))
    }

    fn layers(&self) -> Option<u32> {
        self.number(&["num_hidden_layers", "n_layer", "num_layers", "n_layers"])
    }

    fn hidden(&self) -> Option<u32> {
        self.number(&["hidden_size", "n_embd", "d_model", "dim"])
    }

    fn heads(&self) -> Option<u32> {
        self.number(&["num_attention_heads", "n_head", "n_heads"])
    }

    fn kv_heads(&self) -> Option<u32> {
        let is = |key: &str| self.text.get(key) == Some(&Value::Bool(true));
        if is("multi_query") && !is("new_decoder_architecture") {
            return Some(1);
        }
        self.number(&["num_key_value_heads", "num_kv_heads"]).or(self.heads())
    }

    fn head_dim(&self) -> Option<u32> {
        let by_heads = || {
            let (hidden, heads) = (self.hidden()?, self.heads()?);
            hidden.is_multiple_of(heads).then(|| hidden / heads)
        };
        self.number(&["head_dim"]).or_else(by_heads)
    }

    /// The positions that can be used: RoBERTa and similar models reserve the first ones, up to that of the padding.
    fn context(&self) -> Option<u32> {
        let keys = ["max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx"];
        let positions = self.number(&keys)?;
        if !self.architecture().contains("roberta") {
            return Some(positions);
        }
        let padding = self.text.get("pad_token_id").and_then(Value::as_u64).unwrap_or(1);
        u32::try_from(u64::from(positions).checked_sub(padding + 1)?).ok()
    }

    fn cache(&self) -> Option<KvCache> {
        if self.is_encoder() {
            return Some(KvCache::default());
        }
        // Each engine stores compressed keys and values differently.
        if self.number(&["kv_lora_rank"]).is_some() {
            return None;
        }
        let each =
            u64::from(self.kv_heads()?).checked_mul(self.head_dim()?.into())?.checked_mul(2)?;
        let layers = u64::from(self.layers()?);
        let (window, slides) = families::windowed_layers(self.text, layers as usize);
        let sliding = slides.iter().filter(|slides| **slides).count() as u64;
        let kinds = self.text.get("layer_types").and_then(Value::as_array);
        let kinds = kinds.filter(|kinds| kinds.len() as u64 == layers);
        let count = |wanted: &dyn Fn(&str) -> bool| {
            let names = kinds.into_iter().flatten().filter_map(Value::as_str);
            names.filter(|name| wanted(name)).count() as u64
        };
        // Layers with a state of fixed size, or without a state, do not grow with the text.
        let growing = match kinds {
            Some(_) => count(&|kind| kind.ends_with("attention") && kind != "linear_attention"),
            None => layers,
        };
        let whole = growing.saturating_sub(sliding);
        Some(KvCache {
            whole: each.checked_mul(whole)?,
            windowed: each.checked_mul(sliding)?,
            window,
        })
    }
}

/// The chat template of a directory: a separate file, else in `tokenizer_config.json`; the one named `default` if there
/// are several.
fn chat_template(dir: &Path) -> Found<Option<String>> {
    if let Some(bytes) = files::read_optional(&dir.join("chat_template.jinja"), MAX_CONFIG_BYTES)? {
        return Ok(Some(String::from_utf8_lossy(&bytes).into_owned()));
    }
    let config = files::read_object(&dir.join("tokenizer_config.json"), MAX_CONFIG_BYTES)?;
    let template = config.as_ref().and_then(|config| config.get("chat_template"));
    Ok(match template {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Array(list)) => {
            let default = list
                .iter()
                .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"));
            default.and_then(|entry| entry.get("template")?.as_str()).map(str::to_owned)
        }
        _ => None,
    })
}
