//! Attention over a cache in blocks.
//!
//! The order of all operations depends on a token's position alone. A score is a sum over the dimensions of the head,
//! in their order. The softmax is computed online (Milakov and Gimelshein, 2018) over tiles of [`BLOCK`] positions,
//! which are the blocks of the cache, and starts anew in each segment of [`SEGMENT`] positions; the segments are then
//! merged in their order. So a prompt can be divided into steps, and the work of a step among threads, at will.
#![allow(unsafe_code)]

mod tiles;

use std::{cell::RefCell, marker::PhantomData, ops::Range};

use candle_core::{Result, bail};
use rayon::prelude::*;

use self::tiles::{Run, scores, softmax, values};
use super::{
    cache::{Cache, Element, F16, F32, Q8, Scales},
    isa::{Isa, Kernel, LANES, Simd},
    math,
    rows::Rows,
};
use crate::{
    backend::{Attention, BLOCK, CacheType},
    part::Part,
};

/// The positions whose softmax is computed from one to the next.
const SEGMENT: usize = 512;

/// The rows of queries that share a tile of keys while it is in the first-level cache.
const ROWS: usize = 32;

/// The multiplications of scores below which one thread computes everything.
const ALONE: usize = 1 << 17;

/// Some tokens of a part, and the query heads that share one head of keys and values.
#[derive(Clone, Debug)]
struct Item<'a> {
    part: &'a Part<'a>,
    /// The row of the part's first token.
    row: usize,
    tokens: Range<usize>,
    kv_head: usize,
}

/// A step's attention.
struct Step<'a> {
    cache: &'a Cache,
    layer: usize,
    q: &'a [f32],
    spec: &'a Attention,
    /// The query heads per head of keys and values.
    group: usize,
}

/// What a segment, or several of them, gives for each query row of an item.
#[derive(Debug, Default)]
struct Partial {
    /// The largest score.
    max: Vec<f32>,
    /// The sum of the exponentials of all scores, less the largest.
    sum: Vec<f32>,
    /// The sum of the values, weighted by these exponentials: `columns` entries per row.
    weighted: Vec<[f32; LANES]>,
}

/// Memory of a thread, used again.
#[derive(Debug, Default)]
struct Scratch {
    scales: Scales,
    /// A tile's scores, then their exponentials, per row.
    scores: Vec<[f32; BLOCK]>,
    /// The factors for what was summed before a tile.
    corrections: Vec<f32>,
    sums: Vec<[f32; LANES]>,
}

thread_local! {
    static SCRATCH: RefCell<(Scratch, Partial, Partial)> = RefCell::default();
}

impl Step<'_> {
    /// The query rows of an item.
    fn rows(&self, item: &Item<'_>) -> usize {
        item.tokens.len() * self.group
    }

    /// The positions that a token attends to.
    fn range(&self, item: &Item<'_>, token: usize) -> Range<usize> {
        let end = item.part.start + token + 1;
        let start = self.spec.window.map_or(0, |window| end.saturating_sub(window));
        start..end
    }

    /// The segments with positions that any token of an item attends to.
    fn segments(&self, item: &Item<'_>) -> Range<usize> {
        let first = self.range(item, item.tokens.start).start;
        let last = self.range(item, item.tokens.end - 1).end;
        first / SEGMENT..last.div_ceil(SEGMENT)
    }

    /// Computes a segment of an item.
    fn segment(
        &self,
        isa: Isa,
        item: &Item<'_>,
        segment: usize,
        scratch: &mut Scratch,
        out: &mut Partial,
    ) {
        match self.cache.shape.kind {
            CacheType::F32 => isa.run(Segment::<F32>::new(self, item, segment, scratch, out)),
            CacheType::F16 => isa.run(Segment::<F16>::new(self, item, segment, scratch, out)),
            CacheType::Q8 => isa.run(Segment::<Q8>::new(self, item, segment, scratch, out)),
        }
    }
}

/// The kernel for one segment.
struct Segment<'a, E> {
    step: &'a Step<'a>,
    item: &'a Item<'a>,
    segment: usize,
    scratch: &'a mut Scratch,
    out: &'a mut Partial,
    element: PhantomData<E>,
}

impl<'a, E> Segment<'a, E> {
    fn new(
        step: &'a Step<'a>,
        item: &'a Item<'a>,
        segment: usize,
        scratch: &'a mut Scratch,
        out: &'a mut Partial,
    ) -> Self {
        Self { step, item, segment, scratch, out, element: PhantomData }
    }
}

