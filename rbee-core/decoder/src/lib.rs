//! A decoder-only transformer, described by data and computed by a backend.
//!
//! A model is an [`Architecture`](architecture::Architecture) and [its weights](weights::DecoderWeights). The computation,
//! [`Decoder`](forward::Decoder), is written once, over the operations of a [`Backend`](backend::Backend): the kernels of
//! this crate on the CPU ([`Cpu`](cpu::Cpu)), candle's tensors on GPUs ([`Tensors`](tensors::Tensors)).
//!
//! It is a crate of its own so that it can be optimized when the rest of an application is not: without optimization
//! these kernels are many times slower. If you build rbee in a development profile, add
//! `rbee-decoder.opt-level = 3` to `[profile.dev.package]`.

pub mod architecture;
pub mod backend;
mod check;
pub mod cpu;
mod feed_forward;
pub mod forward;
mod math;
pub mod matrix;
pub mod model;
pub mod part;
#[cfg(test)]
mod rng;
pub mod tensors;
pub mod weights;
