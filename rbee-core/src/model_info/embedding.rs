//! Pooling of a model that makes vectors, from the files of the sentence-transformers library.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::files::{self, FileFault, Found, MAX_CONFIG_BYTES, shown};

/// Lengths from here on mean "no limit" in some files.
const NO_LIMIT: u64 = 1 << 30;

/// The method that combines the vectors of a text's tokens into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The mean.
    Mean,
    /// The vector of the first token.
    Cls,
    /// The maximum of each number.
    Max,
    /// The vector of the last token.
    Last,
}

/// The vectors of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbeddingInfo {
    /// The length of a vector.
    pub dimension: Option<u32>,
    /// The pooling; `None` for a method that is not supported here.
    pub pooling: Option<Pooling>,
    /// True if vectors are normalized to length 1.
    pub normalize: bool,
    /// The longest text, in tokens.
    pub max_tokens: Option<u32>,
}

/// The steps from tokens to a vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pipeline {
    pub(crate) pooling: Option<Pooling>,
    /// The file that names the pooling.
    pub(crate) pooling_file: PathBuf,
    pub(crate) normalize: bool,
    /// The longest text by the files next to the model; `config.json` may allow less.
    pub(crate) max_tokens: Option<u32>,
    /// A step that is not known here.
    pub(crate) unknown: Option<String>,
    /// True if the model has files for making vectors.
    pub(crate) is_written: bool,
}

impl Pipeline {
    /// Reads `modules.json` and the files that it names, and the limits of length.
    ///
    /// For a model without these files, the pooling is the mean of its tokens, normalized to length 1, which most users
    /// of vectors expect.
    pub(crate) fn read(dir: &Path) -> Found<Self> {
        let modules_path = dir.join("modules.json");
        let mut pipeline = Self {
            pooling: Some(Pooling::Mean),
            pooling_file: dir.join("1_Pooling").join("config.json"),
            normalize: true,
            max_tokens: max_tokens(dir)?,
            unknown: None,
            is_written: false,
        };
        let modules: Vec<Value> = match files::read_optional(&modules_path, MAX_CONFIG_BYTES)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|source| {
                FileFault::malformed(&modules_path, "is not a list of modules", source)
            })?,
            None => {
                if let Some(config) = files::read_object(&pipeline.pooling_file, MAX_CONFIG_BYTES)?
                {
                    pipeline.is_written = true;
                    pipeline.pooling = pooling(&config);
                }
                return Ok(pipeline);
            }
        };
        pipeline.is_written = true;
        pipeline.normalize = false;
        for module in &modules {
            let field = |key: &str| module.get(key).and_then(Value::as_str).unwrap_or_default();
            // The type is the path of a Python class, which has moved between versions; its name has not.
            match field("type").rsplit('.').next().unwrap_or_default() {
                "Transformer" => {}
                "Normalize" => pipeline.normalize = true,
                "Pooling" => {
                    let place = field("path");
                    let mut parts = Path::new(place).components();
                    let plain =
                        matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
                    if !plain || place.contains(['\\', ':']) {
                        let what = format!(
                            "the path of a module is {:?}; allowed are names of directories next to it",
                            shown(place)
                        );
                        return Err(FileFault::defect(&modules_path, what));
                    }
                    pipeline.pooling_file = dir.join(place).join("config.json");
                    let bytes = files::read(&pipeline.pooling_file, MAX_CONFIG_BYTES)?;
                    pipeline.pooling =
                        pooling(&files::parse_object(&pipeline.pooling_file, &bytes)?);
                }
                other => pipeline.unknown = Some(shown(other)),
            }
        }
        Ok(pipeline)
    }

    /// The public part of these facts.
    pub(super) fn info(&self, hidden: Option<u32>, context: Option<u32>) -> EmbeddingInfo {
        let max_tokens = match (self.max_tokens, context) {
            (Some(most), Some(context)) => Some(most.min(context)),
            (most, context) => most.or(context),
        };
        EmbeddingInfo {
            dimension: hidden.filter(|_| self.unknown.is_none()),
            pooling: self.pooling.filter(|_| self.unknown.is_none()),
            normalize: self.normalize,
            max_tokens,
        }
    }
}

