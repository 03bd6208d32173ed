//! The processor: kernels of this crate, with the same numbers on every machine.

mod attend;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod blocks;
mod cache;
mod columns;
mod isa;
mod job;
mod linear;
#[cfg(test)]
mod linear_tests;
mod math;
mod memory;
mod portable;
mod quantize;
mod rotation;
mod rows;
#[cfg(test)]
mod testing;
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "only kernels for x86-64 need it")
)]
mod tile;

use std::fmt;

use candle_core::{Result, bail};

use self::{
    cache::Cache,
    isa::Isa,
    linear::{LinearProduct, decode_row},
    rotation::Rotation,
    rows::Rows,
};
use super::{
    architecture::{Activation, Rope},
    backend::{Attention, Backend, CacheShape, Product},
    matrix::StoredMatrix,
    part::Part,
};

/// Computes on the processor, with the threads of the current thread's pool.
#[derive(Clone, Copy)]
pub struct Cpu {
    isa: Isa,
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Cpu {
    /// With the best instructions that this machine has. They only determine the speed.
    pub fn new() -> Self {
        Self { isa: Isa::best() }
    }

    /// One for each instruction set that this machine has.
    #[cfg(test)]
    pub(crate) fn every() -> Vec<Self> {
        Isa::available().into_iter().map(|isa| Self { isa }).collect()
    }
}

impl fmt::Debug for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cpu").field("isa", &self.isa).finish()
    }
}

impl Backend for Cpu {
    type Matrix = StoredMatrix;
    type Vector = Vec<f32>;
    type Rows = Rows;
    type Rotation = Rotation;
    type Cache = Cache;

    fn matrix(&self, stored: &StoredMatrix) -> Result<StoredMatrix> {
        let StoredMatrix { kind, rows, cols, .. } = *stored;
        let bytes = cols
            .is_multiple_of(kind.block())
            .then(|| (cols / kind.block()).checked_mul(kind.block_bytes())?.checked_mul(rows));
        if bytes.flatten() != Some(stored.bytes.len()) {
            let (name, len) = (kind.name(), stored.bytes.len());
            bail!("{len} bytes for {rows} rows of {cols} weights in {name}");
        }
        Ok(stored.clone())
    }

    fn vector(&self, values: Vec<f32>) -> Result<Vec<f32>> {
        Ok(values)
    }

    fn rotation(&self, rope: &Rope, positions: usize) -> Result<Rotation> {
        Rotation::new(rope, positions)
    }

    fn cache(&self, shape: &CacheShape) -> Result<Cache> {
        Cache::new(shape)
    }

    fn embed(
        &self,
        table: &StoredMatrix,
        tokens: &[u32],
        scale: f32,
        out: &mut Rows,
    ) -> Result<()> {
        if let Some(token) = tokens.iter().find(|token| **token as usize >= table.rows) {
            bail!("token {token} of {} that have an embedding", table.rows);
        }
        let rows = out.reshape(tokens.len(), table.cols)?;
        let rows = rows.chunks_exact_mut(table.cols.max(1)).zip(tokens);
        rows.for_each(|(row, token)| decode_row(table, *token as usize, scale, row));
        Ok(())
    }

    fn norm(&self, x: &Rows, weight: &Vec<f32>, eps: f32, out: &mut Rows) -> Result<()> {
        if weight.is_empty() || !x.width.is_multiple_of(weight.len()) {
            bail!("a norm of {} weights for rows of {} numbers", weight.len(), x.width);
        }
        let numbers = out.reshape(x.len(), x.width)?;
        rows::norm(self.isa, &x.data, weight, eps, numbers);
        Ok(())
    }

