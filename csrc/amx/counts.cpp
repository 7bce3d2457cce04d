#include <immintrin.h>

#include <cstring>

#include "event/vec_avx512.hpp"
//
#include "event/scratch.hpp"
//
#include "amx/amx.hpp"

namespace sparseflow {
namespace {

struct Seen {
  int64_t other = 0;
  __m512i largest = _mm512_setzero_si512();

  // Sixteen floats as integers; those that are none of 0..255 become 0 and are counted.
  __m512i take(F x, M some) {
    const __m512i q = _mm512_cvttps_epi32(x);
    const M good = _mm512_cmp_ps_mask(_mm512_cvtepi32_ps(q), x, _CMP_EQ_OQ) &
                   _mm512_cmple_epu32_mask(q, _mm512_set1_epi32(255)) & some;
    other += _mm_popcnt_u32(static_cast<uint32_t>(some & ~good));
    const __m512i kept = _mm512_maskz_mov_epi32(good, q);
    largest = _mm512_max_epi32(largest, kept);
    return kept;
  }
};

}  // namespace

ByteCount pack_counts(const float* x, uint8_t* counts, int64_t m, int64_t c, int64_t h, int64_t w, bool channels_last,
                      int threads) {
  const int64_t hw = h * w, row = words_of(c) * 32;
  int64_t other = 0, largest = 0;
#pragma omp parallel num_threads(threads) reduction(+ : other) reduction(max : largest)
  {
    Seen seen;
    if (channels_last || hw == 1) {
#pragma omp for schedule(static)
      for (int64_t p = 0; p < m * hw; ++p)
        for (int64_t i = 0; i < row; i += 16) {
          const M some = lanes(static_cast<int>(most(0, least(16, c - i))));
          const __m512i q = seen.take(_mm512_maskz_loadu_ps(some, x + p * c + i), some);
          _mm_storeu_si128(reinterpret_cast<__m128i*>(counts + p * row + i), _mm512_cvtepi32_epi8(q));
        }
    } else {
      const int64_t parts = (hw + 15) / 16;
      const __m512i at = _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                            _mm512_set1_epi32(static_cast<int>(row)));
#pragma omp for schedule(static)
      for (int64_t item = 0; item < m * parts; ++item) {
        const int64_t image = item / parts, p = item % parts * 16;
        const M some = lanes(static_cast<int>(least(16, hw - p)));
        const float* const from = x + image * c * hw + p;
        uint8_t* const to = counts + (image * hw + p) * row;
        for (int64_t i = 0; i < row; i += 4) {
          __m512i four = _mm512_setzero_si512();
          for (int64_t k = 0; k < 4 && i + k < c; ++k) {
            const __m512i q = seen.take(_mm512_maskz_loadu_ps(some, from + (i + k) * hw), some);
            four = _mm512_or_si512(four, _mm512_sllv_epi32(q, _mm512_set1_epi32(static_cast<int>(8 * k))));
          }
          _mm512_mask_i32scatter_epi32(to + i, some, at, four, 1);
        }
      }
    }
    other += seen.other;
    largest = most(largest, _mm512_reduce_max_epi32(seen.largest));
  }
  return {other, largest};
}

}  // namespace sparseflow
