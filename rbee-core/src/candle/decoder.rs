//! Decoder-only transformers: what their configuration means, and their weight files. The crate `rbee-decoder` computes
//! them.

pub(super) mod assemble;
pub(super) mod checkpoint;
pub(super) mod families;
mod map;
pub(super) mod plan;
#[cfg(test)]
pub(super) mod reference_tests;
mod rope;
#[cfg(test)]
pub(super) mod test_files;
pub(super) mod weights;
