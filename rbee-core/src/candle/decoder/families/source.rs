//! What a family reads its configuration from.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    candle::{config_fields::ConfigFields, decoder::weights::StoredWeights, files::Loaded},
    model_info::{families, gguf},
};

/// The configuration of a model, and the names and shapes of its tensors.
pub(in crate::candle::decoder) struct Source<'a> {
    /// The values of `config.json` about text, or those of a GGUF file about its architecture.
    pub(super) fields: ConfigFields<'a>,
    /// The values of a GGUF file, with the name of its architecture.
    metadata: Option<(&'a BTreeMap<String, gguf::Value>, &'a str)>,
    pub(super) weights: &'a StoredWeights,
    /// The longest context that is offered, if the model allows it.
    context: u32,
}

impl<'a> Source<'a> {
    pub(in crate::candle::decoder) fn config(
        fields: ConfigFields<'a>,
        weights: &'a StoredWeights,
        context: u32,
    ) -> Self {
        Self { fields, metadata: None, weights, context }
    }

    pub(in crate::candle::decoder) fn metadata(
        fields: ConfigFields<'a>,
        values: &'a BTreeMap<String, gguf::Value>,
        architecture: &'a str,
        weights: &'a StoredWeights,
        context: u32,
    ) -> Self {
        Self { fields, metadata: Some((values, architecture)), weights, context }
    }

    pub(super) fn is_gguf(&self) -> bool {
        self.metadata.is_some()
    }

    /// The longest context that is offered for a model of this many positions.
    pub(super) fn context(&self, positions: u32) -> u32 {
        self.context.min(positions)
    }

    /// The window of each layer; an empty list if all attend to everything.
    pub(super) fn windows(&self, layers: usize) -> Loaded<Vec<Option<usize>>> {
        if let Some(Value::Array(kinds)) = self.fields.get("layer_types") {
            let known = |kind: &Value| kind == "full_attention" || kind == "sliding_attention";
            if kinds.len() != layers || !kinds.iter().all(known) {
                let allowed = format!("{layers} of \"full_attention\" and \"sliding_attention\"");
                return Err(self.fields.bad("layer_types", &kinds.clone().into(), &allowed));
            }
        }
        let (window, slides) = match self.metadata {
            Some((values, architecture)) => gguf::windowed_layers(values, architecture, layers),
            None => {
                self.fields.count("sliding_window", 1..=u32::MAX.into())?;
                families::windowed_layers(self.fields.map(), layers)
            }
        };
        Ok(slides.iter().map(|slides| slides.then_some(window as usize)).collect())
    }
}

/// The values of a GGUF file about its architecture, in the form of a JSON object: the same checks apply to both
/// formats. A list of equal numbers, one per layer, becomes that number.
pub(in crate::candle::decoder) fn object(
    values: &BTreeMap<String, gguf::Value>,
    architecture: &str,
) -> Map<String, Value> {
    let json = |value: &gguf::Value| match value {
        gguf::Value::Whole(number) => (*number).into(),
        // JSON has no NaN and no infinity; as texts they are refused by name.
        gguf::Value::Number(number) => serde_json::Number::from_f64(*number)
            .map_or_else(|| number.to_string().into(), Value::Number),
        gguf::Value::Bool(is) => (*is).into(),
        gguf::Value::Text(text) => text.clone().into(),
        gguf::Value::List(list) => match list.split_first() {
            Some((first, others)) if others.iter().all(|other| other == first) => (*first).into(),
            _ => list.clone().into(),
        },
        gguf::Value::Long(count) => format!("a list of {count} values").into(),
    };
    let prefix = format!("{architecture}.");
    let keys = values.iter().filter_map(|(key, value)| Some((key.strip_prefix(&prefix)?, value)));
    keys.map(|(key, value)| (key.to_owned(), json(value))).collect()
}
