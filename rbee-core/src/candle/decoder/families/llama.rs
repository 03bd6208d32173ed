//! Llama and what has its shape: SmolLM, Yi, many distilled models; and Mistral, whose first versions have a window.

use rbee_decoder::architecture::Pairs;

use super::{Description, Family, base, ropes, source::Source};
use crate::candle::{
    decoder::plan::{Layout, Names},
    files::Loaded,
};

pub(super) const LLAMA: Family = Family {
    name: "Llama",
    classes: &["LlamaForCausalLM"],
    architectures: &["llama"],
    config: llama,
    metadata: gguf,
};

/// In GGUF files it is of architecture `llama`.
pub(super) const MISTRAL: Family = Family {
    name: "Mistral",
    classes: &["MistralForCausalLM"],
    architectures: &[],
    config: mistral,
    metadata: gguf,
};

fn llama(source: &Source<'_>) -> Loaded<Description> {
    let mut model = base::of_config(source, LLAMA.name, "hidden_act")?;
    model.ropes = vec![ropes::of_config(source, &model)?];
    Ok(model.into())
}

fn mistral(source: &Source<'_>) -> Loaded<Description> {
    source.fields.only("attention_bias", false.into())?;
    let mut model = base::of_config(source, MISTRAL.name, "hidden_act")?;
    model.ropes = vec![ropes::of_config(source, &model)?];
    base::set_windows(source, &mut model)?;
    Ok(model.into())
}

fn gguf(source: &Source<'_>) -> Loaded<Description> {
    let mut model = base::of_metadata(source, LLAMA.name, &[])?;
    base::dense(source)?;
    // The converter reorders the rows of queries and keys.
    model.ropes = vec![ropes::of_metadata(source, &model, Pairs::Neighbors)?];
    base::set_windows(source, &mut model)?;
    let layout = Layout { names: Names::Gguf, ..Layout::default() };
    Ok(Description { architecture: model, layout, idle: ropes::FACTOR_TENSORS })
}
