//! What a model is, read from the heads of its files: nothing is loaded.
//!
//! The readers are written for files that come from anywhere. What is damaged is found here, before memory is taken or
//! a process is started for it: a weight file that is shorter than its header says, a shard that is missing, tensors
//! that lie on one another.

mod config;
pub(crate) mod embedding;
pub(crate) mod files;
mod gguf;
mod license;
mod memory;
pub(crate) mod safetensors;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use embedding::{EmbeddingInfo, Pooling};
pub use memory::{KvCache, MemoryEstimate, MemoryNeed};

use crate::error::Result;
use files::{FileFault, Found};

/// How a model's weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelFormat {
    /// `.safetensors` files with JSON beside them, as the transformers library writes them.
    Safetensors,
    /// One `.gguf` file with everything in it, or the parts of one.
    Gguf,
}

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelTask {
    /// It continues text.
    Generate,
    /// It makes vectors of texts.
    Embed,
    /// Something else, or its files do not tell.
    Other,
}

/// What a model's files say about it, from headers and configuration alone.
///
/// What the files do not say, or say in a way that is not known here, is `None` and never a guess.
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
    /// How the weights are stored.
    pub format: ModelFormat,
    /// The family, in the file's own word: `llama`, `qwen3`, `bert`.
    pub architecture: String,
    /// What it is for.
    pub task: ModelTask,
    /// How many numbers the model has learned; none where weights are packed in a way that hides it.
    pub parameters: Option<u64>,
    /// The size of the weights as they are stored, in bytes.
    pub weights_bytes: u64,
    /// The type that most of the weights are stored in: `BF16`, `Q4_K`.
    pub dtype: String,
    /// How the weights were quantized, `Q4_K_M` or `gptq` for instance; none where they are plain numbers.
    pub quantization: Option<String>,
    /// The longest text that it was made for, in tokens.
    pub context: Option<u32>,
    /// The size of its vocabulary.
    pub vocab: Option<u32>,
    /// The number of layers.
    pub layers: Option<u32>,
    /// The width of the model: numbers that stand for one token between two layers.
    pub hidden: Option<u32>,
    /// Attention heads of a layer.
    pub heads: Option<u32>,
    /// Attention heads of a layer that keep keys and values; where layers differ, the most.
    pub kv_heads: Option<u32>,
    /// The width of an attention head.
    pub head_dim: Option<u32>,
    /// What it keeps of each token while it works; none where that is not known.
    pub kv_cache: Option<KvCache>,
    /// Does it come with a template for conversations? [`chat_template`](Self::chat_template) reads it.
    pub has_chat_template: bool,
    /// The name of its license, or of the file that holds it.
    pub license: Option<String>,
    /// How it makes vectors, for a model that does.
    pub embedding: Option<EmbeddingInfo>,
}

impl ModelInfo {
    /// Reads a directory, or one `.safetensors` or `.gguf` file.
    ///
    /// A directory has `config.json` with `model.safetensors` or its shards, or else one `.gguf` file or all parts of
    /// one. It reads headers, so it takes milliseconds; but it blocks.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`](crate::ErrorKind::ModelNotFound) where a file is missing or cannot be read, and
    /// [`ErrorKind::ModelIncompatible`](crate::ErrorKind::ModelIncompatible) where one is damaged or cut off. The
    /// message names the file.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        Ok(describe(path.as_ref())?.0)
    }

    /// The text of the model's chat template, where it has one. It blocks.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn chat_template(path: impl AsRef<Path>) -> Result<Option<String>> {
        Ok(describe(path.as_ref())?.1)
    }
}

/// What is known of the model, and its chat template.
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
