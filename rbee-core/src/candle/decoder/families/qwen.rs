//! Qwen 2 and 2.5 (biases of queries, keys and values), and Qwen 3 (norms of queries and keys; dense, and with experts).

use rbee_decoder::architecture::{Experts, Pairs};
use serde_json::Value;

use super::{Description, Family, base, ropes, source::Source};
use crate::candle::{
    decoder::plan::{Layout, Names},
    files::Loaded,
};

pub(super) const QWEN2: Family = Family {
    name: "Qwen2",
    classes: &["Qwen2ForCausalLM"],
    architectures: &["qwen2"],
    config: |source| config(source, &QWEN2),
    metadata: |source| gguf(source, &QWEN2, &[]),
};

pub(super) const QWEN3: Family = Family {
    name: "Qwen3",
    classes: &["Qwen3ForCausalLM"],
    architectures: &["qwen3"],
    config: |source| config(source, &QWEN3),
    metadata: |source| gguf(source, &QWEN3, &[]),
};

pub(super) const QWEN3_MOE: Family = Family {
    name: "Qwen3Moe",
    classes: &["Qwen3MoeForCausalLM"],
    architectures: &["qwen3moe"],
    config: config_experts,
    metadata: gguf_experts,
};

fn config(source: &Source<'_>, family: &Family) -> Loaded<Description> {
    let mut model = base::of_config(source, family.name, "hidden_act")?;
    if family.name == QWEN2.name {
        // The class has these biases whatever the configuration says.
        (model.qkv_bias, model.output_bias) = (true, false);
    } else {
        model.qk_norm = true;
    }
    model.ropes = vec![ropes::of_config(source, &model)?];
    base::set_windows(source, &mut model)?;
    Ok(model.into())
}

fn gguf(source: &Source<'_>, family: &Family, extra: &[&str]) -> Loaded<Description> {
    let mut model = base::of_metadata(source, family.name, extra)?;
    if family.name != QWEN3_MOE.name {
        base::dense(source)?;
    }
    model.qk_norm = family.name != QWEN2.name;
    model.ropes = vec![ropes::of_metadata(source, &model, Pairs::Halves)?];
    base::set_windows(source, &mut model)?;
    let layout = Layout { names: Names::Gguf, ..Layout::default() };
    Ok(Description { architecture: model, layout, idle: &[] })
}

fn config_experts(source: &Source<'_>) -> Loaded<Description> {
    let f = &source.fields;
    let mut description = config(source, &QWEN3_MOE)?;
    let model = &mut description.architecture;
    // Version 5 of the library writes another name.
    let written = if f.get("num_experts").is_some() { "num_experts" } else { "num_local_experts" };
    let count = f.needed(written, 1..=4_096)?;
    f.only("num_local_experts", count.into())?;
    model.experts = Some(Experts {
        count,
        used: f.needed("num_experts_per_tok", 1..=4_096)?,
        inner: f.needed("moe_intermediate_size", 1..=1_048_576)?,
        normalized: f.flag("norm_topk_prob")?.unwrap_or(false),
    });
    let step = f.count("decoder_sparse_step", 1..=1_024)?.unwrap_or(1);
    let dense = match f.get("mlp_only_layers") {
        None => &[],
        Some(Value::Array(layers)) => &layers[..],
        Some(other) => return Err(f.bad("mlp_only_layers", other, "a list of layers")),
    };
    for (index, layer) in model.layers.iter_mut().enumerate() {
        layer.experts = (index + 1).is_multiple_of(step) && !dense.contains(&index.into());
    }
    base::check_experts(source, model)?;
    // Version 5 of the library can keep the experts of a layer in one tensor.
    description.layout.fused_experts =
        source.weights.names().any(|name| name.ends_with(".mlp.experts.gate_up_proj"));
    Ok(description)
}

fn gguf_experts(source: &Source<'_>) -> Loaded<Description> {
    let f = &source.fields;
    let extra = ["expert_feed_forward_length", "expert_weights_norm", "expert_gating_func"];
    let mut description = gguf(source, &QWEN3_MOE, &extra)?;
    f.only("expert_gating_func", 1.into())?;
    let model = &mut description.architecture;
    model.experts = Some(Experts {
        count: f.needed("expert_count", 1..=4_096)?,
        used: f.needed("expert_used_count", 1..=4_096)?,
        inner: f.needed("expert_feed_forward_length", 1..=1_048_576)?,
        // The files do not say it, but all models of this family have it.
        normalized: f.flag("expert_weights_norm")?.unwrap_or(true),
    });
    model.layers.iter_mut().for_each(|layer| layer.experts = true);
    base::check_experts(source, model)?;
    Ok(description)
}
