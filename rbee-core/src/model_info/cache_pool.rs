//! How much memory rbee's own engine reserves for keys and values: the rule of the engine and of all estimates.

use std::{fmt, num::NonZeroU32, str::FromStr};

use serde::{Deserialize, Serialize};

/// The data type of keys and values in rbee's own engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    #[default]
    F16,
    /// 8-bit integers in groups of 32 with a 16-bit scale; on the processor only.
    Q8,
}

impl CacheType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Q8];

    /// Its name in settings and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8 => "q8",
        }
    }

    /// The bytes of a token's key and value in one head.
    const fn head_bytes(self, head_dim: u32) -> u64 {
        let width = head_dim as u64;
        // The numbers of a value are padded to whole registers.
        let numbers = width + width.next_multiple_of(16);
        match self {
            Self::F32 => numbers * 4,
            Self::F16 => numbers * 2,
            Self::Q8 => numbers + 2 * 2 * width.div_ceil(32),
        }
    }
}

impl fmt::Display for CacheType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CacheType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|kind| kind.name() == text);
        named.ok_or_else(|| "f32, f16 or q8".to_owned())
    }
}

/// The KV cache of a worker of rbee's own engine. Its runs share it, and the worker reserves it when it starts.
///
/// ```
/// use std::num::NonZeroU32;
/// use rbee_core::models::CachePool;
///
/// let pool = CachePool::default();
/// assert_eq!(pool.tokens(2_048, 8), 16_384);
/// assert_eq!(pool.tokens(32_768, 4), 32_768);
/// let pool = CachePool { tokens: NonZeroU32::new(10_000), ..pool };
/// assert_eq!(pool.tokens(32_768, 4), 10_016);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachePool {
    /// The tokens whose keys and values there is memory for, rounded up to whole blocks. `None`: 4,096 for each slot, or
    /// the context if that is shorter, and at least the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<NonZeroU32>,
    /// The data type.
    #[serde(default)]
    pub kind: CacheType,
}

impl CachePool {
    /// The tokens of a block.
    pub const BLOCK: u32 = 32;
    /// The longest context if none is set: the memory of keys and values grows with it.
    pub const DEFAULT_CONTEXT: u32 = 32_768;
    /// The longest possible context.
    const MAX_CONTEXT: u32 = 1 << 20;
    /// The tokens of each slot if the size of the cache is not set.
    const TOKENS_PER_SLOT: u32 = 4_096;

    /// The longest prompt and answer together, in tokens: as long as wanted, and as the model allows.
    pub fn context(wanted: Option<u32>, model: Option<u32>) -> u32 {
        let context = wanted.unwrap_or(Self::DEFAULT_CONTEXT).min(Self::MAX_CONTEXT);
        context.min(model.unwrap_or(u32::MAX))
    }

    /// The blocks of a worker with this context and so many slots; at least 1.
    pub fn blocks(&self, context: u32, slots: u32) -> u64 {
        let default = || {
            let each = u64::from(context.min(Self::TOKENS_PER_SLOT));
            u64::from(slots).saturating_mul(each).max(context.into())
        };
        let tokens = self.tokens.map_or_else(default, |tokens| tokens.get().into());
        tokens.div_ceil(Self::BLOCK.into()).max(1)
    }

    /// The tokens that fit into these blocks.
    pub fn tokens(&self, context: u32, slots: u32) -> u64 {
        self.blocks(context, slots).saturating_mul(Self::BLOCK.into())
    }

    /// The bytes of these tokens, if the keys and values of a token are so many numbers in all layers.
    pub(crate) fn bytes(&self, numbers: u64, head_dim: Option<u32>, tokens: u64) -> u64 {
        // Heads of 128 are the usual ones.
        let width = head_dim.unwrap_or(128).max(1);
        let heads = numbers.div_ceil(2 * u64::from(width));
        heads.saturating_mul(self.kind.head_bytes(width)).saturating_mul(tokens)
    }
}
