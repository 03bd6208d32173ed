//! Keys and values of all sequences, in blocks.
//!
//! For each layer, block and head there is a tile of keys and a tile of values, next to each other. Values are stored
//! one token after the other. Keys are stored one dimension after the other, each for the block's 32 tokens: so the
//! scores of 32 tokens are computed beside each other, and no sum runs across a register.
//!
//! The numbers of a tile are exact 32-bit floats whatever their type: an 8-bit integer times a half-precision scale
//! has 18 bits.

use candle_core::{Result, bail};

use super::{
    isa::{Isa, Kernel, LANES, Simd, f16_bits, f16_value},
    memory::Memory,
    rows::{Rows, padded},
};
use crate::{
    backend::{BLOCK, CacheShape, CacheType},
    part::Part,
};

/// The numbers that share a scale.
const GROUP: usize = 32;

/// The keys and values of all sequences.
#[derive(Debug)]
pub struct Cache {
    pub(super) shape: CacheShape,
    pub(super) layout: Layout,
    memory: Memory,
}

/// Where the parts of a pair of tiles are, in bytes from its start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) head_dim: usize,
    /// The groups of sixteen numbers of a token's values; the last one may be padded.
    pub(super) columns: usize,
    /// The scales of a token's keys, and of its values.
    pub(super) groups: usize,
    values: usize,
    /// Scales are there for 8-bit integers alone.
    key_scales: usize,
    value_scales: usize,
    bytes: usize,
}

impl Layout {
    fn new(kind: CacheType, head_dim: usize) -> Self {
        let columns = head_dim.div_ceil(LANES);
        let groups = head_dim.div_ceil(GROUP);
        let (number, scales) = match kind {
            CacheType::F32 => (4, 0),
            CacheType::F16 => (2, 0),
            CacheType::Q8 => (1, groups * BLOCK * 2),
        };
        let values = head_dim * BLOCK * number;
        let key_scales = values + columns * LANES * BLOCK * number;
        let value_scales = key_scales + scales;
        let bytes = value_scales + scales;
        Self { head_dim, columns, groups, values, key_scales, value_scales, bytes }
    }
}

/// The keys and values of one head in one block.
pub(super) trait Tile: Copy {
    /// The scales of the keys in a group of dimensions, for one half of the tokens.
    fn key_scales<S: Simd>(&self, s: S, group: usize, half: usize) -> S::F;
    /// One dimension of the keys, for one half of the tokens.
    fn keys<S: Simd>(&self, s: S, dimension: usize, half: usize, scales: S::F) -> S::F;
    /// Sixteen numbers of a token's values.
    fn values<S: Simd>(&self, s: S, token: usize, column: usize) -> S::F;
}

/// Makes the tiles of a type of cache.
pub(super) trait Element: Copy + Send + Sync {
    type Tile<'a>: Tile;
    /// The tile at `offset`. `scales` is memory for it.
    fn tile<'a, S: Simd>(
        s: S,
        cache: &'a Cache,
        offset: usize,
        scales: &'a mut Scales,
    ) -> Self::Tile<'a>;
}

/// The scales of a tile as 32-bit floats.
#[derive(Debug, Default)]
pub(super) struct Scales {
    keys: Vec<[[f32; LANES]; 2]>,
    values: Vec<[f32; BLOCK]>,
}

/// 32-bit floats.
#[derive(Clone, Copy, Debug)]
pub(super) struct F32;

/// Half-precision floats.
#[derive(Clone, Copy, Debug)]
pub(super) struct F16;

/// 8-bit integers with scales.
#[derive(Clone, Copy, Debug)]
pub(super) struct Q8;

/// A tile whose numbers have the type `T`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers<'a, T> {
    keys: &'a [[[T; LANES]; 2]],
    values: &'a [[T; LANES]],
    columns: usize,
}

