#include <immintrin.h>

#define SF_INTEGER avx2_integer
#define SF_INTEGER_PRODUCTS
#include "cmamba/integer_plain.hpp"

namespace sparseflow {
namespace {

// Sixteen outputs of R rows: four inputs of four outputs a vector, in pairs that are added at the end.
template <int R>
void tile(const int8_t* w, int64_t quads, const int32_t* bias, const uint8_t* const* in, int32_t (*out)[64], int64_t at) {
  __m256i sum[R][4];
  for (auto& row : sum)
    for (__m256i& s : row) s = _mm256_setzero_si256();
  for (int64_t i = 0; i < quads; ++i, w += 256) {
    __m256i x[R];
    for (int r = 0; r < R; ++r) {
      int32_t four;
      __builtin_memcpy(&four, in[r] + i * 4, 4);
      x[r] = _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(four)));
    }
    for (int v = 0; v < 4; ++v) {
      const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w + v * 16)));
      for (int r = 0; r < R; ++r) sum[r][v] = _mm256_add_epi32(sum[r][v], _mm256_madd_epi16(x[r], wide));
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < 4; v += 2) {
      const __m256i both = _mm256_permute4x64_epi64(_mm256_hadd_epi32(sum[r][v], sum[r][v + 1]), 0xd8);
      const __m256i start = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bias + v * 4));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out[r] + at + v * 4), _mm256_add_epi32(both, start));
    }
}

inline void products(const IntegerLinear& l, int64_t panel, const uint8_t* const* in, int64_t rows, int32_t (*out)[64]) {
  const int64_t quads = (l.inputs + 3) / 4;
  for (int64_t at = 0; at < 64; at += 16) {
    const int8_t* const w = l.weight.data() + panel * quads * 256 + at * 4;
    const int32_t* const bias = l.bias.data() + panel * 64 + at;
    int64_t r = 0;
    for (; r + 2 <= rows; r += 2) tile<2>(w, quads, bias, in + r, out + r, at);
    if (r < rows) tile<1>(w, quads, bias, in + r, out + r, at);
  }
}

}  // namespace
}  // namespace sparseflow

#include "cmamba/integer_kernels.hpp"
