//! Weight matrices as tensors.

use std::{borrow::Cow, sync::Arc};

use candle_core::{
    DType, Device, Module, Result, Tensor,
    quantized::{GgmlDType, QMatMul, QStorage, QTensor},
};

use crate::matrix::{StoredMatrix, WeightType};

/// A weight matrix on a device.
#[derive(Debug)]
pub enum TensorMatrix {
    /// In its stored type; on the processor in 32 bits.
    Dense(Tensor),
    Quantized(QMatMul),
}

impl TensorMatrix {
    pub(super) fn new(stored: &StoredMatrix, device: &Device) -> Result<Self> {
        let shape = (stored.rows, stored.cols);
        Ok(match tensor_type(stored.kind) {
            TensorType::Dense(dtype) => {
                let tensor =
                    Tensor::from_raw_buffer(&stored.bytes, dtype, &[shape.0, shape.1], device)?;
                Self::Dense(if device.is_cpu() { tensor.to_dtype(DType::F32)? } else { tensor })
            }
            TensorType::Quantized(dtype) => {
                let storage = quantized(&stored.bytes, device, dtype)?;
                let tensor = Arc::new(QTensor::new(storage, shape)?);
                // Not by `QMatMul::from_arc`, which obeys an environment variable.
                Self::Quantized(QMatMul::QTensor(tensor))
            }
        })
    }

    /// The rows with these indexes, in 32 bits.
    pub(super) fn rows(&self, indexes: &Tensor) -> Result<Tensor> {
        match self {
            Self::Dense(tensor) => tensor.index_select(indexes, 0)?.to_dtype(DType::F32),
            Self::Quantized(matrix) => matrix.embedding(indexes),
        }
    }

    /// The products of these rows of 32-bit floats with every row of the matrix.
    pub(super) fn multiply(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Dense(tensor) => {
                x.to_dtype(tensor.dtype())?.matmul(&tensor.t()?)?.to_dtype(DType::F32)
            }
            Self::Quantized(matrix) => matrix.forward(x),
        }
    }
}

enum TensorType {
    Dense(DType),
    Quantized(GgmlDType),
}

fn tensor_type(kind: WeightType) -> TensorType {
    match kind {
        WeightType::F32 => TensorType::Dense(DType::F32),
        WeightType::F16 => TensorType::Dense(DType::F16),
        WeightType::Bf16 => TensorType::Dense(DType::BF16),
        WeightType::Q4_0 => TensorType::Quantized(GgmlDType::Q4_0),
        WeightType::Q4_1 => TensorType::Quantized(GgmlDType::Q4_1),
        WeightType::Q5_0 => TensorType::Quantized(GgmlDType::Q5_0),
        WeightType::Q5_1 => TensorType::Quantized(GgmlDType::Q5_1),
        WeightType::Q8_0 => TensorType::Quantized(GgmlDType::Q8_0),
        WeightType::Q2K => TensorType::Quantized(GgmlDType::Q2K),
        WeightType::Q3K => TensorType::Quantized(GgmlDType::Q3K),
        WeightType::Q4K => TensorType::Quantized(GgmlDType::Q4K),
        WeightType::Q5K => TensorType::Quantized(GgmlDType::Q5K),
        WeightType::Q6K => TensorType::Quantized(GgmlDType::Q6K),
    }
}

/// Copies quantized blocks to the device. candle panics if they are not aligned in memory, and files do not promise that.
fn quantized(bytes: &[u8], device: &Device, dtype: GgmlDType) -> Result<QStorage> {
    const ALIGNMENT: usize = 16;
    if bytes.as_ptr().align_offset(ALIGNMENT) == 0 {
        return QStorage::from_data(Cow::Borrowed(bytes), device, dtype);
    }
    let mut copy = vec![0; bytes.len() + ALIGNMENT];
    let start = copy.as_ptr().align_offset(ALIGNMENT);
    let target = &mut copy[start..start + bytes.len()];
    target.copy_from_slice(bytes);
    QStorage::from_data(Cow::Borrowed(target), device, dtype)
}