impl<'a, T: super::memory::Plain> Numbers<'a, T> {
    #[inline(always)]
    fn new(cache: &'a Cache, offset: usize) -> Self {
        let layout = &cache.layout;
        Self {
            keys: cache.memory.slice(offset, layout.head_dim),
            values: cache.memory.slice(offset + layout.values, BLOCK * layout.columns),
            columns: layout.columns,
        }
    }
}

impl Element for F32 {
    type Tile<'a> = Numbers<'a, f32>;
    #[inline(always)]
    fn tile<'a, S: Simd>(
        _: S,
        cache: &'a Cache,
        offset: usize,
        _: &'a mut Scales,
    ) -> Self::Tile<'a> {
        Numbers::new(cache, offset)
    }
}

impl Tile for Numbers<'_, f32> {
    #[inline(always)]
    fn key_scales<S: Simd>(&self, s: S, _: usize, _: usize) -> S::F {
        s.splat(1.0)
    }
    #[inline(always)]
    fn keys<S: Simd>(&self, s: S, dimension: usize, half: usize, _: S::F) -> S::F {
        s.load(&self.keys[dimension][half])
    }
    #[inline(always)]
    fn values<S: Simd>(&self, s: S, token: usize, column: usize) -> S::F {
        s.load(&self.values[token * self.columns + column])
    }
}

impl Element for F16 {
    type Tile<'a> = Numbers<'a, u16>;
    #[inline(always)]
    fn tile<'a, S: Simd>(
        _: S,
        cache: &'a Cache,
        offset: usize,
        _: &'a mut Scales,
    ) -> Self::Tile<'a> {
        Numbers::new(cache, offset)
    }
}

impl Tile for Numbers<'_, u16> {
    #[inline(always)]
    fn key_scales<S: Simd>(&self, s: S, _: usize, _: usize) -> S::F {
        s.splat(1.0)
    }
    #[inline(always)]
    fn keys<S: Simd>(&self, s: S, dimension: usize, half: usize, _: S::F) -> S::F {
        s.load_f16(&self.keys[dimension][half])
    }
    #[inline(always)]
    fn values<S: Simd>(&self, s: S, token: usize, column: usize) -> S::F {
        s.load_f16(&self.values[token * self.columns + column])
    }
}

/// A tile of 8-bit integers with its scales.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scaled<'a> {
    numbers: Numbers<'a, i8>,
    key_scales: &'a [[[f32; LANES]; 2]],
    value_scales: &'a [[f32; BLOCK]],
}

impl Element for Q8 {
    type Tile<'a> = Scaled<'a>;
    #[inline(always)]
    fn tile<'a, S: Simd>(
        s: S,
        cache: &'a Cache,
        offset: usize,
        scales: &'a mut Scales,
    ) -> Self::Tile<'a> {
        let layout = &cache.layout;
        let groups = layout.groups;
        scales.keys.resize(groups, [[0.0; LANES]; 2]);
        scales.values.resize(groups, [0.0; BLOCK]);
        let stored: &[[[u16; LANES]; 2]] = cache.memory.slice(offset + layout.key_scales, groups);
        for (scales, stored) in scales.keys.iter_mut().zip(stored) {
            for half in 0..2 {
                s.store(s.load_f16(&stored[half]), &mut scales[half]);
            }
        }
        let stored: &[[[u16; LANES]; 2]] = cache.memory.slice(offset + layout.value_scales, groups);
        for (scales, stored) in scales.values.iter_mut().zip(stored) {
            let (halves, _) = scales.as_chunks_mut::<LANES>();
            for (scales, stored) in halves.iter_mut().zip(stored) {
                s.store(s.load_f16(stored), scales);
            }
        }
        Scaled {
            numbers: Numbers::new(cache, offset),
            key_scales: &scales.keys,
            value_scales: &scales.values,
        }
    }
}

