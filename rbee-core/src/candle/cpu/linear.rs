//! Products of rows with a stored matrix.

use std::borrow::Cow;

use candle_core::{
    Device,
    quantized::{GgmlDType, QStorage, QTensor},
};

use crate::candle::decoder::matrix::{StoredMatrix, WeightType};

/// A product of the same rows with a matrix.
#[derive(Debug)]
pub(in crate::candle) struct LinearProduct<'a> {
    pub(in crate::candle) matrix: &'a StoredMatrix,
    pub(in crate::candle) bias: Option<&'a [f32]>,
    /// `rows(x) · matrix.rows` numbers.
    pub(in crate::candle) out: &'a mut [f32],
}

/// Multiplies rows of `width` numbers with matrices of as many columns.
pub(in crate::candle) fn linear(x: &[f32], width: usize, products: &mut [LinearProduct<'_>]) {
    for LinearProduct { matrix, bias, out } in products {
        let mut weights = vec![0.0; width];
        for output in 0..matrix.rows {
            decode_row(matrix, output, 1.0, &mut weights);
            let bias = bias.map_or(0.0, |bias| bias[output]);
            for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(matrix.rows)) {
                let product =
                    x.iter().zip(&weights).fold(0.0, |sum: f32, (x, w)| x.mul_add(*w, sum));
                out[output] = product + bias;
            }
        }
    }
}

/// One row of a matrix as floats, times `scale`.
pub(in crate::candle) fn decode_row(
    matrix: &StoredMatrix,
    row: usize,
    scale: f32,
    out: &mut [f32],
) {
    let size = matrix.kind.bytes(matrix.cols);
    let bytes = &matrix.bytes[row * size..(row + 1) * size];
    let kind = match matrix.kind {
        WeightType::F32 => GgmlDType::F32,
        WeightType::F16 => GgmlDType::F16,
        WeightType::Bf16 => GgmlDType::BF16,
        WeightType::Q4_0 => GgmlDType::Q4_0,
        WeightType::Q4_1 => GgmlDType::Q4_1,
        WeightType::Q5_0 => GgmlDType::Q5_0,
        WeightType::Q5_1 => GgmlDType::Q5_1,
        WeightType::Q8_0 => GgmlDType::Q8_0,
        WeightType::Q2K => GgmlDType::Q2K,
        WeightType::Q3K => GgmlDType::Q3K,
        WeightType::Q4K => GgmlDType::Q4K,
        WeightType::Q5K => GgmlDType::Q5K,
        WeightType::Q6K => GgmlDType::Q6K,
    };
    let decode = || -> candle_core::Result<Vec<f32>> {
        let storage = QStorage::from_data(Cow::Owned(bytes.to_vec()), &Device::Cpu, kind)?;
        QTensor::new(storage, (1, matrix.cols))?.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1()
    };
    match decode() {
        Ok(values) => out.iter_mut().zip(values).for_each(|(out, value)| *out = value * scale),
        Err(_) => out.fill(f32::NAN),
    }
}
