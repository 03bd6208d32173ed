//! A model's configuration: `config.json` and `generation_config.json`, converted into one checked form.
//!
//! Files of different versions contain the same value in different places. An unknown value is refused rather than
//! ignored, because a model with a wrong constant does not fail: it generates wrong text.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use candle_transformers::models::llama::{Config, Llama3RopeConfig, Llama3RopeType, LlamaEosToks};
use serde_json::Value;

use super::{
    config_fields::{ConfigFields, span},
    files::{self, FileFault, LoadFault, Loaded, MAX_CONFIG_BYTES},
};
use crate::model_info::families;

/// The longest context that is offered if the options set none: the memory of keys and values grows with it.
pub(super) const DEFAULT_CONTEXT: u32 = 32_768;
/// The longest possible context.
pub(super) const MAX_CONTEXT: u32 = 1 << 20;

/// The facts about a model before its weights are read.
#[derive(Debug)]
pub(super) struct ModelConfig {
    /// The values that the engine builds the model from.
    pub(super) llama: Config,
    /// The longest prompt and answer together, in tokens.
    pub(super) context: u32,
    /// The tokens that end an answer, in ascending order.
    pub(super) eos: Vec<u32>,
}

impl ModelConfig {
    /// Reads both files of a model's directory.
    pub(super) fn load(dir: &Path, context_limit: Option<u32>) -> Loaded<Self> {
        let path = dir.join("config.json");
        let map = families::read(&path)?;
        let mut config = ConfigFields::new(&path, &map).model(context_limit)?;
        let path = dir.join("generation_config.json");
        if let Some(map) = files::read_object(&path, MAX_CONFIG_BYTES)? {
            config.eos.extend(ConfigFields::new(&path, &map).token_ids("eos_token_id")?);
        }
        // A token without an embedding is never generated.
        config.eos.retain(|id| (*id as usize) < config.llama.vocab_size);
        config.eos.sort_unstable();
        config.eos.dedup();
        if !config.eos.is_empty() {
            config.llama.eos_token_id = Some(LlamaEosToks::Multiple(config.eos.clone()));
        }
        Ok(config)
    }

    /// Every tensor of the model, with its shape.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>)> + '_ {
        let c = &self.llama;
        let kv = c.hidden_size / c.num_attention_heads * c.num_key_value_heads;
        let (hidden, inner) = (c.hidden_size, c.intermediate_size);
        let head = (!c.tie_word_embeddings)
            .then(|| ("lm_head.weight".to_owned(), vec![c.vocab_size, hidden]));
        let ends = [
            ("model.embed_tokens.weight".to_owned(), vec![c.vocab_size, hidden]),
            ("model.norm.weight".to_owned(), vec![hidden]),
        ];
        let layers = (0..c.num_hidden_layers).flat_map(move |layer| {
            [
                ("input_layernorm", vec![hidden]),
                ("self_attn.q_proj", vec![hidden, hidden]),
                ("self_attn.k_proj", vec![kv, hidden]),
                ("self_attn.v_proj", vec![kv, hidden]),
                ("self_attn.o_proj", vec![hidden, hidden]),
                ("post_attention_layernorm", vec![hidden]),
                ("mlp.gate_proj", vec![inner, hidden]),
                ("mlp.up_proj", vec![inner, hidden]),
                ("mlp.down_proj", vec![hidden, inner]),
            ]
            .map(|(name, shape)| (format!("model.layers.{layer}.{name}.weight"), shape))
        });
        ends.into_iter().chain(head).chain(layers)
    }
}

