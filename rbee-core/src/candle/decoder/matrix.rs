//! The stored form of a weight matrix.

use std::ops::Range;

use bytes::Bytes;

use crate::model_info::gguf::types::{self, TensorType};

/// The data type of stored weights.
///
/// The quantized types are those of the GGUF format: a row is a sequence of blocks, each with its own scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::candle) enum WeightType {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
}

impl WeightType {
    /// Every type.
    pub(in crate::candle) const ALL: [Self; 13] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// The type with this name.
    pub(in crate::candle) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    const fn stored(self) -> TensorType {
        match self {
            Self::F32 => types::F32,
            Self::F16 => types::F16,
            Self::Bf16 => types::BF16,
            Self::Q4_0 => types::Q4_0,
            Self::Q4_1 => types::Q4_1,
            Self::Q5_0 => types::Q5_0,
            Self::Q5_1 => types::Q5_1,
            Self::Q8_0 => types::Q8_0,
            Self::Q2K => types::Q2_K,
            Self::Q3K => types::Q3_K,
            Self::Q4K => types::Q4_K,
            Self::Q5K => types::Q5_K,
            Self::Q6K => types::Q6_K,
        }
    }

    /// The name in messages, as GGUF files spell it.
    pub(in crate::candle) const fn name(self) -> &'static str {
        self.stored().name
    }

    /// The numbers of a block.
    pub(in crate::candle) const fn block(self) -> usize {
        self.stored().block as usize
    }

    /// The bytes of a block.
    pub(in crate::candle) const fn block_bytes(self) -> usize {
        self.stored().bytes as usize
    }

    /// The bytes of this many numbers, which must be whole blocks.
    pub(in crate::candle) const fn bytes(self, numbers: usize) -> usize {
        numbers / self.block() * self.block_bytes()
    }
}

/// A matrix as a file stores it: `rows` outputs, each a row of `cols` weights, one row after the other.
///
/// The bytes are little-endian, may be a part of a mapped file, and have no alignment.
#[derive(Clone, Debug)]
pub(in crate::candle) struct StoredMatrix {
    pub(in crate::candle) kind: WeightType,
    pub(in crate::candle) rows: usize,
    /// A multiple of the block of `kind`.
    pub(in crate::candle) cols: usize,
    /// `rows · kind.bytes(cols)` bytes.
    pub(in crate::candle) bytes: Bytes,
}

impl StoredMatrix {
    /// A part of its rows, without a copy. The range must be within the matrix.
    pub(in crate::candle) fn slice(&self, rows: Range<usize>) -> Self {
        let row = self.kind.bytes(self.cols);
        Self {
            rows: rows.len(),
            bytes: self.bytes.slice(rows.start * row..rows.end * row),
            ..*self
        }
    }
}
