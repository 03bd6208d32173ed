//! AVX2 and AVX-512.

use std::arch::x86_64::*;

use super::{Kernel, LANES, Simd};

/// AVX2, FMA and F16C: two registers for sixteen floats. Only [`run_avx2`] makes one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2(());

/// AVX-512F. Only [`run_avx512`] makes one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

/// # Safety
/// The machine must have the instructions.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Avx2(()))
}

/// # Safety
/// The machine must have the instructions.
#[target_feature(enable = "avx512f,avx2,fma,f16c")]
pub(super) unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Avx512(()))
}

/// Calls intrinsics. The caller has an `Avx2` or `Avx512`, so the machine has the instructions.
macro_rules! with {
    ($e:expr) => {
        // SAFETY: `self` exists only if the machine has the instructions, and all pointers are to arrays of the size
        // that is read or written; none of the loads and stores needs an alignment.
        unsafe { $e }
    };
}

#[inline(always)]
fn pair(x: impl Fn(usize) -> __m256) -> [__m256; 2] {
    [x(0), x(1)]
}

impl Simd for Avx2 {
    type F = [__m256; 2];
    const REGISTERS: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        with!([_mm256_set1_ps(x); 2])
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        with!([_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))])
    }
    #[inline(always)]
    fn store(self, x: Self::F, out: &mut [f32; LANES]) {
        with!({
            _mm256_storeu_ps(out.as_mut_ptr(), x[0]);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), x[1]);
        })
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> Self::F {
        with!({
            let low = _mm_loadu_si128(x.as_ptr().cast());
            let high = _mm_loadu_si128(x.as_ptr().add(8).cast());
            [_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)]
        })
    }
    #[inline(always)]
    fn store_f16(self, x: Self::F, out: &mut [u16; LANES]) {
        with!({
            let low = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x[0]);
            let high = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x[1]);
            _mm_storeu_si128(out.as_mut_ptr().cast(), low);
            _mm_storeu_si128(out.as_mut_ptr().add(8).cast(), high);
        })
    }
    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> Self::F {
        with!({
            let low = _mm_loadl_epi64(x.as_ptr().cast());
            let high = _mm_loadl_epi64(x.as_ptr().add(8).cast());
            [
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(low)),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(high)),
            ]
        })
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        pair(|i| with!(_mm256_add_ps(a[i], b[i])))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        pair(|i| with!(_mm256_sub_ps(a[i], b[i])))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        pair(|i| with!(_mm256_mul_ps(a[i], b[i])))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        pair(|i| with!(_mm256_div_ps(a[i], b[i])))
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        pair(|i| with!(_mm256_fmadd_ps(a[i], b[i], c[i])))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        pair(|i| with!(_mm256_max_ps(a[i], b[i])))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        pair(|i| with!(_mm256_min_ps(a[i], b[i])))
    }
    #[inline(always)]
    fn if_less(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
        pair(|i| with!(_mm256_blendv_ps(y[i], x[i], _mm256_cmp_ps::<_CMP_LT_OQ>(a[i], b[i]))))
    }
    #[inline(always)]
    fn abs(self, x: Self::F) -> Self::F {
        pair(|i| with!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), x[i])))
    }
    #[inline(always)]
    fn with_sign(self, x: Self::F, sign: Self::F) -> Self::F {
        pair(|i| with!(_mm256_or_ps(x[i], _mm256_and_ps(_mm256_set1_ps(-0.0), sign[i]))))
    }
    #[inline(always)]
    fn round(self, x: Self::F) -> Self::F {
        pair(|i| with!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x[i])))
    }
    #[inline(always)]
    fn scale(self, x: Self::F, n: Self::F) -> Self::F {
        pair(|i| {
            with!({
                let n = _mm256_cvtps_epi32(n[i]);
                let half = _mm256_srai_epi32::<1>(n);
                let power = |n| {
                    let biased = _mm256_add_epi32(n, _mm256_set1_epi32(127));
                    _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
                };
                let once = _mm256_mul_ps(x[i], power(half));
                _mm256_mul_ps(once, power(_mm256_sub_epi32(n, half)))
            })
        })
    }
    #[inline(always)]
    fn swap_pairs(self, x: Self::F) -> Self::F {
        pair(|i| with!(_mm256_permute_ps::<0b1011_0001>(x[i])))
    }
    #[inline(always)]
    fn sum(self, x: Self::F) -> f32 {
        with!({
            let x = _mm256_add_ps(x[0], x[1]);
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        })
    }
    #[inline(always)]
    fn largest(self, x: Self::F) -> f32 {
        with!({
            let x = _mm256_max_ps(x[0], x[1]);
            let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
        })
    }
}

impl Avx512 {
    /// The lower and the upper half.
    #[inline(always)]
    fn halves(self, x: __m512) -> [__m256; 2] {
        with!({
            let upper = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(x));
            [_mm512_castps512_ps256(x), _mm256_castpd_ps(upper)]
        })
    }
}

impl Simd for Avx512 {
    type F = __m512;
    const REGISTERS: usize = 32;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        with!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        with!(_mm512_loadu_ps(x.as_ptr()))
    }
    #[inline(always)]
    fn store(self, x: Self::F, out: &mut [f32; LANES]) {
        with!(_mm512_storeu_ps(out.as_mut_ptr(), x))
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> Self::F {
        with!(_mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn store_f16(self, x: Self::F, out: &mut [u16; LANES]) {
        with!({
            let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x);
            _mm256_storeu_si256(out.as_mut_ptr().cast(), halves);
        })
    }
    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> Self::F {
        with!(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().cast()))))
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        with!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        with!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        with!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        with!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        with!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        with!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        with!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn if_less(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
        with!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x))
    }
    #[inline(always)]
    fn abs(self, x: Self::F) -> Self::F {
        with!(_mm512_abs_ps(x))
    }
    #[inline(always)]
    fn with_sign(self, x: Self::F, sign: Self::F) -> Self::F {
        with!({
            let mask = _mm512_set1_epi32(i32::MIN);
            let sign = _mm512_and_si512(mask, _mm512_castps_si512(sign));
            _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(x), sign))
        })
    }
    #[inline(always)]
    fn round(self, x: Self::F) -> Self::F {
        with!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x))
    }
    #[inline(always)]
    fn scale(self, x: Self::F, n: Self::F) -> Self::F {
        with!({
            let n = _mm512_cvtps_epi32(n);
            let half = _mm512_srai_epi32::<1>(n);
            let power = |n| {
                let biased = _mm512_add_epi32(n, _mm512_set1_epi32(127));
                _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
            };
            let once = _mm512_mul_ps(x, power(half));
            _mm512_mul_ps(once, power(_mm512_sub_epi32(n, half)))
        })
    }
    #[inline(always)]
    fn swap_pairs(self, x: Self::F) -> Self::F {
        with!(_mm512_permute_ps::<0b1011_0001>(x))
    }
    #[inline(always)]
    fn sum(self, x: Self::F) -> f32 {
        Avx2(()).sum(self.halves(x))
    }
    #[inline(always)]
    fn largest(self, x: Self::F) -> f32 {
        Avx2(()).largest(self.halves(x))
    }
}
