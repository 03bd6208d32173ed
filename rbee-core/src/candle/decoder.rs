//! A decoder-only transformer, described by data and computed by a backend.
//!
//! A family of models is an [`Architecture`](architecture::Architecture) value that is made from `config.json` or from
//! the metadata of a GGUF file. The computation is written once, over the operations of a [`Backend`](backend::Backend):
//! the kernels of this crate on the CPU, candle's tensors on GPUs.

pub(super) mod architecture;
pub(super) mod backend;
pub(super) mod checkpoint;
pub(super) mod families;
mod map;
pub(super) mod matrix;
pub(super) mod model;
pub(super) mod plan;
mod rope;
#[cfg(test)]
mod test_files;
pub(super) mod weights;
