//! Facts about a model from a GGUF header.

use std::{collections::BTreeMap, path::Path};

use super::{Header, Value, split, types};
use crate::model_info::{
    EmbeddingInfo, KvCache, ModelFormat, ModelInfo, ModelTask, Pooling,
    files::{FileFault, Found, shown},
};

/// Reads the model of this file, which may be one of several parts; together with its chat template.
pub(in crate::model_info) fn read(path: &Path) -> Found<(ModelInfo, Option<String>)> {
    let mut parts = split::open_all(path)?.into_iter().map(|part| part.header);
    let mut header = parts.next().ok_or_else(|| FileFault::defect(path, "has no parts"))?;
    header.tensors.extend(parts.flat_map(|part| part.tensors));
    Model { path, header }.describe()
}

struct Model<'a> {
    path: &'a Path,
    header: Header,
}

impl Model<'_> {
    fn describe(self) -> Found<(ModelInfo, Option<String>)> {
        let Self { path, header } = &self;
        let Some(architecture) = header.text("general.architecture") else {
            return Err(FileFault::defect(path, "its header has no general.architecture"));
        };
        if header.tensors.is_empty() {
            return Err(FileFault::defect(path, "has no tensors"));
        }
        let (dtype, known) = self.stored();
        let mixture = header.whole("general.file_type").and_then(types::mixture);
        let quantization = match mixture {
            Some(name) => Some(name).filter(|name| !types::is_plain(name)),
            None => Some(&*dtype).filter(|name| known && !types::is_plain(name)),
        };
        let shape = self.shape(architecture);
        let task = self.task(architecture);
        let template = header.text("tokenizer.chat_template").map(str::to_owned);
        let bytes = |tensor: &super::TensorInfo| tensor.bytes;
        let in_tensors: Option<u64> = header.tensors.iter().map(bytes).sum();
        let info = ModelInfo {
            format: ModelFormat::Gguf,
            architecture: shown(architecture),
            class: None,
            task,
            parameters: Some(self.sum(|tensor| tensor.elements)),
            weights_bytes: in_tensors.unwrap_or(header.data_bytes),
            quantization: quantization.map(str::to_owned),
            dtype: dtype.clone(),
            context: shape.context,
            vocab: self.vocab(architecture),
            layers: shape.layers,
            hidden: shape.hidden,
            heads: shape.heads,
            kv_heads: shape.kv_heads,
            head_dim: shape.key_dim,
            kv_cache: if is_encoder(architecture) { Some(KvCache::default()) } else { shape.cache },
            has_chat_template: template.is_some(),
            license: header
                .text("general.license.name")
                .or_else(|| header.text("general.license"))
                .map(shown),
            embedding: (task == ModelTask::Embed).then(|| EmbeddingInfo {
                dimension: shape.hidden,
                pooling: self.pooling(architecture),
                // The format does not state it; the engines that read it return vectors of length 1 by default.
                normalize: true,
                max_tokens: shape.context,
            }),
        };
        Ok((info, template))
    }

    fn sum(&self, of: impl Fn(&super::TensorInfo) -> u64) -> u64 {
        self.header.tensors.iter().map(of).fold(0, u64::saturating_add)
    }

    /// The type of most bytes, and whether it is known.
    fn stored(&self) -> (String, bool) {
        let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
        for tensor in &self.header.tensors {
            if let (Some(stored), Some(size)) = (tensor.stored, tensor.bytes) {
                *bytes.entry(stored.name).or_default() += size;
            }
        }
        let most = bytes.into_iter().max_by_key(|(_, size)| *size);
        most.map_or_else(|| ("unknown".into(), false), |(name, _)| (name.into(), true))
    }

    fn number(&self, architecture: &str, key: &str) -> Option<u32> {
        let number = match self.header.values.get(&format!("{architecture}.{key}"))? {
            Value::Whole(number) => *number,
            Value::List(numbers) => *numbers.iter().max()?,
            _ => return None,
        };
        u32::try_from(number).ok()
    }

    fn vocab(&self, architecture: &str) -> Option<u32> {
        match self.header.values.get("tokenizer.ggml.tokens") {
            Some(Value::Long(tokens)) => u32::try_from(*tokens).ok(),
            _ => self.number(architecture, "vocab_size"),
        }
    }

    fn task(&self, architecture: &str) -> ModelTask {
        match self.number(architecture, "pooling_type") {
            Some(1..=3) => ModelTask::Embed,
            Some(4) => ModelTask::Rerank,
            Some(5..) => ModelTask::Other,
            _ if is_encoder(architecture) => ModelTask::Embed,
            _ if self.header.values.contains_key("tokenizer.ggml.model") => ModelTask::Generate,
            _ => ModelTask::Other,
        }
    }

    fn pooling(&self, architecture: &str) -> Option<Pooling> {
        match self.number(architecture, "pooling_type")? {
            1 => Some(Pooling::Mean),
            2 => Some(Pooling::Cls),
            3 => Some(Pooling::Last),
            _ => None,
        }
    }

    fn shape(&self, architecture: &str) -> Shape {
        let number = |key: &str| self.number(architecture, key);
        let (layers, hidden) = (number("block_count"), number("embedding_length"));
        let heads = number("attention.head_count").filter(|heads| *heads > 0);
        let by_heads = hidden.zip(heads).filter(|(hidden, heads)| hidden.is_multiple_of(*heads));
        let key_dim =
            number("attention.key_length").or(by_heads.map(|(hidden, heads)| hidden / heads));
        let mut shape = Shape {
            context: number("context_length"),
            layers,
            hidden,
            heads,
            kv_heads: number("attention.head_count_kv").or(heads),
            key_dim,
            cache: None,
        };
        let value_dim = number("attention.value_length").or(key_dim);
        // Each engine stores compressed keys, and states that do not grow, differently.
        let odd = ["attention.kv_lora_rank", "ssm.state_size", "wkv.head_size"];
        if odd.iter().all(|key| number(key).is_none()) {
            shape.cache = self.cache(architecture, &shape, value_dim);
        }
        shape
    }

    fn cache(&self, architecture: &str, shape: &Shape, value_dim: Option<u32>) -> Option<KvCache> {
        let width = u64::from(shape.key_dim?) + u64::from(value_dim?);
        let layers = shape.layers?;
        let list = |key: &str| match self.header.values.get(&format!("{architecture}.{key}")) {
            Some(Value::List(list)) if list.len() as u64 == u64::from(layers) => Some(list),
            _ => None,
        };
        let heads = list("attention.head_count_kv");
        // A layer takes more than a byte of header, so a valid number of layers is small enough for a loop; a larger
        // number is invalid.
        if layers > 1 << 16 {
            return None;
        }
        let (window, slides) = windowed_layers(&self.header.values, architecture, layers as usize);
        let mut cache = KvCache { window, ..KvCache::default() };
        for layer in 0..layers as usize {
            let heads = match heads {
                Some(list) => *list.get(layer)?,
                None => shape.kv_heads?.into(),
            };
            let numbers = width.checked_mul(heads)?;
            let sum = if slides.get(layer) == Some(&true) {
                &mut cache.windowed
            } else {
                &mut cache.whole
            };
            *sum = sum.checked_add(numbers)?;
        }
        Some(cache)
    }
}

