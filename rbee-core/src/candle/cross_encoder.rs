//! Cross-encoders: models of the BERT family with a head that scores a pair of texts.

use std::{collections::HashMap, path::Path};

use candle_core::{Device, Tensor};
use candle_nn::{Linear, Module};
use serde_json::Value;

use super::{
    bert::{Bert, BertConfig, Family},
    encoder::PairScorer,
    files::{self, LoadFault, Loaded, MAX_CONFIG_BYTES, shown},
    text::tokenizer::Pair,
};

/// What makes a score of the number that the head gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScoreFunction {
    /// The logistic function: a score from 0 to 1.
    Sigmoid,
    /// The number itself.
    Identity,
}

impl ScoreFunction {
    /// Reads it from the files that the sentence-transformers library writes: the newest of them counts. Without an
    /// entry it is the default of that library, [`Sigmoid`](Self::Sigmoid).
    pub(super) fn read(dir: &Path) -> Loaded<Self> {
        let newest = dir.join("config_sentence_transformers.json");
        let config = dir.join("config.json");
        let places: [(&Path, &[&str]); 3] = [
            (&newest, &["activation_fn"]),
            (&config, &["sentence_transformers", "activation_fn"]),
            (&config, &["sbert_ce_default_activation_function"]),
        ];
        for (path, keys) in places {
            let Some(object) = files::read_object(path, MAX_CONFIG_BYTES)? else { continue };
            let (last, before) = match keys {
                [before, last] => (*last, object.get(*before).and_then(Value::as_object)),
                _ => (keys[0], Some(&object)),
            };
            let value = before.and_then(|object| object.get(last));
            let Some(value) = value.filter(|value| !value.is_null()) else { continue };
            // The path of a Python class, which has moved between versions; its name has not.
            let class = value.as_str().and_then(|path| path.rsplit('.').next());
            return match class {
                Some("Sigmoid") => Ok(Self::Sigmoid),
                Some("Identity") => Ok(Self::Identity),
                _ => {
                    let what = format!(
                        "{} is {}; allowed are Sigmoid and Identity of torch.nn",
                        keys.join("."),
                        shown(value)
                    );
                    Err(LoadFault::defect(path, what))
                }
            };
        }
        Ok(Self::Sigmoid)
    }

    /// The score for this number of the head.
    pub(super) fn apply(self, logit: f32) -> f32 {
        match self {
            Self::Sigmoid => 1.0 / (1.0 + (-logit).exp()),
            Self::Identity => logit,
        }
    }
}

/// A model of the BERT family with such a head.
#[derive(Debug)]
pub(super) struct CrossEncoder {
    bert: Bert,
    family: Family,
    dense: Linear,
    last: Linear,
}

impl CrossEncoder {
    /// Builds the model from tensors that were checked against this configuration.
    pub(super) fn new(
        config: &BertConfig,
        tensors: HashMap<String, Tensor>,
        device: &Device,
    ) -> candle_core::Result<Self> {
        let vars = config.family.variables(tensors.clone(), device);
        let [(dense, _), (last, _)] = config.family.head();
        let (dense, last) = (vars.pp(dense), vars.pp(last));
        Ok(Self {
            dense: candle_nn::linear(config.hidden, config.hidden, dense)?,
            last: candle_nn::linear(config.hidden, 1, last)?,
            bert: Bert::new(config, tensors, device)?,
            family: config.family,
        })
    }
}

impl PairScorer for CrossEncoder {
    fn logits(&self, pairs: &[&Pair]) -> candle_core::Result<Vec<f32>> {
        let ids: Vec<&[u32]> = pairs.iter().map(|pair| &*pair.ids).collect();
        let types: Vec<&[u32]> = pairs.iter().map(|pair| &*pair.types).collect();
        // The library gives the types of tokens to BERT only.
        let types = (self.family == Family::Bert).then_some(&*types);
        let all = self.bert.hidden(&ids, types)?;
        let first = all.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?;
        let pooled = self.dense.forward(&first)?.tanh()?;
        self.last.forward(&pooled)?.squeeze(1)?.to_vec1()
    }
}
