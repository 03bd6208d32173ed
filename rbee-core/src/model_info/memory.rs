//! The estimated memory of a worker before it is started.

use serde::{Deserialize, Serialize};

use super::{CachePool, ModelInfo};

/// The minimum for the program, its buffers and the vocabulary.
const LEAST_HEADROOM: u64 = 64 << 20;

/// The KV cache of a model per token of a text: keys and values, as a count of numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvCache {
    /// Numbers per token, in the layers that attend to the whole text.
    pub whole: u64,
    /// Numbers per token, in the layers that attend to at most `window` tokens.
    pub windowed: u64,
    /// The window of those layers, in tokens.
    pub window: u32,
}

/// The capacity of a worker, and the data types of its numbers.
///
/// ```
/// use rbee_core::models::MemoryNeed;
///
/// let need = MemoryNeed { context: Some(8_192), slots: 2, ..MemoryNeed::default() };
/// assert_eq!(need.cache_number_bytes, 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryNeed {
    /// The longest prompt and answer together, in tokens; by default the model's limit.
    pub context: Option<u32>,
    /// The number of concurrent texts; 1 by default.
    pub slots: u32,
    /// The bytes per number of a key or a value; 2 by default, which is a 16-bit float. Without a pool.
    pub cache_number_bytes: u32,
    /// The bytes per weight in memory; `None`: as in the file.
    pub weight_bytes: Option<u32>,
    /// The KV cache that all texts share in rbee's own engine. `None`: another engine, which has memory for the whole
    /// context in every slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<CachePool>,
}

impl Default for MemoryNeed {
    fn default() -> Self {
        Self { context: None, slots: 1, cache_number_bytes: 2, weight_bytes: None, pool: None }
    }
}

impl MemoryNeed {
    /// The need of a worker that stores all its numbers as 32-bit floats, as many engines do on the processor.
    pub fn in_f32() -> Self {
        Self { cache_number_bytes: 4, weight_bytes: Some(4), ..Self::default() }
    }
}

/// The memory of a worker, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryEstimate {
    /// The weights.
    pub weights: u64,
    /// Keys and values of as many texts as there are slots, each as long as the context. `None` if the files do not
    /// contain the size; the total is then without it.
    pub kv_cache: Option<u64>,
    /// The reserve for everything else.
    pub headroom: u64,
    /// The sum.
    pub total: u64,
    /// The number of concurrent texts that it is for.
    #[serde(default = "one")]
    pub slots: u32,
}

fn one() -> u32 {
    1
}

impl ModelInfo {
    /// Estimates the memory of a worker; where engines differ, it is an upper bound.
    ///
    /// - The weights take their size in the files, or `parameters × weight_bytes`.
    /// - Keys and values take `slots × (whole × context + windowed × min(context, window)) × cache_number_bytes`, where
    ///   [`whole`](KvCache::whole) of a usual model is `layers × kv_heads × head_dim × 2`. A model for vectors has
    ///   none.
    /// - In rbee's own engine they take `tokens × (whole + windowed)` numbers for all slots together, because its windowed
    ///   layers keep all tokens. [`CachePool::tokens`] is their number.
    /// - The headroom is a tenth of both, at least 64 MiB.
    ///
    /// Numbers that are too large for the type become its maximum.
    pub fn memory(&self, need: &MemoryNeed) -> MemoryEstimate {
        let weights = match (need.weight_bytes, self.parameters) {
            (Some(each), Some(parameters)) => parameters.saturating_mul(each.into()),
            _ => self.weights_bytes,
        };
        // Every engine limits the context to the model's own.
        let context = match (need.context, self.context) {
            (Some(wanted), Some(most)) => Some(wanted.min(most)),
            (wanted, most) => wanted.or(most),
        };
        let kv_cache = match (self.kv_cache, context) {
            (Some(cache), _) if cache.whole == 0 && cache.windowed == 0 => Some(0),
            (Some(cache), _) if let Some(pool) = need.pool => {
                let context = CachePool::context(need.context, self.context);
                // Layers with a window keep all tokens.
                let numbers = cache.whole.saturating_add(cache.windowed);
                Some(pool.bytes(numbers, self.head_dim, pool.tokens(context, need.slots)))
            }
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
        let total = used.saturating_add(headroom);
        MemoryEstimate { weights, kv_cache, headroom, total, slots: need.slots }
    }
}