    fn linear(&self, x: &Rows, products: &mut [Product<'_, Self>]) -> Result<()> {
        let rows = x.len();
        let mut all = Vec::with_capacity(products.len());
        for Product { matrix, bias, out } in products {
            if matrix.cols != x.width {
                bail!("a matrix of {} columns for rows of {} numbers", matrix.cols, x.width);
            }
            if let Some(bias) = bias.filter(|bias| bias.len() != matrix.rows) {
                bail!("{} biases for {} outputs", bias.len(), matrix.rows);
            }
            let out = out.reshape(rows, matrix.rows)?;
            all.push(LinearProduct { matrix, bias: bias.map(Vec::as_slice), out });
        }
        if rows > 0 {
            linear::linear(self.isa, &x.data, x.width, &mut all);
        }
        Ok(())
    }

    fn rotate(
        &self,
        x: &mut Rows,
        rotation: &Rotation,
        head_dim: usize,
        positions: &[u32],
    ) -> Result<()> {
        rotation.rotate(self.isa, &mut x.data, x.width, head_dim, positions)
    }

    fn store(
        &self,
        cache: &mut Cache,
        layer: usize,
        parts: &[Part<'_>],
        k: &Rows,
        v: &Rows,
    ) -> Result<()> {
        cache.store(self.isa, layer, parts, k, v)
    }

    fn attend(
        &self,
        cache: &Cache,
        layer: usize,
        parts: &[Part<'_>],
        q: &Rows,
        spec: &Attention,
        out: &mut Rows,
    ) -> Result<()> {
        attend::attend(self.isa, cache, layer, parts, q, spec, out)
    }

    fn gate(&self, activation: Activation, gate: &mut Rows, up: &Rows) -> Result<()> {
        same_shape(gate, up)?;
        rows::gate(self.isa, activation, &mut gate.data, &up.data);
        Ok(())
    }

    fn add(&self, x: &mut Rows, y: &Rows) -> Result<()> {
        same_shape(x, y)?;
        rows::add(self.isa, &mut x.data, &y.data);
        Ok(())
    }

    fn select(&self, x: &Rows, rows: &[u32], out: &mut Rows) -> Result<()> {
        in_range(x, rows)?;
        let width = x.width;
        let numbers = out.reshape(rows.len(), width)?;
        let selected = numbers.chunks_exact_mut(width.max(1)).zip(rows);
        selected
            .for_each(|(out, row)| out.copy_from_slice(&x.data[*row as usize * width..][..width]));
        Ok(())
    }

    fn add_scaled(&self, x: &mut Rows, rows: &[u32], weights: &[f32], y: &Rows) -> Result<()> {
        in_range(x, rows)?;
        let width = x.width;
        if y.width != width || y.len() != rows.len() || weights.len() != rows.len() {
            let (n, w, y_rows) = (rows.len(), weights.len(), y.len());
            bail!("{n} indexes, {w} weights, {y_rows} rows of {} for rows of {width}", y.width);
        }
        let parts = rows.iter().zip(weights).zip(y.data.chunks_exact(width.max(1)));
        for ((row, weight), y) in parts {
            let x = &mut x.data[*row as usize * width..][..width];
            rows::add_scaled(self.isa, x, *weight, y);
        }
        Ok(())
    }

    fn zeros(&self, rows: usize, width: usize, out: &mut Rows) -> Result<()> {
        out.reshape(rows, width)?.fill(0.0);
        Ok(())
    }

    fn read(&self, x: &Rows, out: &mut Vec<f32>) -> Result<()> {
        out.clear();
        out.extend_from_slice(&x.data);
        Ok(())
    }
}

fn same_shape(x: &Rows, y: &Rows) -> Result<()> {
    if x.width != y.width || x.data.len() != y.data.len() {
        let (a, b) = (x.len(), y.len());
        bail!("{a} rows of {} numbers and {b} rows of {}", x.width, y.width);
    }
    Ok(())
}

fn in_range(x: &Rows, rows: &[u32]) -> Result<()> {
    if let Some(row) = rows.iter().find(|row| **row as usize >= x.len()) {
        bail!("row {row} of {}", x.len());
    }
    Ok(())
}
