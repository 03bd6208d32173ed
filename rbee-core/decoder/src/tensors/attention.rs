//! Keys and values of all sequences as tensors, and attention to them.

use candle_core::{DType, Device, Result, Tensor, bail};
use candle_nn::ops;

use crate::{
    backend::{Attention, BLOCK, CacheShape, CacheType},
    part::Part,
};

/// The keys and values of all sequences: for each layer two tensors, one row per entry of a block.
#[derive(Debug)]
pub struct TensorCache {
    layers: Vec<[Tensor; 2]>,
    dtype: DType,
}

impl TensorCache {
    pub(super) fn new(shape: &CacheShape, device: &Device) -> Result<Self> {
        let dtype = match shape.kind {
            CacheType::F32 => DType::F32,
            CacheType::F16 => DType::F16,
            CacheType::Q8 => {
                bail!(
                    "keys and values of 8 bits are for the processor only; allowed here are f16 and f32"
                )
            }
        };
        let width = shape.kv_heads * shape.head_dim;
        let empty = || Tensor::zeros((shape.blocks * BLOCK, width), dtype, device);
        let layers = (0..shape.layers).map(|_| Ok([empty()?, empty()?])).collect::<Result<_>>()?;
        Ok(Self { layers, dtype })
    }

    /// Writes the rows of all parts.
    pub(super) fn store(
        &self,
        layer: usize,
        parts: &[Part<'_>],
        k: &Tensor,
        v: &Tensor,
    ) -> Result<()> {
        for (stored, new) in self.layers[layer].iter().zip([k, v]) {
            let new = new.to_dtype(self.dtype)?;
            let mut row = 0;
            for part in parts {
                let (mut position, end) = (part.start, part.start + part.tokens.len());
                while position < end {
                    let (block, entry) = (position / BLOCK, position % BLOCK);
                    let count = (BLOCK - entry).min(end - position);
                    let target = part.blocks[block] as usize * BLOCK + entry;
                    stored.slice_set(&new.narrow(0, row, count)?, 0, target)?;
                    position += count;
                    row += count;
                }
            }
        }
        Ok(())
    }

    /// The attention of all parts, one after the other.
    pub(super) fn attend(
        &self,
        layer: usize,
        parts: &[Part<'_>],
        q: &Tensor,
        spec: &Attention,
    ) -> Result<Tensor> {
        let mut row = 0;
        let mut outputs = Vec::with_capacity(parts.len());
        for part in parts {
            let q = q.narrow(0, row, part.tokens.len())?;
            outputs.push(self.attend_part(layer, part, &q, spec)?);
            row += part.tokens.len();
        }
        match outputs.as_slice() {
            [output] => Ok(output.clone()),
            outputs => Tensor::cat(outputs, 0),
        }
    }

    fn attend_part(
        &self,
        layer: usize,
        part: &Part<'_>,
        q: &Tensor,
        spec: &Attention,
    ) -> Result<Tensor> {
        let (tokens, end) = (part.tokens.len(), part.start + part.tokens.len());
        // The blocks before the window of the first token are not read.
        let oldest = spec.window.map_or(0, |window| (part.start + 1).saturating_sub(window));
        let (first_block, last_block) = (oldest / BLOCK, (end - 1) / BLOCK);
        let first = first_block * BLOCK;
        let entries = end - first;
        let blocks = &part.blocks[first_block..=last_block];
        let blocks = Tensor::from_slice(blocks, blocks.len(), q.device())?;
        let (kv_heads, group) = (spec.kv_heads, spec.heads / spec.kv_heads);
        // [kv_heads, entries, head_dim]
        let gather = |stored: &Tensor| {
            let (rows, width) = stored.dims2()?;
            stored
                .reshape((rows / BLOCK, BLOCK * width))?
                .index_select(&blocks, 0)?
                .reshape((blocks.elem_count() * BLOCK, kv_heads, spec.head_dim))?
                .narrow(0, 0, entries)?
                .transpose(0, 1)?
                .to_dtype(DType::F32)?
                .contiguous()
        };
        let [k, v] = &self.layers[layer];
        let (k, v) = (gather(k)?, gather(v)?);
        // The queries of the heads that share keys are rows of one product: [kv_heads, group · tokens, head_dim].
        let q = q
            .reshape((tokens, kv_heads, group, spec.head_dim))?
            .permute((1, 2, 0, 3))?
            .reshape((kv_heads, group * tokens, spec.head_dim))?;
        let mut scores = (q.matmul(&k.t()?)? * f64::from(spec.scale))?;
        if let Some(cap) = spec.softcap {
            scores = ((scores / f64::from(cap))?.tanh()? * f64::from(cap))?;
        }
        // A single token sees all entries but those of its first block that are before its window.
        if tokens > 1 || oldest > first {
            let mask = mask(part.start, end, first, spec.window, q.device())?;
            scores = scores
                .reshape((kv_heads, group, tokens, entries))?
                .broadcast_add(&mask)?
                .reshape((kv_heads, group * tokens, entries))?;
        }
        ops::softmax_last_dim(&scores)?
            .matmul(&v)?
            .reshape((kv_heads, group, tokens, spec.head_dim))?
            .permute((2, 0, 1, 3))?
            .reshape((tokens, kv_heads * group * spec.head_dim))
    }
}

/// Added to the scores of positions from `start` to `end` for the entries from `first` on: 0 for those that a position
/// attends to, else a number whose exponential is 0.
fn mask(
    start: usize,
    end: usize,
    first: usize,
    window: Option<usize>,
    device: &Device,
) -> Result<Tensor> {
    let positions = Tensor::arange(start as f32, end as f32, device)?.unsqueeze(1)?;
    let entries = Tensor::arange(first as f32, end as f32, device)?.unsqueeze(0)?;
    let mut hidden = entries.broadcast_gt(&positions)?.to_dtype(DType::F32)?;
    if let Some(window) = window {
        let oldest = (positions - (window as f64 - 1.0))?;
        hidden = (hidden + entries.broadcast_lt(&oldest)?.to_dtype(DType::F32)?)?;
    }
    hidden * -1e30
}
