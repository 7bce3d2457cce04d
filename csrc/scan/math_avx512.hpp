#pragma once
#include "event/vec_avx512.hpp"

#define SF_SCAN avx512_scan

namespace sparseflow {
namespace {

// The second operand where either is NaN, as in all three versions.
inline F f_max(F a, F b) { return _mm512_max_ps(a, b); }
inline F f_min(F a, F b) { return _mm512_min_ps(a, b); }
inline F f_round(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
// a 2^n for whole n of -160 to 160.
inline F f_scale(F a, F n) { return _mm512_scalef_ps(a, n); }
inline float f_sum(F a) { return _mm512_reduce_add_ps(a); }

}  // namespace
}  // namespace sparseflow