/// The dimensions of the model.
struct Shape {
    context: Option<u32>,
    layers: Option<u32>,
    hidden: Option<u32>,
    heads: Option<u32>,
    kv_heads: Option<u32>,
    key_dim: Option<u32>,
    cache: Option<KvCache>,
}

/// The window of the layers that attend to the last tokens only, and which layers these are.
///
/// Most files do not say which. Then it is a fact about the architecture: one layer in a period attends to everything.
pub(crate) fn windowed_layers(
    values: &BTreeMap<String, Value>,
    architecture: &str,
    layers: usize,
) -> (u32, Vec<bool>) {
    let value = |key: &str| values.get(&format!("{architecture}.attention.{key}"));
    let window = match value("sliding_window") {
        Some(Value::Whole(window)) => u32::try_from(*window).unwrap_or(0),
        // The first files of Gemma 2 did not state it.
        _ if architecture == "gemma2" => 4_096,
        _ => 0,
    };
    let period = |period: usize| (0..layers).map(move |layer| (layer + 1) % period != 0).collect();
    let slides: Vec<bool> = match (value("sliding_window_pattern"), architecture) {
        _ if window == 0 => Vec::new(),
        (Some(Value::List(list)), _) if list.len() == layers => {
            list.iter().map(|slides| *slides == 1).collect()
        }
        (Some(Value::Whole(every)), _) if (2..=1_024).contains(every) => period(*every as usize),
        (_, "gemma2") => period(2),
        (_, "gemma3") => period(6),
        (_, "llama" | "phi3") => vec![true; layers],
        _ => Vec::new(),
    };
    (window, slides)
}

/// True for models that process a whole text at once and keep no KV cache.
fn is_encoder(architecture: &str) -> bool {
    architecture.contains("bert") || matches!(architecture, "t5encoder" | "gemma-embedding")
}