/// The lengths, shorter than its own, to which the vectors of a model may be cut: a "Matryoshka" model was trained so that
/// the beginning of a vector is a good vector too.
#[cfg(feature = "candle")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lengths {
    /// These; none for most models.
    These(Vec<u32>),
    /// All.
    All,
}

#[cfg(feature = "candle")]
impl Lengths {
    /// Reads what the files of a model say: there is no standard for it. `config.json` has `matryoshka_dimensions` or
    /// `is_matryoshka`, which vLLM reads too; the file of the sentence-transformers library has the lengths that the model
    /// was trained with, or the one that it is used with.
    pub(crate) fn read(dir: &Path) -> Found<Self> {
        let mut lengths = Vec::new();
        let mut has_all = false;
        for name in ["config.json", "config_sentence_transformers.json"] {
            let config = files::read_object(&dir.join(name), MAX_CONFIG_BYTES)?.unwrap_or_default();
            let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
            for key in ["matryoshka_dimensions", "matryoshka_dims"] {
                let list = config.get(key).and_then(Value::as_array);
                lengths.extend(list.into_iter().flatten().filter_map(number));
            }
            lengths.extend(config.get("truncate_dim").and_then(number));
            has_all |= config.get("is_matryoshka") == Some(&Value::Bool(true));
        }
        lengths.sort_unstable();
        lengths.dedup();
        Ok(if has_all && lengths.is_empty() { Self::All } else { Self::These(lengths) })
    }

    /// True if a vector of the length `own` may be cut to this length.
    pub(crate) fn has(&self, length: u32, own: u32) -> bool {
        (1..own).contains(&length)
            && match self {
                Self::These(lengths) => lengths.binary_search(&length).is_ok(),
                Self::All => true,
            }
    }

    /// All allowed lengths, for an error.
    pub(crate) fn named(&self, own: u32) -> String {
        match self {
            Self::All => format!("1 to {own}"),
            Self::These(lengths) => {
                let lengths = lengths.iter().filter(|length| self.has(**length, own)).take(16);
                let mut all: Vec<String> = lengths.map(u32::to_string).collect();
                all.push(own.to_string());
                all.join(", ")
            }
        }
    }
}

/// The one pooling that is enabled; `None` if it is not known here.
fn pooling(config: &Map<String, Value>) -> Option<Pooling> {
    if let Some(Value::String(name)) = config.get("pooling_mode") {
        return match name.as_str() {
            "mean" => Some(Pooling::Mean),
            "cls" => Some(Pooling::Cls),
            "max" => Some(Pooling::Max),
            "lasttoken" => Some(Pooling::Last),
            _ => None,
        };
    }
    let mut on = config
        .iter()
        .filter(|(key, value)| key.starts_with("pooling_mode_") && **value == Value::Bool(true))
        .map(|(key, _)| key.as_str());
    match (on.next(), on.next()) {
        (Some("pooling_mode_mean_tokens") | None, None) => Some(Pooling::Mean),
        (Some("pooling_mode_cls_token"), None) => Some(Pooling::Cls),
        (Some("pooling_mode_max_tokens"), None) => Some(Pooling::Max),
        (Some("pooling_mode_lasttoken"), None) => Some(Pooling::Last),
        _ => None,
    }
}

/// The longest text by `sentence_bert_config.json`, else by the tokenizer.
fn max_tokens(dir: &Path) -> Found<Option<u32>> {
    for (name, key) in [
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    ] {
        let config = files::read_object(&dir.join(name), MAX_CONFIG_BYTES)?;
        let most = config.as_ref().and_then(|config| config.get(key)).and_then(Value::as_u64);
        if let Some(most) = most.filter(|most| (1..NO_LIMIT).contains(most)) {
            return Ok(u32::try_from(most).ok());
        }
    }
    Ok(None)
}
