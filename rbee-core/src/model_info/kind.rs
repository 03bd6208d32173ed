//! The kind of a model: the facts that decide whether an engine can read it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ModelFormat, ModelInfo, ModelTask};

/// The facts about a model that decide whether an engine can read it. They are known before the weights are fetched.
///
/// An unknown fact is `None`, and never counts against an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelKind {
    /// The format of the weights.
    pub format: ModelFormat,
    /// The family, as the file spells it: `llama`, `qwen3`, `bert`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// The class of the transformers library that the configuration names: `LlamaForCausalLM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The quantization of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// The task of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<ModelTask>,
}

impl ModelKind {
    /// A model in this format, of which nothing else is known.
    pub fn new(format: ModelFormat) -> Self {
        Self { format, architecture: None, class: None, quantization: None, task: None }
    }
}

impl From<&ModelInfo> for ModelKind {
    fn from(info: &ModelInfo) -> Self {
        Self {
            format: info.format,
            architecture: known(&info.architecture),
            class: info.class.clone(),
            quantization: info.quantization.clone(),
            task: Some(info.task),
        }
    }
}

/// The name of an architecture, unless the files do not state it.
pub(super) fn known(architecture: &str) -> Option<String> {
    (architecture != "unknown").then(|| architecture.to_owned())
}

/// As in "GGUF of qwen3" and "safetensors of mistral (MistralForCausalLM), quantized as awq-4bit".
impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.format)?;
        if let Some(architecture) = &self.architecture {
            write!(f, " of {architecture}")?;
        }
        if let Some(class) = &self.class {
            write!(f, " ({class})")?;
        }
        match &self.quantization {
            Some(quantization) => write!(f, ", quantized as {quantization}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ModelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safetensors => "safetensors",
            Self::Gguf => "GGUF",
        })
    }
}
