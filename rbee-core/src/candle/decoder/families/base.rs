//! The values that nearly all families have in common.

use rbee_decoder::architecture::{Activation, Architecture, Layer};
use serde_json::Value;

use super::source::Source;
use crate::candle::files::{LoadFault, Loaded};

/// The most layers times experts: a plan of the tensors has an entry for each.
const MAX_EXPERTS: usize = 1 << 16;

/// The dimensions of a model, before anything else is known.
struct Dimensions {
    vocab: usize,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    inner: usize,
    positions: u32,
    layers: usize,
    norm_eps: f64,
}

impl Dimensions {
    fn architecture(self, family: &'static str) -> Architecture {
        let layer = Layer { window: None, rope: 0, experts: false };
        Architecture {
            family,
            vocab: self.vocab,
            hidden: self.hidden,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            inner: self.inner,
            positions: self.positions,
            layers: vec![layer; self.layers],
            ropes: Vec::new(),
            norm_eps: self.norm_eps as f32,
            norm_shift: 0.0,
            post_norms: false,
            qk_norm: false,
            qkv_bias: false,
            output_bias: false,
            query_scale: (self.head_dim as f64).powf(-0.5) as f32,
            attention_softcap: None,
            final_softcap: None,
            activation: Activation::Silu,
            embedding_scale: 1.0,
            tied: false,
            experts: None,
        }
    }
}

/// The common values of `config.json`. Rotations and windows are not set. `activation` is the key of the activation.
pub(super) fn of_config(
    source: &Source<'_>,
    family: &'static str,
    activation: &str,
) -> Loaded<Architecture> {
    let f = &source.fields;
    if let Some(value) = f.get("quantization_config") {
        return Err(f.bad("quantization_config", value, "none: weights as f32, f16 or bf16"));
    }
    f.only("mlp_bias", false.into())?;
    let hidden = f.needed("hidden_size", 2..=65_536)?;
    let heads = f.needed("num_attention_heads", 1..=1_024)?;
    let kv_heads = f.count("num_key_value_heads", 1..=1_024)?.unwrap_or(heads);
    let head_dim = match f.count("head_dim", 2..=4_096)? {
        Some(width) => width,
        None if hidden.is_multiple_of(heads) && (hidden / heads).is_multiple_of(2) => {
            hidden / heads
        }
        None => {
            let what = format!(
                "{}hidden_size is {hidden} for num_attention_heads {heads}; allowed is an even multiple of it",
                f.at
            );
            return Err(LoadFault::defect(f.file, what));
        }
    };
    if !head_dim.is_multiple_of(2) {
        return Err(f.bad("head_dim", &head_dim.into(), "an even number"));
    }
    if !heads.is_multiple_of(kv_heads) {
        let allowed = format!("a divisor of num_attention_heads, {heads}");
        return Err(f.bad("num_key_value_heads", &kv_heads.into(), &allowed));
    }
    let dimensions = Dimensions {
        vocab: f.needed("vocab_size", 1..=4_194_304)?,
        hidden,
        heads,
        kv_heads,
        head_dim,
        inner: f.needed("intermediate_size", 1..=1_048_576)?,
        positions: f.needed("max_position_embeddings", 2..=16_777_216)? as u32,
        layers: f.needed("num_hidden_layers", 1..=1_024)?,
        norm_eps: f.needed_number("rms_norm_eps", 1e-12..=1e-1)?,
    };
    let bias = f.flag("attention_bias")?.unwrap_or(false);
    Ok(Architecture {
        activation: match f.get(activation).and_then(Value::as_str) {
            Some("silu") => Activation::Silu,
            Some("gelu_pytorch_tanh") => Activation::GeluTanh,
            Some("gelu") => Activation::Gelu,
            _ => {
                let found = f.get(activation).unwrap_or(&Value::Null);
                let allowed = "\"silu\", \"gelu_pytorch_tanh\" or \"gelu\"";
                return Err(f.bad(activation, found, allowed));
            }
        },
        qkv_bias: bias,
        output_bias: bias,
        tied: f.flag("tie_word_embeddings")?.unwrap_or(false),
        ..dimensions.architecture(family)
    })
}

/// The keys of GGUF files that all families read.
const KNOWN: &[&str] = &[
    "attention.causal",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.key_length_swa",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.value_length",
    "attention.value_length_swa",
    "expert_count",
    "expert_used_count",
    "rope.dimension_count",
    "rope.dimension_count_swa",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scale_linear",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_log_multiplier",
];

