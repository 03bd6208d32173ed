//! Models of the BERT family: their checked configuration, and the model itself.

use std::{collections::HashMap, fmt, path::Path};

use candle_core::{DType, Device, Tensor};
use candle_nn::{Activation, VarBuilder};
use candle_transformers::models::{
    bert::{self, BertModel, HiddenAct, PositionEmbeddingType},
    xlm_roberta::{self, XLMRobertaModel},
};
use serde_json::{Map, Value};

use super::{
    Loading,
    config_fields::ConfigFields,
    encoder::Encoder,
    files::{LoadFault, Loaded, shown},
    weights::{Checkpoint, Part},
};
use crate::model_info::families;

/// The families, which count positions differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Bert,
    Roberta,
}

impl Family {
    /// The family of a class of the transformers library, if it is one of these.
    pub(super) fn of(class: &str) -> Option<Self> {
        match class {
            "BertModel" | "BertForMaskedLM" | "BertForSequenceClassification" => Some(Self::Bert),
            "RobertaModel"
            | "RobertaForMaskedLM"
            | "RobertaForSequenceClassification"
            | "XLMRobertaModel"
            | "XLMRobertaForMaskedLM"
            | "XLMRobertaForSequenceClassification"
            | "CamembertModel"
            | "CamembertForMaskedLM"
            | "CamembertForSequenceClassification" => Some(Self::Roberta),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bert => "BERT",
            Self::Roberta => "RoBERTa",
        }
    }

    /// The layers of the head that scores a pair: the one before the hyperbolic tangent, and the last one. The first
    /// one has the prefix of the other tensors if that is true.
    pub(super) fn head(self) -> [(&'static str, bool); 2] {
        match self {
            Self::Bert => [("pooler.dense", true), ("classifier", false)],
            Self::Roberta => [("classifier.dense", false), ("classifier.out_proj", false)],
        }
    }

    /// These tensors by their names without the prefix.
    pub(super) fn variables(
        self,
        tensors: HashMap<String, Tensor>,
        device: &Device,
    ) -> VarBuilder<'static> {
        let prefix = self.prefix();
        let bare = |name: String| name.strip_prefix(prefix).map(str::to_owned).unwrap_or(name);
        let tensors = tensors.into_iter().map(|(name, tensor)| (bare(name), tensor)).collect();
        VarBuilder::from_tensors(tensors, DTYPE, device)
    }

    /// The prefix of the names of the tensors if they are part of a larger model.
    fn prefix(self) -> &'static str {
        match self {
            Self::Bert => "bert.",
            Self::Roberta => "roberta.",
        }
    }
}

/// The values that the engine builds the model from.
#[derive(Clone, Debug)]
pub(super) struct BertConfig {
    pub(super) family: Family,
    pub(super) vocab: usize,
    pub(super) hidden: usize,
    inner: usize,
    layers: usize,
    heads: usize,
    /// The number of rows in the table of positions.
    positions: usize,
    pub(super) types: usize,
    padding: u32,
    epsilon: f64,
    activation: HiddenAct,
    /// True if it scores pairs of texts; false if it makes vectors.
    pub(super) is_reranker: bool,
}

impl BertConfig {
    /// Reads `config.json`; `None` if it is not that of a model of this family.
    pub(super) fn load(dir: &Path) -> Loaded<Option<Self>> {
        let path = dir.join("config.json");
        let map = families::read(&path)?;
        let class = match map.get("architectures").and_then(Value::as_array).map(Vec::as_slice) {
            Some([Value::String(class)]) => class,
            _ => return Ok(None),
        };
        let Some(family) = Family::of(class) else {
            return Ok(None);
        };
        let mut config = ConfigFields::new(&path, &map).bert(family)?;
        config.is_reranker = class.ends_with("ForSequenceClassification");
        if config.is_reranker {
            check_labels(&path, class, &map)?;
        }
        Ok(Some(config))
    }

    /// The longest text that there are positions for, in tokens.
    pub(super) fn longest(&self) -> usize {
        match self.family {
            Family::Bert => self.positions,
            // Positions begin after that of the padding.
            Family::Roberta => self.positions.saturating_sub(self.padding as usize + 1),
        }
    }

    /// The parts of the model, as the files name them.
    pub(super) fn check(&self, checkpoint: &Checkpoint) -> Loaded<Vec<Part>> {
        let probe = "embeddings.word_embeddings.weight";
        let prefix = self.family.prefix();
        let prefix = if checkpoint.has(&format!("{prefix}{probe}")) { prefix } else { "" };
        let mut parts: Vec<Part> =
            self.parts().map(|(name, shape)| (format!("{prefix}{name}"), shape)).collect();
        if self.is_reranker {
            let heights = [self.hidden, 1];
            for ((name, is_inside), height) in self.family.head().into_iter().zip(heights) {
                let prefix = if is_inside { prefix } else { "" };
                parts.push((format!("{prefix}{name}.weight"), vec![height, self.hidden]));
                parts.push((format!("{prefix}{name}.bias"), vec![height]));
            }
        }
        // The tensors of training heads, and tables of positions.
        checkpoint.check(self.family.name(), &parts, |name| {
            let name = name.strip_prefix(prefix).unwrap_or(name);
            ["pooler.", "cls.", "lm_head."].iter().any(|head| name.starts_with(head))
                || matches!(name, "embeddings.position_ids" | "embeddings.token_type_ids")
        })?;
        Ok(parts)
    }

    fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let (hidden, inner) = (self.hidden, self.inner);
        let tables = [
            ("word_embeddings", self.vocab),
            ("position_embeddings", self.positions),
            ("token_type_embeddings", self.types),
        ]
        .map(|(name, rows)| (format!("embeddings.{name}.weight"), vec![rows, hidden]));
        let norm =
            ["weight", "bias"].map(|kind| (format!("embeddings.LayerNorm.{kind}"), vec![hidden]));
        let layers = (0..self.layers).flat_map(move |layer| {
            [
                ("attention.self.query", vec![hidden, hidden]),
                ("attention.self.key", vec![hidden, hidden]),
                ("attention.self.value", vec![hidden, hidden]),
                ("attention.output.dense", vec![hidden, hidden]),
                ("attention.output.LayerNorm", vec![hidden]),
                ("intermediate.dense", vec![inner, hidden]),
                ("output.dense", vec![hidden, inner]),
                ("output.LayerNorm", vec![hidden]),
            ]
            .into_iter()
            .flat_map(move |(name, shape)| {
                let name = format!("encoder.layer.{layer}.{name}");
                let bias = vec![shape[0]];
                [(format!("{name}.weight"), shape), (format!("{name}.bias"), bias)]
            })
        });
        tables.into_iter().chain(norm).chain(layers)
    }
}

/// Refuses models that sort texts into classes.
fn check_labels(path: &Path, class: &str, config: &Map<String, Value>) -> Loaded<()> {
    let labels = families::labels(config);
    if labels == Some(1) {
        return Ok(());
    }
    let found = labels.map_or_else(|| "not known".to_owned(), |labels| labels.to_string());
    let what = format!(
        "the number of labels of {} (num_labels, or the entries of id2label) is {found}; allowed is 1: this engine runs \
         such a model only as a reranker, which has one score",
        shown(class)
    );
    Err(LoadFault::defect(path, what))
}

impl ConfigFields<'_> {
    fn bert(&self, family: Family) -> Loaded<BertConfig> {
        self.only("position_embedding_type", "absolute".into())?;
        self.only("is_decoder", false.into())?;
        self.only("add_cross_attention", false.into())?;
        if let Some(value) = self.get("quantization_config") {
            return Err(self.bad(
                "quantization_config",
                value,
                "none: weights as f32, f16 or bf16",
            ));
        }
        let hidden = self.needed("hidden_size", 1..=65_536)?;
        let heads = self.needed("num_attention_heads", 1..=1_024)?;
        if !hidden.is_multiple_of(heads) {
            let what = format!(
                "hidden_size is {hidden} for num_attention_heads {heads}; allowed is a multiple of it"
            );
            return Err(LoadFault::defect(self.file, what));
        }
        let vocab = self.needed("vocab_size", 1..=4_194_304)?;
        let padding = if family == Family::Roberta { 1 } else { 0 };
        let padding = self.count("pad_token_id", 0..=vocab as u64 - 1)?.unwrap_or(padding);
        let config = BertConfig {
            is_reranker: false,
            family,
            vocab,
            hidden,
            inner: self.needed("intermediate_size", 1..=1_048_576)?,
            layers: self.needed("num_hidden_layers", 1..=1_024)?,
            heads,
            positions: self.needed("max_position_embeddings", 2..=1 << 20)?,
            types: self.count("type_vocab_size", 1..=1_024)?.unwrap_or(2),
            padding: padding as u32,
            epsilon: self.number("layer_norm_eps", 1e-15..=1e-1)?.unwrap_or(1e-12),
            activation: match self.get("hidden_act") {
                None => HiddenAct::Gelu,
                Some(Value::String(name)) if name == "gelu" => HiddenAct::Gelu,
                Some(Value::String(name)) if name == "relu" => HiddenAct::Relu,
                Some(Value::String(name))
                    if matches!(&**name, "gelu_new" | "gelu_pytorch_tanh") =>
                {
                    HiddenAct::GeluApproximate
                }
                Some(other) => {
                    let allowed = "\"gelu\", \"gelu_new\", \"gelu_pytorch_tanh\" or \"relu\"";
                    return Err(self.bad("hidden_act", other, allowed));
                }
            },
        };
        if config.longest() == 0 {
            let what = format!(
                "max_position_embeddings is {} for pad_token_id {padding}; allowed is more than {}",
                config.positions,
                padding + 1
            );
            return Err(LoadFault::defect(self.file, what));
        }
        Ok(config)
    }
}