impl ConfigFields<'_> {
    fn model(&self, context_limit: Option<u32>) -> Loaded<ModelConfig> {
        self.architecture()?;
        let hidden = self.needed("hidden_size", 2..=65_536)?;
        let heads = self.needed("num_attention_heads", 1..=1_024)?;
        let kv_heads = self.count("num_key_value_heads", 1..=1_024)?.unwrap_or(heads);
        if !hidden.is_multiple_of(heads) || !(hidden / heads).is_multiple_of(2) {
            let what = format!(
                "hidden_size is {hidden} for num_attention_heads {heads}; allowed is an even multiple of it"
            );
            return Err(LoadFault::defect(self.file, what));
        }
        if !heads.is_multiple_of(kv_heads) {
            let what = format!(
                "num_key_value_heads is {kv_heads}; allowed is a divisor of num_attention_heads, {heads}"
            );
            return Err(LoadFault::defect(self.file, what));
        }
        self.only("head_dim", Value::from(hidden / heads))?;
        let vocab = self.needed("vocab_size", 1..=4_194_304)?;
        let positions = self.needed("max_position_embeddings", 2..=16_777_216)?;
        let context = (positions as u64)
            .min(context_limit.unwrap_or(DEFAULT_CONTEXT).into())
            .min(MAX_CONTEXT.into()) as u32;
        let (rope_theta, rope_scaling) = self.rope()?;
        let llama = Config {
            hidden_size: hidden,
            intermediate_size: self.needed("intermediate_size", 1..=1_048_576)?,
            vocab_size: vocab,
            num_hidden_layers: self.needed("num_hidden_layers", 1..=1_024)?,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            use_flash_attn: false,
            rms_norm_eps: self
                .number("rms_norm_eps", 1e-12..=1e-1)?
                .ok_or_else(|| self.absent("rms_norm_eps", "a number such as 1e-5"))?,
            rope_theta,
            bos_token_id: None,
            eos_token_id: None,
            rope_scaling,
            // The engine makes its tables this long, so the context limits them. It also compares the number of key
            // heads with this value and drops the heads beyond it, so the value is never less than that number.
            max_position_embeddings: (context as usize).max(kv_heads),
            tie_word_embeddings: match self.get("tie_word_embeddings") {
                None => false,
                Some(Value::Bool(tied)) => *tied,
                Some(other) => return Err(self.bad("tie_word_embeddings", other, "true or false")),
            },
        };
        let eos = self.token_ids("eos_token_id")?;
        Ok(ModelConfig { llama, context, eos })
    }

    fn architecture(&self) -> Loaded<()> {
        const ALLOWED: &str = "[\"LlamaForCausalLM\"], or for vectors a model of the BERT family such as [\"BertModel\"]";
        match self.get("architectures") {
            None => return Err(self.absent("architectures", ALLOWED)),
            Some(value) if *value != Value::from(vec!["LlamaForCausalLM"]) => {
                return Err(self.bad("architectures", value, ALLOWED));
            }
            Some(_) => {}
        }
        self.only("hidden_act", "silu".into())?;
        self.only("attention_bias", false.into())?;
        self.only("mlp_bias", false.into())?;
        match self.get("quantization_config") {
            Some(value) => {
                Err(self.bad("quantization_config", value, "none: weights as f32, f16 or bf16"))
            }
            None => Ok(()),
        }
    }

    /// The base of the rotary embedding and its scaling. transformers 5 writes both into `rope_parameters`; older
    /// versions wrote the base as a separate key and the scaling in `rope_scaling`.
    fn rope(&self) -> Loaded<(f32, Option<Llama3RopeConfig>)> {
        const BASE: RangeInclusive<f64> = 1.0..=1e12;
        let nested = match self.object("rope_parameters")? {
            Some(parameters) => Some(parameters),
            None => self.object("rope_scaling")?,
        };
        let inner = match &nested {
            Some(parameters) => parameters.number("rope_theta", BASE)?,
            None => None,
        };
        let outer = self.number("rope_theta", BASE)?;
        if let (Some(inner), Some(outer)) = (inner, outer)
            && inner != outer
        {
            let what = format!(
                "rope_theta is {outer} and, in rope_parameters, {inner}; allowed is one value"
            );
            return Err(LoadFault::defect(self.file, what));
        }
        let theta = inner.or(outer).unwrap_or(10_000.0) as f32;
        let scaling = nested.map(|parameters| parameters.rope_scaling()).transpose()?;
        Ok((theta, scaling.flatten()))
    }

    fn rope_scaling(&self) -> Loaded<Option<Llama3RopeConfig>> {
        const ALLOWED: &str = "\"default\" or \"llama3\"";
        self.number("partial_rotary_factor", 1.0..=1.0)?;
        let key = if self.get("rope_type").is_some() { "rope_type" } else { "type" };
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(kind)) if kind == "default" => Ok(None),
            Some(Value::String(kind)) if kind == "llama3" => {
                let number = |key: &str, range: RangeInclusive<f64>| {
                    self.number(key, range.clone())?.ok_or_else(|| self.absent(key, &span(&range)))
                };
                let low_freq_factor = number("low_freq_factor", 1e-3..=1e6)? as f32;
                let high_freq_factor = number("high_freq_factor", 1e-3..=1e6)? as f32;
                if low_freq_factor >= high_freq_factor {
                    let what = format!(
                        "{}low_freq_factor is {low_freq_factor}; allowed is less than high_freq_factor, \
                         {high_freq_factor}",
                        self.at
                    );
                    return Err(LoadFault::defect(self.file, what));
                }
                Ok(Some(Llama3RopeConfig {
                    factor: number("factor", 1.0..=1e6)? as f32,
                    low_freq_factor,
                    high_freq_factor,
                    original_max_position_embeddings: self
                        .needed("original_max_position_embeddings", 1..=16_777_216)?,
                    rope_type: Llama3RopeType::Llama3,
                }))
            }
            Some(other) => Err(self.bad(key, other, ALLOWED)),
        }
    }
}

/// The directory of a model at this path, and the file with the weights if the path names it.
pub(super) fn locate(path: &Path) -> Loaded<(PathBuf, Option<PathBuf>)> {
    let metadata = std::fs::metadata(path)
        .map_err(|source| FileFault::Missing { path: path.to_owned(), source })?;
    if metadata.is_dir() {
        return Ok((path.to_owned(), None));
    }
    if path.extension().is_none_or(|extension| extension != "safetensors") {
        return Err(LoadFault::defect(path, "is not a directory or a .safetensors file"));
    }
    let dir = path.parent().unwrap_or(Path::new("")).to_owned();
    Ok((dir, Some(path.to_owned())))
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
