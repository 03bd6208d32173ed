//! How much memory a worker needs, told before it is started.

use serde::{Deserialize, Serialize};

use super::ModelInfo;

/// The least that is left for the program, its buffers and the vocabulary.
const LEAST_HEADROOM: u64 = 64 << 20;

/// What a model keeps of each token of a text while it works at it: keys and values, counted in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvCache {
    /// Numbers for each token, in the layers that look back to the beginning.
    pub whole: u64,
    /// Numbers for each token, in the layers that look back no further than `window`.
    pub windowed: u64,
    /// How far those look back, in tokens.
    pub window: u32,
}

/// What a worker is to be able to do, and how it keeps its numbers.
///
/// ```
/// use rbee_core::models::MemoryNeed;
///
/// let need = MemoryNeed { context: Some(8_192), slots: 2, ..MemoryNeed::default() };
/// assert_eq!(need.cache_number_bytes, 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryNeed {
    /// The longest prompt and answer together, in tokens; by default as long as the model allows.
    pub context: Option<u32>,
    /// How many such texts at once; 1 by default.
    pub slots: u32,
    /// How many bytes a number of a key or a value takes; 2 by default, which is a 16-bit float.
    pub cache_number_bytes: u32,
    /// How many bytes a weight takes in memory; as many as in the file where not given.
    pub weight_bytes: Option<u32>,
}

impl Default for MemoryNeed {
    fn default() -> Self {
        Self { context: None, slots: 1, cache_number_bytes: 2, weight_bytes: None }
    }
}

impl MemoryNeed {
    /// A worker that keeps all its numbers as 32-bit floats, as candle does on the processor.
    pub fn in_f32() -> Self {
        Self { cache_number_bytes: 4, weight_bytes: Some(4), ..Self::default() }
    }
}

/// How much memory a worker needs, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryEstimate {
    /// The weights.
    pub weights: u64,
    /// Keys and values of as many texts as there are slots, each as long as the context. None where the files do not
    /// say what it takes; then the total is without it.
    pub kv_cache: Option<u64>,
    /// For everything else.
    pub headroom: u64,
    /// All of it.
    pub total: u64,
}

impl ModelInfo {
    /// Estimates the memory of a worker, from above where engines differ.
    ///
    /// - The weights take what they take in the files, or `parameters × weight_bytes`.
    /// - Keys and values take `slots × (whole × context + windowed × min(context, window)) × cache_number_bytes`, where
    ///   [`whole`](KvCache::whole) of a usual model is `layers × kv_heads × head_dim × 2`. A model for vectors keeps none.
    /// - Headroom is a tenth of both, at least 64 MiB.
    ///
    /// Numbers too large for the type count as its largest.
    pub fn memory(&self, need: &MemoryNeed) -> MemoryEstimate {
        let weights = match (need.weight_bytes, self.parameters) {
            (Some(each), Some(parameters)) => parameters.saturating_mul(each.into()),
            _ => self.weights_bytes,
        };
        // A longer context than the model's own is cut to it by every engine.
        let context = match (need.context, self.context) {
            (Some(wanted), Some(most)) => Some(wanted.min(most)),
            (wanted, most) => wanted.or(most),
        };
        let kv_cache = match (self.kv_cache, context) {
            (Some(cache), _) if cache.whole == 0 && cache.windowed == 0 => Some(0),
            (Some(cache), Some(context)) => {
                let whole = cache.whole.saturating_mul(context.into());
                let windowed = cache.windowed.saturating_mul(context.min(cache.window).into());
                let numbers = whole.saturating_add(windowed).saturating_mul(need.slots.into());
                Some(numbers.saturating_mul(need.cache_number_bytes.into()))
            }
            _ => None,
        };
        let used = weights.saturating_add(kv_cache.unwrap_or(0));
        let headroom = (used / 10).max(LEAST_HEADROOM);
        MemoryEstimate { weights, kv_cache, headroom, total: used.saturating_add(headroom) }
    }
}