/// Checks the memory for these parts of a model, and opens its device.
pub(super) fn open_for(loading: &Loading<'_>, parts: &[Part]) -> Loaded<Device> {
    let numbers = parts.iter().map(|(_, shape)| shape.iter().product::<usize>() as u64);
    let bytes = numbers.sum::<u64>().saturating_mul(DTYPE.size_in_bytes() as u64);
    let needs = || format!("{bytes} bytes for its weights");
    loading.check_memory(0, bytes, needs, "Choose a smaller model")?;
    loading.options.device.open()
}

/// The data type of these models: candle's masks are not valid numbers in shorter types.
pub(super) const DTYPE: DType = DType::F32;

enum Layers {
    Bert(BertModel),
    Roberta(XLMRobertaModel),
}

/// A model of the BERT family.
pub(super) struct Bert {
    layers: Layers,
    padding: u32,
    device: Device,
}

impl Bert {
    /// Builds the model from tensors that were checked against this configuration.
    pub(super) fn new(
        config: &BertConfig,
        tensors: HashMap<String, Tensor>,
        device: &Device,
    ) -> candle_core::Result<Self> {
        let vars = config.family.variables(tensors, device);
        let layers = match config.family {
            Family::Bert => {
                let config = bert::Config {
                    vocab_size: config.vocab,
                    hidden_size: config.hidden,
                    num_hidden_layers: config.layers,
                    num_attention_heads: config.heads,
                    intermediate_size: config.inner,
                    hidden_act: config.activation,
                    max_position_embeddings: config.positions,
                    type_vocab_size: config.types,
                    layer_norm_eps: config.epsilon,
                    pad_token_id: config.padding as usize,
                    position_embedding_type: PositionEmbeddingType::Absolute,
                    ..bert::Config::default()
                };
                Layers::Bert(BertModel::load(vars, &config)?)
            }
            Family::Roberta => {
                let config = xlm_roberta::Config {
                    hidden_size: config.hidden,
                    layer_norm_eps: config.epsilon,
                    attention_probs_dropout_prob: 0.0,
                    hidden_dropout_prob: 0.0,
                    num_attention_heads: config.heads,
                    position_embedding_type: "absolute".into(),
                    intermediate_size: config.inner,
                    hidden_act: match config.activation {
                        HiddenAct::Gelu => Activation::Gelu,
                        HiddenAct::GeluApproximate => Activation::GeluPytorchTanh,
                        HiddenAct::Relu => Activation::Relu,
                    },
                    num_hidden_layers: config.layers,
                    vocab_size: config.vocab,
                    max_position_embeddings: config.positions,
                    type_vocab_size: config.types,
                    pad_token_id: config.padding,
                };
                Layers::Roberta(XLMRobertaModel::new(&config, vars)?)
            }
        };
        Ok(Self { layers, padding: config.padding, device: device.clone() })
    }
}

impl fmt::Debug for Bert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bert").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Bert {
    /// The vectors of all tokens, as [`Encoder::encode`] gives them. `types` has the types of the first tokens of each
    /// text; all others are 0.
    pub(super) fn hidden(
        &self,
        texts: &[&[u32]],
        types: Option<&[&[u32]]>,
    ) -> candle_core::Result<Tensor> {
        let longest = texts.iter().map(|tokens| tokens.len()).max().unwrap_or(0);
        let shape = (texts.len(), longest);
        let mut ids = Vec::with_capacity(texts.len() * longest);
        let mut mask = Vec::with_capacity(texts.len() * longest);
        for tokens in texts {
            ids.extend_from_slice(tokens);
            ids.resize(ids.len() + longest - tokens.len(), self.padding);
            mask.resize(mask.len() + tokens.len(), 1.0_f32);
            mask.resize(ids.len(), 0.0);
        }
        let ids = Tensor::from_vec(ids, shape, &self.device)?;
        let mask = Tensor::from_vec(mask, shape, &self.device)?;
        let types = match types {
            None => ids.zeros_like()?,
            Some(types) => {
                let mut padded = Vec::with_capacity(texts.len() * longest);
                for of_text in types {
                    padded.extend_from_slice(of_text);
                    padded.resize(padded.len() + longest - of_text.len(), 0);
                }
                Tensor::from_vec(padded, shape, &self.device)?
            }
        };
        match &self.layers {
            Layers::Bert(model) => model.forward(&ids, &types, Some(&mask)),
            Layers::Roberta(model) => model.forward(&ids, &mask, &types, None, None, None),
        }
    }
}

impl Encoder for Bert {
    fn encode(&self, texts: &[&[u32]]) -> candle_core::Result<Tensor> {
        self.hidden(texts, None)
    }
}
