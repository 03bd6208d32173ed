//! Phi 3 and Phi 4: matrices that are fused, and LongRoPE.

use rbee_decoder::architecture::Pairs;

use super::{Description, Family, base, ropes, source::Source};
use crate::candle::{
    decoder::plan::{Layout, Names},
    files::Loaded,
};

pub(super) const PHI3: Family = Family {
    name: "Phi3",
    classes: &["Phi3ForCausalLM"],
    architectures: &["phi3"],
    config,
    metadata,
};

fn config(source: &Source<'_>) -> Loaded<Description> {
    for key in ["attention_bias", "lm_head_bias"] {
        source.fields.only(key, false.into())?;
    }
    let mut model = base::of_config(source, PHI3.name, "hidden_act")?;
    model.ropes = vec![ropes::of_config(source, &model)?];
    base::set_windows(source, &mut model)?;
    let layout = Layout { fused_qkv: true, fused_gate: true, ..Layout::default() };
    Ok(Description { layout, ..model.into() })
}

fn metadata(source: &Source<'_>) -> Loaded<Description> {
    let mut model = base::of_metadata(source, PHI3.name, &[])?;
    base::dense(source)?;
    model.ropes = vec![ropes::of_metadata(source, &model, Pairs::Halves)?];
    base::set_windows(source, &mut model)?;
    let layout = Layout {
        names: Names::Gguf,
        fused_qkv: source.weights.has("blk.0.attn_qkv.weight"),
        fused_gate: true,
        ..Layout::default()
    };
    Ok(Description { architecture: model, layout, idle: ropes::FACTOR_TENSORS })
}
