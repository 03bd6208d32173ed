//! The backend on candle's tensors: for GPUs, and on the processor as the reference in tests.
//!
//! The kernels are candle's own, and candle selects them by the number of rows. So this backend does not promise
//! [batch invariance](super::backend::Backend) bit for bit: a token's logits can differ in their last bits if
//! other tokens are computed with it.

mod attention;
mod matrix;
mod rotation;
#[cfg(test)]
mod tests;

use candle_core::{DType, Device, Result, Tensor, bail};
use candle_nn::ops;

use self::{attention::TensorCache, matrix::TensorMatrix, rotation::TensorRotation};
use super::{
    architecture::{Activation, Rope},
    backend::{Attention, Backend, CacheShape, Product},
    matrix::StoredMatrix,
    part::Part,
};

/// A device of candle.
///
/// Norms, rotations, activations and attention compute in 32 bits. Matrices keep their stored type: products with f16
/// and bf16 matrices round their inputs to that type, and quantized ones are multiplied by candle's quantized kernels.
/// On the processor, f16 and bf16 matrices are converted to 32 bits, because candle's products of 16 bits are slow and
/// inexact there.
#[derive(Debug)]
pub struct Tensors {
    device: Device,
}

/// Rows of 32-bit floats on the device; nothing until an operation writes them.
#[derive(Debug, Default)]
pub struct TensorRows(Option<Tensor>);

impl TensorRows {
    fn tensor(&self) -> Result<&Tensor> {
        match &self.0 {
            Some(tensor) => Ok(tensor),
            None => bail!("rows are read before they were written"),
        }
    }

    fn set(&mut self, tensor: Tensor) {
        self.0 = Some(tensor);
    }
}

impl Tensors {
    /// The operations on this device.
    pub const fn new(device: Device) -> Self {
        Self { device }
    }

    fn indexes(&self, indexes: &[u32]) -> Result<Tensor> {
        Tensor::from_slice(indexes, indexes.len(), &self.device)
    }
}

impl Backend for Tensors {
    type Matrix = TensorMatrix;
    type Vector = Tensor;
    type Rows = TensorRows;
    type Rotation = TensorRotation;
    type Cache = TensorCache;

    fn matrix(&self, stored: &StoredMatrix) -> Result<TensorMatrix> {
        TensorMatrix::new(stored, &self.device)
    }

    fn vector(&self, values: Vec<f32>) -> Result<Tensor> {
        let len = values.len();
        Tensor::from_vec(values, len, &self.device)
    }

    fn rotation(&self, rope: &Rope, positions: usize) -> Result<TensorRotation> {
        TensorRotation::new(rope, positions, &self.device)
    }

    fn cache(&self, shape: &CacheShape) -> Result<TensorCache> {
        TensorCache::new(shape, &self.device)
    }

    fn embed(
        &self,
        table: &TensorMatrix,
        tokens: &[u32],
        scale: f32,
        out: &mut TensorRows,
    ) -> Result<()> {
        let rows = table.rows(&self.indexes(tokens)?)?;
        out.set(if scale == 1.0 { rows } else { (rows * f64::from(scale))? });
        Ok(())
    }

    fn norm(&self, x: &TensorRows, weight: &Tensor, eps: f32, out: &mut TensorRows) -> Result<()> {
        let x = x.tensor()?;
        let (rows, width) = x.dims2()?;
        let part = weight.dims1()?;
        let parts = x.reshape((rows * (width / part), part))?;
        out.set(ops::rms_norm(&parts, weight, eps)?.reshape((rows, width))?);
        Ok(())
    }

    fn linear(&self, x: &TensorRows, products: &mut [Product<'_, Self>]) -> Result<()> {
        let x = x.tensor()?;
        for product in products {
            let y = product.matrix.multiply(x)?;
            product.out.set(match product.bias {
                Some(bias) => y.broadcast_add(bias)?,
                None => y,
            });
        }
        Ok(())
    }

    fn rotate(
        &self,
        x: &mut TensorRows,
        rotation: &TensorRotation,
        head_dim: usize,
        positions: &[u32],
    ) -> Result<()> {
        let rotated = rotation.apply(x.tensor()?, head_dim, &self.indexes(positions)?)?;
        x.set(rotated);
        Ok(())
    }

    fn store(
        &self,
        cache: &mut TensorCache,
        layer: usize,
        parts: &[Part<'_>],
        k: &TensorRows,
        v: &TensorRows,
    ) -> Result<()> {
        cache.store(layer, parts, k.tensor()?, v.tensor()?)
    }

    fn attend(
        &self,
        cache: &TensorCache,
        layer: usize,
        parts: &[Part<'_>],
        q: &TensorRows,
        spec: &Attention,
        out: &mut TensorRows,
    ) -> Result<()> {
        out.set(cache.attend(layer, parts, q.tensor()?, spec)?);
        Ok(())
    }

    fn gate(&self, activation: Activation, gate: &mut TensorRows, up: &TensorRows) -> Result<()> {
        let x = gate.tensor()?;
        let activated = match activation {
            Activation::Silu => x.silu()?,
            Activation::GeluTanh => x.gelu()?,
            Activation::Gelu => x.gelu_erf()?,
        };
        gate.set((activated * up.tensor()?)?);
        Ok(())
    }

    fn add(&self, x: &mut TensorRows, y: &TensorRows) -> Result<()> {
        let sum = (x.tensor()? + y.tensor()?)?;
        x.set(sum);
        Ok(())
    }

    fn select(&self, x: &TensorRows, rows: &[u32], out: &mut TensorRows) -> Result<()> {
        out.set(x.tensor()?.index_select(&self.indexes(rows)?, 0)?);
        Ok(())
    }

    fn add_scaled(
        &self,
        x: &mut TensorRows,
        rows: &[u32],
        weights: &[f32],
        y: &TensorRows,
    ) -> Result<()> {
        let weights = Tensor::from_slice(weights, (weights.len(), 1), &self.device)?;
        let scaled = y.tensor()?.broadcast_mul(&weights)?;
        let sum = x.tensor()?.index_add(&self.indexes(rows)?, &scaled, 0)?;
        x.set(sum);
        Ok(())
    }

    fn zeros(&self, rows: usize, width: usize, out: &mut TensorRows) -> Result<()> {
        out.set(Tensor::zeros((rows, width), DType::F32, &self.device)?);
        Ok(())
    }

    fn read(&self, x: &TensorRows, out: &mut Vec<f32>) -> Result<()> {
        *out = x.tensor()?.flatten_all()?.to_vec1()?;
        Ok(())
    }
}
