//! The operations that a decoder is computed with.

use std::fmt;

use candle_core::Result;

use super::{
    architecture::{Activation, Architecture, Rope},
    matrix::StoredMatrix,
    part::Part,
};

/// The tokens of a block of the KV cache.
pub const BLOCK: usize = 32;

/// A device, and how it computes.
///
/// **Batch invariance**: every row of an output depends on the same row of the inputs alone (for attention: on the
/// keys and values of its own sequence), bit for bit, however many other rows are computed with it. The order of a sum
/// never depends on the number of rows or of threads.
///
/// Rows are vectors of 32-bit floats, one per token of a step. An output parameter is overwritten; its memory is used
/// again if the backend can.
pub trait Backend: fmt::Debug + Send + Sized + 'static {
    /// A weight matrix.
    type Matrix: fmt::Debug + Send;
    /// The weights of a norm, or biases.
    type Vector: fmt::Debug + Send;
    /// Rows of equal width.
    type Rows: fmt::Debug + Send + Default;
    /// The tables of a rotation.
    type Rotation: fmt::Debug + Send;
    /// The keys and values of all sequences.
    type Cache: fmt::Debug + Send;

    /// Takes a matrix of the model's files. It may keep the stored bytes.
    fn matrix(&self, stored: &StoredMatrix) -> Result<Self::Matrix>;
    /// Takes a vector.
    fn vector(&self, values: Vec<f32>) -> Result<Self::Vector>;
    /// Prepares a rotation for positions below `positions`.
    fn rotation(&self, rope: &Rope, positions: usize) -> Result<Self::Rotation>;
    /// Makes an empty cache.
    fn cache(&self, shape: &CacheShape) -> Result<Self::Cache>;

    /// The rows of these tokens, times `scale`.
    fn embed(
        &self,
        table: &Self::Matrix,
        tokens: &[u32],
        scale: f32,
        out: &mut Self::Rows,
    ) -> Result<()>;
    /// The root-mean-square norm of every part of `weight`'s width: of whole rows, or of every head in them.
    fn norm(
        &self,
        x: &Self::Rows,
        weight: &Self::Vector,
        eps: f32,
        out: &mut Self::Rows,
    ) -> Result<()>;
    /// The products of the same rows with several matrices, each plus its bias.
    fn linear(&self, x: &Self::Rows, products: &mut [Product<'_, Self>]) -> Result<()>;
    /// Rotates every head; `positions` has one entry per row.
    fn rotate(
        &self,
        x: &mut Self::Rows,
        rotation: &Self::Rotation,
        head_dim: usize,
        positions: &[u32],
    ) -> Result<()>;
    /// Stores keys and values of the step's tokens.
    fn store(
        &self,
        cache: &mut Self::Cache,
        layer: usize,
        parts: &[Part<'_>],
        k: &Self::Rows,
        v: &Self::Rows,
    ) -> Result<()>;
    /// Attention of the step's tokens to their own sequences, whose keys and values are in the cache.
    fn attend(
        &self,
        cache: &Self::Cache,
        layer: usize,
        parts: &[Part<'_>],
        q: &Self::Rows,
        spec: &Attention,
        out: &mut Self::Rows,
    ) -> Result<()>;
    /// `gate = activation(gate) * up`.
    fn gate(&self, activation: Activation, gate: &mut Self::Rows, up: &Self::Rows) -> Result<()>;
    /// `x += y`.
    fn add(&self, x: &mut Self::Rows, y: &Self::Rows) -> Result<()>;
    /// The rows with these indexes, which may repeat.
    fn select(&self, x: &Self::Rows, rows: &[u32], out: &mut Self::Rows) -> Result<()>;
    /// `x[rows[i]] += weights[i] · y[i]`, in the order of `i`.
    fn add_scaled(
        &self,
        x: &mut Self::Rows,
        rows: &[u32],
        weights: &[f32],
        y: &Self::Rows,
    ) -> Result<()>;
    /// Makes `out` this many rows of zeros.
    fn zeros(&self, rows: usize, width: usize, out: &mut Self::Rows) -> Result<()>;
    /// Copies rows to the CPU, one after the other.
    fn read(&self, x: &Self::Rows, out: &mut Vec<f32>) -> Result<()>;
}

/// A product of rows with a matrix, plus a bias.
#[derive(Debug)]
pub struct Product<'a, B: Backend> {
    /// The matrix.
    pub matrix: &'a B::Matrix,
    /// Added to every output row.
    pub bias: Option<&'a B::Vector>,
    /// The outputs.
    pub out: &'a mut B::Rows,
}

/// The data type of keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    #[default]
    F16,
    /// 8-bit integers in blocks of 32 with a scale; on the processor only.
    Q8,
}

impl CacheType {
    /// The name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8 => "q8",
        }
    }
}

/// The size of a KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheShape {
    /// The data type.
    pub kind: CacheType,
    /// The number of layers.
    pub layers: usize,
    /// The number of blocks, of [`BLOCK`] tokens each.
    pub blocks: usize,
    /// The heads of keys and values.
    pub kv_heads: usize,
    /// The width of a head.
    pub head_dim: usize,
}

impl CacheShape {
    /// A cache for a model, with this many blocks.
    pub const fn of(model: &Architecture, kind: CacheType, blocks: usize) -> Self {
        let (layers, kv_heads, head_dim) = (model.layers.len(), model.kv_heads, model.head_dim);
        Self { kind, layers, blocks, kv_heads, head_dim }
    }

    /// The bytes of the whole cache.
    pub const fn bytes(&self) -> u64 {
        (self.blocks as u64).saturating_mul(self.block_bytes() as u64)
    }

    /// The bytes of one block in all layers.
    ///
    /// On the processor, a token's values are padded to a multiple of 16 numbers.
    pub const fn block_bytes(&self) -> usize {
        let scales = self.head_dim.div_ceil(32) * 2;
        let numbers = self.head_dim + self.head_dim.next_multiple_of(16);
        let token = match self.kind {
            CacheType::F32 => numbers * 4,
            CacheType::F16 => numbers * 2,
            CacheType::Q8 => numbers + 2 * scales,
        };
        token * self.layers * self.kv_heads * BLOCK
    }
}

/// The parameters of a layer's attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// The heads of the queries.
    pub heads: usize,
    /// The heads of keys and values; a divisor of `heads`.
    pub kv_heads: usize,
    /// The width of a head.
    pub head_dim: usize,
    /// Multiplies the scores.
    pub scale: f32,
    /// Limits the scores, after the scale.
    pub softcap: Option<f32>,
    /// The most tokens that a token attends to, itself included.
    pub window: Option<usize>,
}