impl Tile for Scaled<'_> {
    #[inline(always)]
    fn key_scales<S: Simd>(&self, s: S, group: usize, half: usize) -> S::F {
        s.load(&self.key_scales[group][half])
    }
    #[inline(always)]
    fn keys<S: Simd>(&self, s: S, dimension: usize, half: usize, scales: S::F) -> S::F {
        s.mul(s.load_i8(&self.numbers.keys[dimension][half]), scales)
    }
    #[inline(always)]
    fn values<S: Simd>(&self, s: S, token: usize, column: usize) -> S::F {
        let numbers = s.load_i8(&self.numbers.values[token * self.numbers.columns + column]);
        s.mul(numbers, s.splat(self.value_scales[column * LANES / GROUP][token]))
    }
}

impl Cache {
    pub(super) fn new(shape: &CacheShape) -> Result<Self> {
        let CacheShape { kind, layers, blocks, kv_heads, head_dim } = *shape;
        if head_dim == 0 || !head_dim.is_multiple_of(2) || head_dim > 1 << 16 {
            bail!("a KV cache for heads of {head_dim}; allowed are even numbers to 65536");
        }
        let layout = Layout::new(kind, head_dim);
        let bytes = [layers, blocks, kv_heads]
            .into_iter()
            .try_fold(layout.bytes, |bytes, factor| bytes.checked_mul(factor));
        let Some(bytes) = bytes else {
            bail!("a KV cache of {blocks} blocks, {layers} layers, {kv_heads} heads: too large");
        };
        let memory = Memory::zeroed(bytes)
            .map_err(|fault| candle_core::Error::Msg(format!("the KV cache: {fault}")))?;
        Ok(Self { shape: *shape, layout, memory })
    }

    /// The address of the tiles of a head.
    #[inline(always)]
    pub(super) fn offset(&self, layer: usize, block: u32, head: usize) -> usize {
        let shape = &self.shape;
        ((layer * shape.blocks + block as usize) * shape.kv_heads + head) * self.layout.bytes
    }

