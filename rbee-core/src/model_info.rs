//! Facts about a model, read from the headers of its files: nothing is loaded.
//!
//! The readers accept files from untrusted sources. They find damage before memory is allocated or a process is
//! started: a weight file that is shorter than its header says, a missing shard, tensors that overlap.

mod cache_pool;
mod config;
pub(crate) mod embedding;
pub(crate) mod families;
pub(crate) mod files;
pub(crate) mod gguf;
mod kind;
mod license;
mod memory;
pub(crate) mod safetensors;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use cache_pool::{CachePool, CacheType};
pub use embedding::{EmbeddingInfo, Pooling};
pub use kind::ModelKind;
pub use memory::{KvCache, MemoryEstimate, MemoryNeed};

use crate::error::Result;
use files::{FileFault, Found};

/// How a model's weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelFormat {
    /// `.safetensors` files with JSON files next to them, as the transformers library writes them.
    Safetensors,
    /// One `.gguf` file that contains everything, or the parts of one.
    Gguf,
}

/// The task of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelTask {
    /// The model continues text.
    Generate,
    /// The model makes vectors of texts.
    Embed,
    /// The model scores documents by their relevance to a query.
    Rerank,
    /// Another task, or the files do not say.
    Other,
}

impl ModelTask {
    /// True if a model for this task reads whole texts, and keeps nothing between runs.
    pub(crate) const fn is_of_encoders(self) -> bool {
        matches!(self, Self::Embed | Self::Rerank)
    }
}

/// The facts in a model's files, from headers and configuration alone.
///
/// A key that `config.json` does not contain has the value that the transformers library gives it for this family. A
/// fact that the files do not state otherwise, or state in an unknown form, is `None` and never a guess.
///
/// ```
/// use rbee_core::models::{MemoryNeed, ModelFormat, ModelInfo, ModelTask};
///
/// # let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/models/bee-tiny");
/// let info = ModelInfo::read(directory)?;
/// assert_eq!((info.format, info.task), (ModelFormat::Safetensors, ModelTask::Generate));
/// assert_eq!((&*info.architecture, info.parameters), ("llama", Some(1_771_200)));
///
/// let need = MemoryNeed { slots: 4, ..MemoryNeed::default() };
/// assert!(info.memory(&need).total > info.weights_bytes);
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The format of the weights.
    pub format: ModelFormat,
    /// The family, as the file spells it: `llama`, `qwen3`, `bert`.
    pub architecture: String,
    /// The class of the transformers library that the configuration names: `LlamaForCausalLM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The task of the model.
    pub task: ModelTask,
    /// The number of parameters; `None` if the weights are packed in a way that hides it.
    pub parameters: Option<u64>,
    /// The size of the weights as they are stored, in bytes.
    pub weights_bytes: u64,
    /// The type that most of the weights are stored in: `BF16`, `Q4_K`.
    pub dtype: String,
    /// The quantization of the weights, for example `Q4_K_M` or `gptq`; `None` if they are plain numbers.
    pub quantization: Option<String>,
    /// The longest text that the model was made for, in tokens.
    pub context: Option<u32>,
    /// The size of the vocabulary.
    pub vocab: Option<u32>,
    /// The number of layers.
    pub layers: Option<u32>,
    /// The width of the model: the numbers that represent one token between two layers.
    pub hidden: Option<u32>,
    /// Attention heads per layer.
    pub heads: Option<u32>,
    /// Attention heads per layer that keep keys and values; the maximum if layers differ.
    pub kv_heads: Option<u32>,
    /// The width of an attention head.
    pub head_dim: Option<u32>,
    /// The size of the KV cache per token; `None` if unknown.
    pub kv_cache: Option<KvCache>,
    /// True if the model has a chat template. [`chat_template`](Self::chat_template) reads it.
    pub has_chat_template: bool,
    /// The name of the license, or of the file that contains it.
    pub license: Option<String>,
    /// The pooling of a model that makes vectors.
    pub embedding: Option<EmbeddingInfo>,
}

impl ModelInfo {
    /// Reads a directory, or one `.safetensors` or `.gguf` file.
    ///
    /// A directory contains `config.json` with `model.safetensors` or its shards, or else one `.gguf` file or all parts
    /// of one. Only headers are read, so this takes milliseconds; but it blocks.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`](crate::ErrorKind::ModelNotFound) if a file is missing or cannot be read, and
    /// [`ErrorKind::ModelIncompatible`](crate::ErrorKind::ModelIncompatible) if a file is damaged or truncated. The
    /// message names the file.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        Ok(describe(path.as_ref())?.0)
    }

    /// The text of the model's chat template; `None` if it has none. It blocks.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn chat_template(path: impl AsRef<Path>) -> Result<Option<String>> {
        Ok(describe(path.as_ref())?.1)
    }
}

/// The facts about the model, and its chat template.
fn describe(path: &Path) -> Found<(ModelInfo, Option<String>)> {
    let metadata = std::fs::metadata(path).map_err(|source| FileFault::unreadable(path, source))?;
    let has_extension = |wanted: &str| path.extension().is_some_and(|is| is == wanted);
    if metadata.is_dir() {
        if safetensors::WeightFiles::are_in(path) {
            return config::read(path, None);
        }
        if let Some(file) = gguf::only_one(path)? {
            return gguf::read(&file);
        }
        let what = "has no weights; allowed are model.safetensors, shards of it with \
                    model.safetensors.index.json, or one .gguf file";
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, what);
        return Err(FileFault::NoWeights { path: path.to_owned(), source });
    }
    if has_extension("gguf") {
        return gguf::read(path);
    }
    if has_extension("safetensors") {
        return config::read(path.parent().unwrap_or(Path::new("")), Some(path));
    }
    Err(FileFault::defect(path, "is not a directory, a .safetensors file or a .gguf file"))
}

#[cfg(test)]
mod tests;