/// The common values of a GGUF file, of which the family reads the `extra` keys itself. Rotations and windows are not
/// set.
pub(super) fn of_metadata(
    source: &Source<'_>,
    family: &'static str,
    extra: &[&str],
) -> Loaded<Architecture> {
    let f = &source.fields;
    let changes_results = |key: &str| {
        ["attention.", "rope.", "expert"].iter().any(|prefix| key.starts_with(prefix))
            || ["_scale", "softcapping"].iter().any(|suffix| key.ends_with(suffix))
    };
    let unknown = |key: &&str| changes_results(key) && !KNOWN.contains(key) && !extra.contains(key);
    if let Some(key) = f.keys().find(unknown) {
        let value = f.get(key).unwrap_or(&Value::Null);
        return Err(f.bad(key, value, &format!("no such key in a model of family {family}")));
    }
    f.only("attention.causal", true.into())?;
    f.only("pooling_type", 0.into())?;
    let hidden = f.needed("embedding_length", 2..=65_536)?;
    let heads = f.needed("attention.head_count", 1..=1_024)?;
    let kv_heads = f.count("attention.head_count_kv", 1..=1_024)?.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        let allowed = format!("a divisor of attention.head_count, {heads}");
        return Err(f.bad("attention.head_count_kv", &kv_heads.into(), &allowed));
    }
    let head_dim = f.count("attention.key_length", 2..=4_096)?.unwrap_or(hidden / heads);
    if !head_dim.is_multiple_of(2) || head_dim == 0 {
        let what = format!(
            "the width of a head is {head_dim}; allowed are even numbers for {}attention.key_length, or for \
             {0}embedding_length divided by {0}attention.head_count",
            f.at
        );
        return Err(LoadFault::defect(f.file, what));
    }
    for key in ["attention.value_length", "attention.key_length_swa", "attention.value_length_swa"]
    {
        f.only(key, head_dim.into())?;
    }
    let embedding = "token_embd.weight";
    let vocab = match source.weights.shape(embedding) {
        Some(&[vocab, width]) if width == hidden && (1..=4_194_304).contains(&vocab) => vocab,
        Some(shape) => {
            let what = format!(
                "tensor {embedding} has shape {shape:?}; allowed are 1 to 4194304 rows of {hidden} numbers"
            );
            return Err(LoadFault::defect(source.weights.path(embedding), what));
        }
        None => return Err(LoadFault::defect(f.file, format!("tensor {embedding} is missing"))),
    };
    f.only("vocab_size", vocab.into())?;
    let dimensions = Dimensions {
        vocab,
        hidden,
        heads,
        kv_heads,
        head_dim,
        inner: f.count("feed_forward_length", 1..=1_048_576)?.unwrap_or(1),
        positions: f.needed("context_length", 2..=16_777_216)? as u32,
        layers: f.needed("block_count", 1..=1_024)?,
        norm_eps: f.needed_number("attention.layer_norm_rms_epsilon", 1e-12..=1e-1)?,
    };
    let has = |name: &str| source.weights.has(name);
    Ok(Architecture {
        qkv_bias: has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias"),
        output_bias: has("blk.0.attn_output.bias"),
        tied: !has("output.weight"),
        ..dimensions.architecture(family)
    })
}

/// Checks that a GGUF model has no experts.
pub(super) fn dense(source: &Source<'_>) -> Loaded<()> {
    source.fields.only("expert_count", 0.into())?;
    source.fields.only("expert_used_count", 0.into())?;
    source.fields.needed("feed_forward_length", 1..=1_048_576).map(drop)
}

/// Sets the window of each layer. A window that the model's positions fit into is none.
pub(super) fn set_windows(source: &Source<'_>, architecture: &mut Architecture) -> Loaded<()> {
    let positions = architecture.positions as usize;
    let windows = source.windows(architecture.layers.len())?;
    for (layer, window) in architecture.layers.iter_mut().zip(windows) {
        layer.window = window.filter(|window| *window < positions);
    }
    Ok(())
}

/// Checks that the number of experts in all layers is one that models have.
pub(super) fn check_experts(source: &Source<'_>, architecture: &Architecture) -> Loaded<()> {
    let Some(experts) = architecture.experts else {
        return Ok(());
    };
    let total = architecture.layers.len().saturating_mul(experts.count);
    if experts.used > experts.count || total > MAX_EXPERTS {
        let what = format!(
            "each token uses {} of {} experts in {} layers; allowed are at most all of them, and {MAX_EXPERTS} in total",
            experts.used,
            experts.count,
            architecture.layers.len()
        );
        return Err(LoadFault::defect(source.fields.file, what));
    }
    Ok(())
}

#[cfg(test)]
#[path = "base_tests.rs"]
mod tests;