    /// Checks the layer, that the rows are those of all parts, and that their blocks exist.
    pub(super) fn check(&self, layer: usize, parts: &[Part<'_>], rows: usize) -> Result<()> {
        if layer >= self.shape.layers {
            bail!("layer {layer} of a KV cache for {}", self.shape.layers);
        }
        let mut tokens = 0_usize;
        for part in parts {
            tokens = tokens.saturating_add(part.tokens.len());
            let end = part.start.saturating_add(part.tokens.len());
            if part.blocks.len().saturating_mul(BLOCK) < end {
                bail!("{} blocks for {end} positions", part.blocks.len());
            }
            let used = &part.blocks[..end.div_ceil(BLOCK)];
            if let Some(block) = used.iter().find(|block| **block as usize >= self.shape.blocks) {
                bail!("block {block} of a KV cache of {}", self.shape.blocks);
            }
        }
        if tokens != rows {
            bail!("{rows} rows for {tokens} tokens");
        }
        Ok(())
    }

    /// Stores the keys and values of the tokens of all parts.
    pub(super) fn store(
        &mut self,
        isa: Isa,
        layer: usize,
        parts: &[Part<'_>],
        k: &Rows,
        v: &Rows,
    ) -> Result<()> {
        let CacheShape { kind, kv_heads, head_dim, .. } = self.shape;
        let width = kv_heads * head_dim;
        if k.width != width || v.width != width || k.data.len() != v.data.len() {
            let (k, v) = (k.width, v.width);
            bail!("keys of {k} and values of {v} for {kv_heads} heads of {head_dim}");
        }
        self.check(layer, parts, k.len())?;
        let mut row = 0;
        for part in parts {
            for head in 0..kv_heads {
                for token in 0..part.tokens.len() {
                    let position = part.start + token;
                    let start = (row + token) * width + head * head_dim;
                    let offset = self.offset(layer, part.blocks[position / BLOCK], head);
                    isa.run(Store {
                        kind,
                        layout: self.layout,
                        memory: &mut self.memory,
                        offset,
                        token: position % BLOCK,
                        k: &k.data[start..start + head_dim],
                        v: &v.data[start..start + head_dim],
                    });
                }
            }
            row += part.tokens.len();
        }
        Ok(())
    }
}

/// Stores the keys and values of one head of one token.
struct Store<'a> {
    kind: CacheType,
    layout: Layout,
    memory: &'a mut Memory,
    offset: usize,
    token: usize,
    k: &'a [f32],
    v: &'a [f32],
}

impl Kernel for Store<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { kind, layout, memory, offset, token, k, v } = self;
        let Layout { head_dim, columns, groups, .. } = layout;
        let values = offset + layout.values;
        match kind {
            CacheType::F32 => {
                let keys: &mut [[f32; BLOCK]] = memory.slice_mut(offset, head_dim);
                keys.iter_mut().zip(k).for_each(|(row, k)| row[token] = *k);
                let tile: &mut [[f32; LANES]] = memory.slice_mut(values, BLOCK * columns);
                let row = &mut tile[token * columns..][..columns];
                row.iter_mut().zip(v.chunks(LANES)).for_each(|(out, v)| *out = padded(v));
            }
            CacheType::F16 => {
                let keys: &mut [[u16; BLOCK]] = memory.slice_mut(offset, head_dim);
                let mut half = [0; LANES];
                for (keys, k) in keys.chunks_mut(LANES).zip(k.chunks(LANES)) {
                    s.store_f16(s.load(&padded(k)), &mut half);
                    keys.iter_mut().zip(half).for_each(|(row, k)| row[token] = k);
                }
                let tile: &mut [[u16; LANES]] = memory.slice_mut(values, BLOCK * columns);
                let row = &mut tile[token * columns..][..columns];
                for (out, v) in row.iter_mut().zip(v.chunks(LANES)) {
                    s.store_f16(s.load(&padded(v)), out);
                }
            }
            CacheType::Q8 => {
                let mut numbers = [0_i8; GROUP];
                for (group, k) in k.chunks(GROUP).enumerate() {
                    let scale = quantize(s, k, &mut numbers);
                    let scales: &mut [[u16; BLOCK]] =
                        memory.slice_mut(offset + layout.key_scales, groups);
                    scales[group][token] = scale;
                    let keys: &mut [[i8; BLOCK]] = memory.slice_mut(offset, head_dim);
                    let keys = keys[group * GROUP..].iter_mut();
                    keys.zip(&numbers[..k.len()]).for_each(|(row, k)| row[token] = *k);
                }
                for (group, v) in v.chunks(GROUP).enumerate() {
                    let scale = quantize(s, v, &mut numbers);
                    let scales: &mut [[u16; BLOCK]] =
                        memory.slice_mut(offset + layout.value_scales, groups);
                    scales[group][token] = scale;
                    let tile: &mut [i8] = memory.slice_mut(values, BLOCK * columns * LANES);
                    let row = &mut tile[(token * columns * LANES) + group * GROUP..];
                    row[..v.len()].copy_from_slice(&numbers[..v.len()]);
                }
            }
        }
    }
}

/// Rounds to 8-bit integers with a half-precision scale, which it returns.
#[inline(always)]
fn quantize<S: Simd>(s: S, x: &[f32], out: &mut [i8; GROUP]) -> u16 {
    let mut halves = [[0.0; LANES]; 2];
    for (half, x) in halves.iter_mut().zip(x.chunks(LANES)) {
        *half = padded(x);
    }
    let sizes = s.max(s.abs(s.load(&halves[0])), s.abs(s.load(&halves[1])));
    // Half precision ends at 65504.
    let scale = f16_bits((s.largest(sizes) / 127.0).min(65504.0));
    let value = f16_value(scale);
    let inverse = s.splat(if value > 0.0 { 1.0 / value } else { 0.0 });
    let (limit, lower) = (s.splat(127.0), s.splat(-127.0));
    let mut rounded = [0.0; LANES];
    for (half, out) in halves.iter().zip(out.as_chunks_mut::<LANES>().0) {
        let steps = s.round(s.min(limit, s.max(lower, s.mul(s.load(half), inverse))));
        s.store(steps, &mut rounded);
        *out = rounded.map(|step| step as i8);
    }
    scale
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
