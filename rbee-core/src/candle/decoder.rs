//! A decoder-only transformer, described by data and computed by a backend.
//!
//! A family of models is an [`Architecture`](architecture::Architecture) value that is made from `config.json` or from
//! the metadata of a GGUF file. The computation is written once, over the operations of a [`Backend`](backend::Backend):
//! the kernels of this crate on the CPU, candle's tensors on GPUs.

pub(super) mod architecture;
mod assemble;
pub(super) mod backend;
mod check;
pub(super) mod checkpoint;
pub(super) mod families;
mod feed_forward;
pub(super) mod forward;
mod map;
mod math;
pub(super) mod matrix;
pub(super) mod model;
pub(super) mod plan;
#[cfg(test)]
mod reference_tests;
mod rope;
#[cfg(test)]
mod test_files;
pub(super) mod weights;
pub(super) mod weights_by_role;
