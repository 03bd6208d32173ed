//! The computation of a decoder on the CPU, with kernels of this crate.

mod avx2;
mod avx512;
mod blocks;
mod columns;
mod isa;
mod job;
mod linear;
#[cfg(test)]
mod linear_tests;
mod portable;
mod quantize;
mod tile;
