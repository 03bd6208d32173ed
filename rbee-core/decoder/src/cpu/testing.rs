//! What the tests of the kernels share.

use super::isa::{Isa, Kernel, LANES, Simd};
use crate::rng::Rng;

/// A number between -1 and 1.
pub(super) fn number(rng: &mut Rng) -> f32 {
    (rng.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// Numbers between -`size` and `size`.
pub(super) fn numbers(rng: &mut Rng, count: usize, size: f32) -> Vec<f32> {
    (0..count).map(|_| number(rng) * size).collect()
}

/// The bits of numbers; all NaNs count as equal.
pub(super) fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| if x.is_nan() { u32::MAX } else { x.to_bits() }).collect()
}

/// A function of up to three numbers per lane.
pub(super) trait Function {
    fn call<S: Simd>(&self, s: S, x: [S::F; 3]) -> S::F;
}

/// Computes a function of each number, and the two that follow it.
pub(super) fn apply(isa: Isa, function: &impl Function, x: &[f32]) -> Vec<f32> {
    isa.run(Apply { function, x })
}

struct Apply<'a, F> {
    function: &'a F,
    x: &'a [f32],
}

impl<F: Function> Kernel for Apply<'_, F> {
    type Out = Vec<f32>;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Vec<f32> {
        let cycle: Vec<f32> = self.x.iter().cycle().take(self.x.len() + 32).copied().collect();
        let mut out = Vec::new();
        for start in (0..self.x.len()).step_by(LANES) {
            let at = |offset: usize| {
                let mut lanes = [0.0; LANES];
                lanes.copy_from_slice(&cycle[start + offset..][..LANES]);
                s.load(&lanes)
            };
            let mut lanes = [0.0; LANES];
            s.store(self.function.call(s, [at(0), at(1), at(2)]), &mut lanes);
            out.extend(lanes);
        }
        out.truncate(self.x.len());
        out
    }
}
