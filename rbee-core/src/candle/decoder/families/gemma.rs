//! The text models of Gemma 2 and Gemma 3.

use rbee_decoder::architecture::{Activation, Architecture, Pairs};

use super::{Description, Family, base, ropes, source::Source};
use crate::candle::{
    config_fields::ConfigFields,
    decoder::{
        plan::{Layout, Names},
        rope::{RopeSpec, Scaling},
    },
    files::Loaded,
};

pub(super) const GEMMA2: Family = Family {
    name: "Gemma2",
    classes: &["Gemma2ForCausalLM"],
    architectures: &["gemma2"],
    config: gemma2,
    metadata: |source| gguf(source, &GEMMA2),
};

pub(super) const GEMMA3: Family = Family {
    name: "Gemma3",
    // Of a model that also sees images, the part for text.
    classes: &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
    architectures: &["gemma3"],
    config: gemma3,
    metadata: |source| gguf(source, &GEMMA3),
};

/// The base of the frequencies in the layers of Gemma 3 that have a window.
const LOCAL_THETA: f64 = 10_000.0;

fn config(source: &Source<'_>, family: &Family) -> Loaded<Architecture> {
    let f = &source.fields;
    f.only("use_bidirectional_attention", false.into())?;
    let mut model = base::of_config(source, family.name, "hidden_activation")?;
    model.post_norms = true;
    // The files store the difference from 1.
    model.norm_shift = 1.0;
    model.embedding_scale = (model.hidden as f64).sqrt() as f32;
    let scalar = f.needed_number("query_pre_attn_scalar", 1e-3..=1e6)?;
    model.query_scale = scalar.powf(-0.5) as f32;
    let cap =
        |key: &str| -> Loaded<Option<f32>> { Ok(f.number(key, 1e-3..=1e6)?.map(|cap| cap as f32)) };
    model.attention_softcap = cap("attn_logit_softcapping")?;
    model.final_softcap = cap("final_logit_softcapping")?;
    base::set_windows(source, &mut model)?;
    Ok(model)
}

fn gemma2(source: &Source<'_>) -> Loaded<Description> {
    let mut model = config(source, &GEMMA2)?;
    model.ropes = vec![ropes::of_config(source, &model)?];
    Ok(model.into())
}

fn gemma3(source: &Source<'_>) -> Loaded<Description> {
    let f = &source.fields;
    f.needed("sliding_window", 1..=u32::MAX.into())?;
    let mut model = config(source, &GEMMA3)?;
    model.qk_norm = true;
    let nested = f.object("rope_parameters")?;
    let of = |kind: &str| nested.as_ref().map(|nested| nested.object(kind)).transpose();
    let (global, local) = (of("full_attention")?.flatten(), of("sliding_attention")?.flatten());
    // Older files have one object, for the layers that attend to everything.
    let global = if nested.is_some() { global } else { f.object("rope_scaling")? };
    let theta = |object: &Option<ConfigFields<'_>>, key: &str, default: f64| -> Loaded<f64> {
        let inner = match object {
            Some(object) => object.number("rope_theta", ropes::BASE)?,
            None => None,
        };
        Ok(inner.or(f.number(key, ropes::BASE)?).unwrap_or(default))
    };
    let global_theta = theta(&global, "rope_theta", 1e6)?;
    let local_theta = theta(&local, "rope_local_base_freq", LOCAL_THETA)?;
    model.ropes = vec![
        ropes::of_object(source, &model, global.as_ref(), global_theta)?,
        ropes::of_object(source, &model, local.as_ref(), local_theta)?,
    ];
    let windows = source.windows(model.layers.len())?;
    for (layer, window) in model.layers.iter_mut().zip(windows) {
        layer.rope = window.is_some().into();
    }
    let mut description = Description::from(model);
    // A model that also sees images has its text part below a prefix, of which there are two versions.
    for (prefix, head) in [
        ("language_model.model.", "language_model.lm_head.weight"),
        ("model.language_model.", "lm_head.weight"),
    ] {
        if source.weights.has(&format!("{prefix}embed_tokens.weight")) {
            description.layout.names = Names::Prefixed { model: prefix, head };
            description.idle = &[
                "vision_tower.",
                "multi_modal_projector.",
                "model.vision_tower.",
                "model.multi_modal_projector.",
            ];
        }
    }
    Ok(description)
}

fn gguf(source: &Source<'_>, family: &Family) -> Loaded<Description> {
    let f = &source.fields;
    let extra = ["attn_logit_softcapping", "final_logit_softcapping"];
    let mut model = base::of_metadata(source, family.name, &extra)?;
    base::dense(source)?;
    let is_third = family.name == GEMMA3.name;
    if is_third {
        f.needed("attention.sliding_window", 1..=u32::MAX.into())?;
    }
    model.activation = Activation::GeluTanh;
    model.post_norms = true;
    model.qk_norm = is_third;
    model.embedding_scale = (model.hidden as f64).sqrt() as f32;
    let cap = |key: &str, default: Option<f32>| -> Loaded<Option<f32>> {
        Ok(f.number(key, 1e-3..=1e6)?.map_or(default, |cap| Some(cap as f32)))
    };
    let defaults = if is_third { (None, None) } else { (Some(50.0), Some(30.0)) };
    model.attention_softcap = cap("attn_logit_softcapping", defaults.0)?;
    model.final_softcap = cap("final_logit_softcapping", defaults.1)?;
    // The files do not state the scale. It differs in the largest model of both generations.
    let largest = if is_third { 62 } else { 46 };
    if model.layers.len() == largest {
        model.query_scale = ((model.hidden / model.heads) as f64).powf(-0.5) as f32;
    }
    let windows = source.windows(model.layers.len())?;
    base::set_windows(source, &mut model)?;
    let global = ropes::of_metadata(source, &model, Pairs::Halves)?;
    let dims = 2 * global.inverse_frequencies.len();
    model.ropes = vec![global];
    if is_third {
        let theta = f.number("rope.freq_base_swa", ropes::BASE)?.unwrap_or(LOCAL_THETA);
        let local = RopeSpec { theta, dims, scaling: Scaling::None };
        model.ropes.push(local.resolve(Pairs::Halves));
        for (layer, window) in model.layers.iter_mut().zip(windows) {
            layer.rope = window.is_some().into();
        }
    } else if let Some(theta) = f.get("rope.freq_base_swa")
        && f.get("rope.freq_base").is_some_and(|base| base != theta)
    {
        return Err(f.bad("rope.freq_base_swa", theta, "the same as rope.freq_base"));
    }
    let layout = Layout { names: Names::Gguf, ..Layout::default() };
    Ok(Description { architecture: model, layout, idle: &[] })
}
