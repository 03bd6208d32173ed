//! Architecture and weights of the fixture's models.

use std::ops::Range;

use rbee_decoder::{
    architecture::{Activation, Architecture, Experts, Layer, Pairs, Rope},
    matrix::{StoredMatrix, WeightType},
    weights::{DecoderWeights, FeedForwardWeights, GatedWeights, LayerWeights, Projection},
};
use serde_json::Value;

use super::cases::Case;

pub(super) fn architecture(config: &Value) -> Architecture {
    let number = |key: &str| config[key].as_f64();
    let count = |key: &str| config[key].as_u64().map(|count| count as usize);
    let list = |value: &Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    let kind = config["model_type"].as_str().unwrap();
    let gemma = kind.starts_with("gemma");
    let (hidden, heads) = (count("hidden_size").unwrap(), count("num_attention_heads").unwrap());
    let head_dim = count("head_dim").unwrap_or(hidden / heads);
    let positions = count("max_position_embeddings").unwrap();
    let scaling = match &config["rope_scaling"] {
        Value::Null => &config["rope_parameters"],
        scaling => scaling,
    };
    let theta = number("rope_theta").or(scaling["rope_theta"].as_f64()).unwrap();
    let rotated = (head_dim as f64 * number("partial_rotary_factor").unwrap_or(1.0)) as usize;
    let plain = |theta: f64| -> Vec<f64> {
        (0..rotated / 2).map(|pair| theta.powf(-2.0 * pair as f64 / rotated as f64)).collect()
    };
    let rope = |frequencies: &[f64], magnitude: f64| Rope {
        inverse_frequencies: frequencies.iter().map(|frequency| *frequency as f32).collect(),
        magnitude: magnitude as f32,
        pairs: Pairs::Halves,
    };
    let mut frequencies = plain(theta);
    let mut magnitude = 1.0;
    let original = count("original_max_position_embeddings")
        .or(scaling["original_max_position_embeddings"].as_u64().map(|count| count as usize));
    let original = original.unwrap_or(positions) as f64;
    let factor = scaling["factor"].as_f64().unwrap_or(positions as f64 / original);
    match scaling["rope_type"].as_str().or(scaling["type"].as_str()) {
        None => {}
        Some("linear") => frequencies.iter_mut().for_each(|frequency| *frequency /= factor),
        Some("llama3") => {
            let (low, high) = (1.0, 4.0);
            for frequency in &mut frequencies {
                let turns = original * *frequency / std::f64::consts::TAU;
                let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                *frequency *= smooth + (1.0 - smooth) / factor;
            }
        }
        Some("yarn") => {
            magnitude = 0.1 * factor.ln() + 1.0;
            let dimension = |turns: f64| {
                rotated as f64 * (original / (turns * std::f64::consts::TAU)).ln()
                    / (2.0 * theta.ln())
            };
            let low = dimension(32.0).floor().max(0.0);
            let high = dimension(1.0).ceil().min(rotated as f64 - 1.0);
            for (pair, frequency) in frequencies.iter_mut().enumerate() {
                let ramp = ((pair as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
                *frequency *= (1.0 - ramp) + ramp / factor;
            }
        }
        Some("longrope") => {
            magnitude = (1.0 + factor.ln() / original.ln()).sqrt();
            // All recorded logits are beyond the original positions.
            for (frequency, scale) in frequencies.iter_mut().zip(list(&scaling["long_factor"])) {
                *frequency /= scale;
            }
        }
        Some(other) => panic!("{other}"),
    }
    let mut ropes = vec![rope(&frequencies, magnitude)];
    if let Some(local) = number("rope_local_base_freq") {
        ropes.push(rope(&plain(local), 1.0));
    }
    let experts = kind == "qwen3_moe";
    let layers = (0..count("num_hidden_layers").unwrap()).map(|layer| {
        let full = match kind {
            "gemma2" => layer % 2 == 1,
            "gemma3_text" => (layer + 1) % count("sliding_window_pattern").unwrap() == 0,
            "qwen2" => layer < count("max_window_layers").unwrap_or(0),
            _ => false,
        };
        let dense = config["mlp_only_layers"].as_array();
        let dense = dense.is_some_and(|dense| dense.contains(&Value::from(layer)));
        Layer {
            window: count("sliding_window").filter(|_| !full),
            rope: usize::from(ropes.len() > 1 && !full),
            experts: experts && !dense,
        }
    });
    let norm_eps = number("rms_norm_eps").unwrap() as f32;
    Architecture {
        family: "test",
        vocab: count("vocab_size").unwrap(),
        hidden,
        heads,
        kv_heads: count("num_key_value_heads").unwrap(),
        head_dim,
        inner: count("intermediate_size").unwrap(),
        positions: positions as u32,
        layers: layers.collect(),
        ropes,
        norm_eps,
        norm_shift: if gemma { 1.0 } else { 0.0 },
        post_norms: gemma,
        qk_norm: kind.starts_with("qwen3") || kind == "gemma3_text",
        qkv_bias: kind == "qwen2" || config["attention_bias"] == true,
        output_bias: config["attention_bias"] == true,
        query_scale: number("query_pre_attn_scalar").unwrap_or(head_dim as f64).powf(-0.5) as f32,
        attention_softcap: number("attn_logit_softcapping").map(|cap| cap as f32),
        final_softcap: number("final_logit_softcapping").map(|cap| cap as f32),
        activation: if gemma { Activation::GeluTanh } else { Activation::Silu },
        embedding_scale: if gemma { (hidden as f32).sqrt() } else { 1.0 },
        tied: config["tie_word_embeddings"] == true,
        experts: experts.then(|| Experts {
            count: count("num_experts").unwrap(),
            used: count("num_experts_per_tok").unwrap(),
            inner: count("moe_intermediate_size").unwrap(),
            normalized: config["norm_topk_prob"] == true,
        }),
    }
}

/// Numbers as a file stores them.
fn bytes(numbers: &[f32], kind: WeightType) -> Vec<u8> {
    match kind {
        WeightType::F32 => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
        // The upper half; the lower one is 0.
        WeightType::Bf16 => {
            numbers.iter().flat_map(|number| number.to_le_bytes().into_iter().skip(2)).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// The weights as a file with tensors of this type has them.
pub(super) fn weights(case: &Case, model: &Architecture, kind: WeightType) -> DecoderWeights {
    let matrix = |name: &str| {
        let shape = &case.tensors[name];
        let bytes = bytes(&case.tensor(name), kind).into();
        StoredMatrix { kind, rows: shape[0], cols: shape[1], bytes }
    };
    weights_from(case, model, &matrix, &|name| case.tensor(name))
}

/// The weights, with matrices and vectors by their names in `model.safetensors`.
pub(super) fn weights_from(
    case: &Case,
    model: &Architecture,
    matrix: &dyn Fn(&str) -> StoredMatrix,
    vector: &dyn Fn(&str) -> Vec<f32>,
) -> DecoderWeights {
    let optional = |name: &str| case.tensors.contains_key(name).then(|| vector(name));
    let (q_width, kv_width) = (model.heads * model.head_dim, model.kv_heads * model.head_dim);
    let layers = (0..model.layers.len()).map(|layer| {
        let name = |role: &str| format!("model.layers.{layer}.{role}");
        let own = |role: &str| optional(&name(role));
        let part = |fused: &str, role: &str, rows: Range<usize>| {
            let fused = name(fused);
            if case.tensors.contains_key(&fused) {
                matrix(&fused).slice(rows)
            } else {
                matrix(&name(role))
            }
        };
        let projection = |role: &str, rows: Range<usize>| Projection {
            matrix: part(
                "self_attn.qkv_proj.weight",
                &format!("self_attn.{role}_proj.weight"),
                rows,
            ),
            bias: own(&format!("self_attn.{role}_proj.bias")),
        };
        let gated = |prefix: &str| GatedWeights {
            gate: part(
                "mlp.gate_up_proj.weight",
                &format!("{prefix}.gate_proj.weight"),
                0..model.inner,
            ),
            up: part(
                "mlp.gate_up_proj.weight",
                &format!("{prefix}.up_proj.weight"),
                model.inner..2 * model.inner,
            ),
            down: matrix(&name(&format!("{prefix}.down_proj.weight"))),
        };
        let feed_forward = match (&model.experts, model.layers[layer].experts) {
            (Some(experts), true) => FeedForwardWeights::Experts {
                router: matrix(&name("mlp.gate.weight")),
                experts: (0..experts.count)
                    .map(|expert| gated(&format!("mlp.experts.{expert}")))
                    .collect(),
            },
            _ => FeedForwardWeights::Dense(gated("mlp")),
        };
        let before_feed_forward =
            if model.post_norms { "pre_feedforward" } else { "post_attention" };
        let post = |role: &str| own(role).filter(|_| model.post_norms);
        LayerWeights {
            attention_norm: own("input_layernorm.weight").unwrap(),
            q: projection("q", 0..q_width),
            k: projection("k", q_width..q_width + kv_width),
            v: projection("v", q_width + kv_width..q_width + 2 * kv_width),
            o: Projection {
                matrix: matrix(&name("self_attn.o_proj.weight")),
                bias: own("self_attn.o_proj.bias"),
            },
            q_norm: own("self_attn.q_norm.weight"),
            k_norm: own("self_attn.k_norm.weight"),
            attention_post_norm: post("post_attention_layernorm.weight"),
            feed_forward_norm: own(&format!("{before_feed_forward}_layernorm.weight")).unwrap(),
            feed_forward,
            feed_forward_post_norm: post("post_feedforward_layernorm.weight"),
        }
    });
    DecoderWeights {
        embeddings: matrix("model.embed_tokens.weight"),
        layers: layers.collect(),
        output_norm: vector("model.norm.weight"),
        output: case.tensors.contains_key("lm_head.weight").then(|| matrix("lm_head.weight")),
    }
}
