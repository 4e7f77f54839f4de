//! The register types of x86-64: AVX2 with FMA and F16C, and AVX-512.
#![allow(unsafe_op_in_unsafe_fn)] // each function is a few intrinsics under the one promise of `Simd`

use std::arch::x86_64::*;

use half::f16;

use super::simd::{Load, Simd, entry_points};
use super::{Kernels, codes, select};

/// The AVX2 kernels, where the processor has AVX2, FMA and F16C.
pub(super) fn avx2() -> Option<&'static Kernels> {
    let detected = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    detected.then_some(&AVX2)
}

/// The AVX-512 kernels, where the processor has AVX-512 F, BW and VL; with VNNI for codes where it has that.
pub(super) fn avx512() -> Option<&'static Kernels> {
    let detected = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl");
    let kernels = if is_x86_feature_detected!("avx512vnni") { &AVX512_VNNI } else { &AVX512 };
    detected.then_some(kernels)
}

static AVX2: Kernels = with_avx2::kernels(codes::AVX2, select::AVX2);
static AVX512: Kernels = with_avx512::kernels(codes::AVX512, select::AVX512);
static AVX512_VNNI: Kernels = with_avx512::kernels(codes::AVX512_VNNI, select::AVX512);

entry_points!(with_avx2, Isa::Avx2, Avx2, "avx2,fma,f16c");
entry_points!(with_avx512, Isa::Avx512, Avx512, "avx512f,avx512bw,avx512vl");

#[derive(Clone, Copy)]
struct Avx2(__m256);

impl Simd for Avx2 {
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Avx2(_mm256_setzero_ps())
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Avx2(_mm256_add_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Avx2(_mm256_sub_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, sum: Self) -> Self {
        Avx2(_mm256_fmadd_ps(self.0, factor.0, sum.0))
    }

    #[inline(always)]
    unsafe fn sums(four: [Self; 4]) -> [f32; 4] {
        let pairs =
            _mm256_hadd_ps(_mm256_hadd_ps(four[0].0, four[1].0), _mm256_hadd_ps(four[2].0, four[3].0));
        std::mem::transmute(_mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps::<1>(pairs)))
    }
}

impl Load<f32> for Avx2 {
    #[inline(always)]
    unsafe fn load(source: *const f32) -> Self {
        Avx2(_mm256_loadu_ps(source))
    }

    #[inline(always)]
    unsafe fn load_head(source: *const f32, count: usize) -> Self {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes);
        Avx2(_mm256_maskload_ps(source, mask))
    }
}

impl Load<f16> for Avx2 {
    #[inline(always)]
    unsafe fn load(source: *const f16) -> Self {
        Avx2(_mm256_cvtph_ps(_mm_loadu_si128(source.cast())))
    }

    #[inline(always)]
    unsafe fn load_head(source: *const f16, count: usize) -> Self {
        // AVX2 masks loads by 32 bits: whole pairs, then the last component over what is already there.
        let pairs = _mm_cmpgt_epi32(_mm_set1_epi32((count / 2) as i32), _mm_setr_epi32(0, 1, 2, 3));
        let pairs = _mm_maskload_epi32(source.cast(), pairs);
        let last = (*source.add(count - 1)).to_bits() as i16;
        let at = _mm_cmpeq_epi16(_mm_set1_epi16(count as i16 - 1), _mm_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7));
        Avx2(_mm256_cvtph_ps(_mm_or_si128(pairs, _mm_and_si128(_mm_set1_epi16(last), at))))
    }
}

#[derive(Clone, Copy)]
struct Avx512(__m512);

impl Simd for Avx512 {
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Avx512(_mm512_setzero_ps())
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Avx512(_mm512_add_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Avx512(_mm512_sub_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, sum: Self) -> Self {
        Avx512(_mm512_fmadd_ps(self.0, factor.0, sum.0))
    }

    #[inline(always)]
    unsafe fn sums(four: [Self; 4]) -> [f32; 4] {
        let [Avx512(a), Avx512(b), Avx512(c), Avx512(d)] = four;
        // Halves of 256 bits, then quarters, then within each quarter: a quarter for each of the four.
        let ab = _mm512_add_ps(
            _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b),
            _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b),
        );
        let cd = _mm512_add_ps(
            _mm512_shuffle_f32x4::<0b01_00_01_00>(c, d),
            _mm512_shuffle_f32x4::<0b11_10_11_10>(c, d),
        );
        let quarters = _mm512_add_ps(
            _mm512_shuffle_f32x4::<0b10_00_10_00>(ab, cd),
            _mm512_shuffle_f32x4::<0b11_01_11_01>(ab, cd),
        );
        let pairs = _mm512_add_ps(quarters, _mm512_permute_ps::<0b01_00_11_10>(quarters));
        let sums = _mm512_add_ps(pairs, _mm512_permute_ps::<0b10_11_00_01>(pairs));
        let firsts = _mm512_maskz_compress_ps(0b0001_0001_0001_0001, sums);
        std::mem::transmute(_mm512_castps512_ps128(firsts))
    }
}

impl Load<f32> for Avx512 {
    #[inline(always)]
    unsafe fn load(source: *const f32) -> Self {
        Avx512(_mm512_loadu_ps(source))
    }

    #[inline(always)]
    unsafe fn load_head(source: *const f32, count: usize) -> Self {
        Avx512(_mm512_maskz_loadu_ps((1 << count) - 1, source))
    }
}

impl Load<f16> for Avx512 {
    #[inline(always)]
    unsafe fn load(source: *const f16) -> Self {
        Avx512(_mm512_cvtph_ps(_mm256_loadu_si256(source.cast())))
    }

    #[inline(always)]
    unsafe fn load_head(source: *const f16, count: usize) -> Self {
        Avx512(_mm512_cvtph_ps(_mm256_maskz_loadu_epi16((1 << count) - 1, source.cast())))
    }
}