impl<E: Element> Kernel for Segment<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { step, item, segment, scratch, out, .. } = self;
        let Step { cache, layer, q, spec, group } = *step;
        let columns = cache.layout.columns;
        let rows = step.rows(item);
        out.max.clear();
        out.max.resize(rows, f32::NEG_INFINITY);
        out.weighted.clear();
        out.weighted.resize(rows * columns, [0.0; LANES]);
        scratch.sums.clear();
        scratch.sums.resize(rows, [0.0; LANES]);
        scratch.scores.resize(rows, [0.0; BLOCK]);
        scratch.corrections.resize(rows, 0.0);

        let whole = segment * SEGMENT..(segment + 1) * SEGMENT;
        let first = step.range(item, item.tokens.start).start.max(whole.start);
        let last = step.range(item, item.tokens.end - 1).end.min(whole.end);
        let width = spec.heads * spec.head_dim;
        let query = (item.row + item.tokens.start) * width + item.kv_head * group * spec.head_dim;
        for block in first / BLOCK..last.div_ceil(BLOCK) {
            let start = block * BLOCK;
            let offset = cache.offset(layer, item.part.blocks[block], item.kv_head);
            let tile = E::tile(s, cache, offset, &mut scratch.scales);
            // The entries of the tile that a token attends to.
            let seen = |token| {
                let range = step.range(item, token);
                range.start.saturating_sub(start).min(BLOCK)
                    ..range.end.saturating_sub(start).min(BLOCK)
            };
            let mut token = item.tokens.start;
            while token < item.tokens.end {
                let entries = seen(token);
                let mut next = token + 1;
                while next < item.tokens.end && seen(next) == entries {
                    next += 1;
                }
                let from = (token - item.tokens.start) * group;
                let to = (next - item.tokens.start) * group;
                token = next;
                if entries.is_empty() {
                    continue;
                }
                let run = Run {
                    head_dim: spec.head_dim,
                    columns,
                    rows: from..to,
                    group,
                    entries: entries.clone(),
                };
                scores(s, &tile, &run, &q[query..], width, &mut scratch.scores);
                for row in from..to {
                    scratch.corrections[row] = softmax(
                        s,
                        spec,
                        &entries,
                        &mut scratch.scores[row],
                        &mut out.max[row],
                        &mut scratch.sums[row],
                    );
                }
                let (weights, corrections) = (&scratch.scores, &scratch.corrections);
                values(s, &tile, &run, weights, corrections, &mut out.weighted);
            }
        }
        out.sum.clear();
        out.sum.extend(scratch.sums.iter().map(|sums| s.sum(s.load(sums))));
    }
}

/// Adds a later segment to what the earlier ones gave.
struct Merge<'a> {
    step: &'a Step<'a>,
    item: &'a Item<'a>,
    segment: usize,
    later: &'a Partial,
    total: &'a mut Partial,
}

impl Kernel for Merge<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { step, item, segment, later, total } = self;
        let columns = step.cache.layout.columns;
        if segment == step.segments(item).start {
            total.max.clone_from(&later.max);
            total.sum.clone_from(&later.sum);
            total.weighted.clone_from(&later.weighted);
            return;
        }
        for row in 0..step.rows(item) {
            let seen = step.range(item, item.tokens.start + row / step.group);
            let before = seen.start < segment * SEGMENT;
            if seen.end <= segment * SEGMENT || seen.start >= (segment + 1) * SEGMENT {
                continue;
            }
            let part = row * columns..(row + 1) * columns;
            let (total_row, later_row) = (&mut total.weighted[part.clone()], &later.weighted[part]);
            if !before {
                total.max[row] = later.max[row];
                total.sum[row] = later.sum[row];
                total_row.copy_from_slice(later_row);
                continue;
            }
            let (old, new) = (total.max[row], later.max[row]);
            let max = if old > new { old } else { new };
            let [old, new] = [old, new].map(|part| math::exp(s, s.splat(part - max)));
            let sum = s.mul(new, s.splat(later.sum[row]));
            let sum = s.fma(old, s.splat(total.sum[row]), sum);
            let mut lanes = [0.0; LANES];
            s.store(sum, &mut lanes);
            (total.max[row], total.sum[row]) = (max, lanes[0]);
            for (total, later) in total_row.iter_mut().zip(later_row) {
                let sum = s.mul(new, s.load(later));
                s.store(s.fma(old, s.load(total), sum), total);
            }
        }
    }
}

/// The memory of all outputs. Items write disjoint parts of it.
struct Output {
    start: *mut f32,
    len: usize,
}

// SAFETY: `write` is only called for disjoint parts.
unsafe impl Sync for Output {}

