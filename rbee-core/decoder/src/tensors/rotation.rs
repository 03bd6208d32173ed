//! Rotary position embeddings on tensors.

use candle_core::{D, Device, Result, Tensor};
use candle_nn::rotary_emb::{rope_i, rope_thd};

use crate::architecture::{Pairs, Rope};

/// The sines and cosines of a rotation, one row per position.
#[derive(Debug)]
pub struct TensorRotation {
    sin: Tensor,
    cos: Tensor,
    /// The pairs of a head that are rotated.
    rotated: usize,
    pairs: Pairs,
}

impl TensorRotation {
    pub(super) fn new(rope: &Rope, positions: usize, device: &Device) -> Result<Self> {
        let rotated = rope.inverse_frequencies.len();
        let table = |function: fn(f64) -> f64| {
            let mut numbers = Vec::with_capacity(positions * rotated);
            for position in 0..positions {
                numbers.extend(rope.inverse_frequencies.iter().map(|frequency| {
                    let angle = position as f64 * f64::from(*frequency);
                    (function(angle) * f64::from(rope.magnitude)) as f32
                }));
            }
            Tensor::from_vec(numbers, (positions, rotated), device)
        };
        Ok(Self { sin: table(f64::sin)?, cos: table(f64::cos)?, rotated, pairs: rope.pairs })
    }

    /// Rotates every head of the rows.
    pub(super) fn apply(&self, x: &Tensor, head_dim: usize, positions: &Tensor) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        let heads = x.reshape((rows, width / head_dim, head_dim))?;
        let width_rotated = self.rotated * 2;
        let head = heads.narrow(D::Minus1, 0, width_rotated)?.contiguous()?;
        let sin = self.sin.index_select(positions, 0)?;
        let cos = self.cos.index_select(positions, 0)?;
        let head = match self.pairs {
            Pairs::Halves => rope_thd(&head.unsqueeze(0)?, &cos, &sin)?.squeeze(0)?,
            Pairs::Neighbors => {
                rope_i(&head.unsqueeze(2)?, &cos.unsqueeze(1)?, &sin.unsqueeze(1)?)?.squeeze(2)?
            }
        };
        let heads = if width_rotated == head_dim {
            head
        } else {
            let rest = heads.narrow(D::Minus1, width_rotated, head_dim - width_rotated)?;
            Tensor::cat(&[&head, &rest.contiguous()?], D::Minus1)?
        };
        heads.reshape((rows, width))
    }
}
