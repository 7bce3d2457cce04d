#pragma once
#include "event/vec_avx2.hpp"

#define SF_SCAN avx2_scan

namespace sparseflow {
namespace {

// The second operand where either is NaN, as in all three versions.
inline F f_max(F a, F b) { return {_mm256_max_ps(a.a, b.a), _mm256_max_ps(a.b, b.b)}; }
inline F f_min(F a, F b) { return {_mm256_min_ps(a.a, b.a), _mm256_min_ps(a.b, b.b)}; }
inline F f_round(F a) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(a.a, kNearest), _mm256_round_ps(a.b, kNearest)};
}
inline __m256 power(__m256i n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
inline __m256 scale(__m256 a, __m256 n) {
  const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
  return _mm256_mul_ps(_mm256_mul_ps(a, power(half)), power(_mm256_sub_epi32(whole, half)));
}
// a 2^n for whole n of -160 to 160, in two steps because 2^160 is no float.
inline F f_scale(F a, F n) { return {scale(a.a, n.a), scale(a.b, n.b)}; }
inline float f_sum(F a) {
  const __m256 both = _mm256_add_ps(a.a, a.b);
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

}  // namespace
}  // namespace sparseflow