impl Output {
    /// # Safety
    /// Nothing else may have access to these numbers at the same time.
    #[allow(clippy::mut_from_ref)]
    unsafe fn slice(&self, start: usize, len: usize) -> &mut [f32] {
        assert!(start.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: The numbers are within the memory, and the caller has them alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

/// Writes the results of an item: the weighted sums, divided by the sums of the weights.
struct Finish<'a> {
    step: &'a Step<'a>,
    item: &'a Item<'a>,
    total: &'a Partial,
    out: &'a Output,
}

impl Kernel for Finish<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { step, item, total, out } = self;
        let Attention { heads, head_dim, .. } = *step.spec;
        let columns = step.cache.layout.columns;
        let width = heads * head_dim;
        for row in 0..step.rows(item) {
            let token = item.row + item.tokens.start + row / step.group;
            let head = item.kv_head * step.group + row % step.group;
            // SAFETY: Each head of each token belongs to one item, and each item is finished once.
            let out = unsafe { out.slice(token * width + head * head_dim, head_dim) };
            let sum = s.splat(total.sum[row]);
            let weighted = &total.weighted[row * columns..(row + 1) * columns];
            let mut lanes = [0.0; LANES];
            for (out, weighted) in out.chunks_mut(LANES).zip(weighted) {
                s.store(s.div(s.load(weighted), sum), &mut lanes);
                out.copy_from_slice(&lanes[..out.len()]);
            }
        }
    }
}

/// Computes the attention of all parts' tokens.
pub(super) fn attend(
    isa: Isa,
    cache: &Cache,
    layer: usize,
    parts: &[Part<'_>],
    q: &Rows,
    spec: &Attention,
    out: &mut Rows,
) -> Result<()> {
    let Attention { heads, kv_heads, head_dim, window, .. } = *spec;
    let shape = &cache.shape;
    if kv_heads != shape.kv_heads || head_dim != shape.head_dim {
        let (stored, dim) = (shape.kv_heads, shape.head_dim);
        bail!("{kv_heads} heads of {head_dim} for a KV cache of {stored} heads of {dim}");
    }
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) || heads == 0 {
        bail!("{heads} query heads for {kv_heads} heads of keys");
    }
    if q.width != heads * head_dim {
        bail!("queries of {} numbers for {heads} heads of {head_dim}", q.width);
    }
    if window == Some(0) {
        bail!("a window of 0 tokens");
    }
    cache.check(layer, parts, q.len())?;
    let numbers = out.reshape(q.len(), q.width)?;
    let output = Output { start: numbers.as_mut_ptr(), len: numbers.len() };
    let step = Step { cache, layer, q: &q.data, spec, group: heads / kv_heads };
    let (items, work) = step.divide(parts);
    let threads = rayon::current_num_threads();
    if threads == 1 || work < ALONE {
        items.iter().for_each(|item| step.compute(isa, item, &output));
    } else if items.len() >= 4 * threads {
        items.par_iter().for_each(|item| step.compute(isa, item, &output));
    } else {
        step.compute_segments(isa, &items, &output);
    }
    Ok(())
}

impl Step<'_> {
    /// All items of a step, and the number of multiplications for the scores.
    fn divide<'a>(&self, parts: &'a [Part<'a>]) -> (Vec<Item<'a>>, usize) {
        let tokens = ROWS.div_ceil(self.group);
        let mut items = Vec::new();
        let (mut row, mut work) = (0, 0_usize);
        for part in parts {
            for start in (0..part.tokens.len()).step_by(tokens) {
                let tokens = start..part.tokens.len().min(start + tokens);
                for kv_head in 0..self.spec.kv_heads {
                    let item = Item { part, row, tokens: tokens.clone(), kv_head };
                    let seen = self.range(&item, tokens.end - 1).len() * tokens.len();
                    work = work.saturating_add(seen * self.group * self.spec.head_dim);
                    items.push(item);
                }
            }
            row += part.tokens.len();
        }
        (items, work)
    }

    /// Computes an item, one segment after the other.
    fn compute(&self, isa: Isa, item: &Item<'_>, out: &Output) {
        SCRATCH.with_borrow_mut(|(scratch, later, total)| {
            for segment in self.segments(item) {
                self.segment(isa, item, segment, scratch, later);
                isa.run(Merge { step: self, item, segment, later, total });
            }
            isa.run(Finish { step: self, item, total, out });
        });
    }

    /// Computes the segments of all items on all threads.
    fn compute_segments(&self, isa: Isa, items: &[Item<'_>], out: &Output) {
        let of = |item: &Item<'_>| self.segments(item);
        let all: Vec<(usize, usize)> = items
            .iter()
            .enumerate()
            .flat_map(|(index, item)| of(item).map(move |segment| (index, segment)))
            .collect();
        let partials: Vec<Partial> = all
            .par_iter()
            .with_max_len(1)
            .map(|&(index, segment)| {
                let mut partial = Partial::default();
                SCRATCH.with_borrow_mut(|(scratch, ..)| {
                    self.segment(isa, &items[index], segment, scratch, &mut partial);
                });
                partial
            })
            .collect();
        let mut partials = partials.into_iter();
        for item in items {
            let Some(mut total) = partials.next() else { return };
            for segment in self.segments(item).skip(1) {
                let Some(later) = partials.next() else { return };
                let total = &mut total;
                isa.run(Merge { step: self, item, segment, later: &later, total });
            }
            isa.run(Finish { step: self, item, total: &total, out });
        }
    }
}

#[cfg(test)]
#[path = "attend_tests.rs"]
mod tests;
