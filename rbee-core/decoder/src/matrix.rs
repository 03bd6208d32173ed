//! The stored form of a weight matrix.

use std::ops::Range;

use bytes::Bytes;

/// The data type of stored weights.
///
/// The quantized types are those of the GGUF format: a row is a sequence of blocks, each with its own scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 16-bit floats with the range of 32-bit ones.
    Bf16,
    /// 4 bits, a scale per 32.
    Q4_0,
    /// 4 bits, a scale and a minimum per 32.
    Q4_1,
    /// 5 bits, a scale per 32.
    Q5_0,
    /// 5 bits, a scale and a minimum per 32.
    Q5_1,
    /// 8 bits, a scale per 32.
    Q8_0,
    /// 2 bits, a scale and a minimum per 16.
    Q2K,
    /// 3 bits, a scale per 16.
    Q3K,
    /// 4 bits, a scale and a minimum per 32.
    Q4K,
    /// 5 bits, a scale and a minimum per 32.
    Q5K,
    /// 6 bits, a scale per 16.
    Q6K,
}

impl WeightType {
    /// Every type.
    pub const ALL: [Self; 13] = [
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
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The name in messages, as GGUF files spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// The numbers of a block.
    pub const fn block(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// The bytes of a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// The bytes of this many numbers, which must be whole blocks.
    pub const fn bytes(self, numbers: usize) -> usize {
        numbers / self.block() * self.block_bytes()
    }
}

/// A matrix as a file stores it: `rows` outputs, each a row of `cols` weights, one row after the other.
///
/// The bytes are little-endian, may be a part of a mapped file, and have no alignment.
#[derive(Clone, Debug)]
pub struct StoredMatrix {
    /// The type of its weights.
    pub kind: WeightType,
    /// The number of outputs.
    pub rows: usize,
    /// The number of inputs: a multiple of the block of `kind`.
    pub cols: usize,
    /// `rows · kind.bytes(cols)` of them.
    pub bytes: Bytes,
}

impl StoredMatrix {
    /// A part of its rows, without a copy. The range must be within the matrix.
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let row = self.kind.bytes(self.cols);
        Self {
            rows: rows.len(),
            bytes: self.bytes.slice(rows.start * row..rows.end * row),
            ..*self
        }
    }
}
