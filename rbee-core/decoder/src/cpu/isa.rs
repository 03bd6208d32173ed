//! Sixteen 32-bit floats at a time, with the same bits on every machine.
//!
//! A kernel is written once, over the operations of [`Simd`], and compiled for each instruction set. Every operation is
//! exact or rounded once as IEEE 754 prescribes, and sums over lanes have one fixed tree: so all instruction sets give
//! the same bits. The only exception is the payload of a NaN.
#![allow(unsafe_code)]

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

pub(super) use self::portable::{f16_bits, f16_value};

/// The numbers that are computed at once.
pub(super) const LANES: usize = 16;

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isa {
    /// Whatever the compiler makes of plain Rust: NEON on 64-bit Arm.
    Portable,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, DQ, VL and VNNI, besides those of `Avx2`.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The best one that this machine has.
    pub(super) fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| *Self::available().last().unwrap_or(&Self::Portable))
    }

    /// Those that this machine has; better ones follow.
    pub(super) fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut found = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") && has!("f16c") {
                found.push(Self::Avx2);
                if has!("avx512f")
                    && has!("avx512bw")
                    && has!("avx512dq")
                    && has!("avx512vl")
                    && has!("avx512vnni")
                {
                    found.push(Self::Avx512);
                }
            }
        }
        found
    }

    /// Runs a kernel with this instruction set, which must be one of [`available`](Self::available).
    #[inline]
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Out {
        match self {
            Self::Portable => kernel.run(portable::Portable),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                debug_assert!(Self::available().contains(&self));
                // SAFETY: `available` has checked that the machine has these instructions.
                unsafe { x86::run_avx2(kernel) }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                debug_assert!(Self::available().contains(&self));
                // SAFETY: `available` has checked that the machine has these instructions.
                unsafe { x86::run_avx512(kernel) }
            }
        }
    }
}

/// A computation that is compiled for each instruction set. `run` must be `#[inline(always)]`, as must be what it calls
/// with its `Simd`: only code inside the function that enables the instructions can use them.
pub(super) trait Kernel {
    type Out;
    fn run<S: Simd>(self, s: S) -> Self::Out;
}

/// The operations of an instruction set. A value of the type is the proof that the machine has it.
pub(super) trait Simd: Copy {
    /// Sixteen floats.
    type F: Copy;
    /// The number of registers for sixteen floats.
    const REGISTERS: usize;

    fn splat(self, x: f32) -> Self::F;
    fn load(self, x: &[f32; LANES]) -> Self::F;
    fn store(self, x: Self::F, out: &mut [f32; LANES]);
    /// Sixteen half-precision floats.
    fn load_f16(self, x: &[u16; LANES]) -> Self::F;
    /// Rounds to half precision, to nearest, ties to even.
    fn store_f16(self, x: Self::F, out: &mut [u16; LANES]);
    fn load_i8(self, x: &[i8; LANES]) -> Self::F;

    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a · b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a` if `a > b`, else `b`.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a` if `a < b`, else `b`.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `x` if `a < b`, else `y`.
    fn if_less(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F;
    fn abs(self, x: Self::F) -> Self::F;
    /// `x` with the sign of `sign`; `x` must not be negative.
    fn with_sign(self, x: Self::F, sign: Self::F) -> Self::F;
    /// The nearest integer, ties to even. Values must be small.
    fn round(self, x: Self::F) -> Self::F;
    /// `x · 2^n` for integers `n` from -252 to 252, rounded at most once if `x` is about 1.
    fn scale(self, x: Self::F, n: Self::F) -> Self::F;
    /// Exchanges lanes `2·i` and `2·i + 1`.
    fn swap_pairs(self, x: Self::F) -> Self::F;

    /// The sum of all lanes: lane `i` plus lane `i + 8`, then plus 4, 2 and 1.
    fn sum(self, x: Self::F) -> f32;
    /// The largest lane, by [`max`](Self::max) in the tree of [`sum`](Self::sum).
    fn largest(self, x: Self::F) -> f32;
}

#[cfg(test)]
#[path = "isa_tests.rs"]
mod tests;
