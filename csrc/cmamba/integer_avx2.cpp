#include <immintrin.h>

#define SF_INTEGER avx2_integer
#define SF_INTEGER_PRODUCTS
#define SF_INTEGER_REST
#include "cmamba/integer_plain.hpp"
#include "cmamba/integer_scan.hpp"

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
      x[r] = _mm256_cvtepu8_epi16(_mm_set1_epi32(four));
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
    for (; r + 3 <= rows; r += 3) tile<3>(w, quads, bias, in + r, out + r, at);
    if (r + 2 == rows) tile<2>(w, quads, bias, in + r, out + r, at);
    if (r + 1 == rows) tile<1>(w, quads, bias, in + r, out + r, at);
  }
}

// As Requant64, with a factor and a shift of each lane; arrays are padded to whole panels.
inline void requant_all(int32_t* v, const int64_t* multiplier, const int64_t* shift, int32_t limit, int64_t n) {
  const __m256i one = _mm256_set1_epi64x(1), sign = _mm256_set1_epi64x(INT64_MIN);
  const __m256i top = _mm256_set1_epi64x(limit), bottom = _mm256_set1_epi64x(-int64_t{limit});
  const __m256i evens = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
  for (int64_t i = 0; i < n; i += 4) {
    const __m256i s = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(shift + i));
    const __m256i by = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(multiplier + i));
    const __m256i sums = _mm256_cvtepi32_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(v + i)));
    const __m256i raised = _mm256_xor_si256(_mm256_mul_epi32(sums, by), sign);
    const __m256i odd = _mm256_and_si256(_mm256_srlv_epi64(raised, s), one);
    const __m256i half = _mm256_sub_epi64(_mm256_sllv_epi64(one, _mm256_sub_epi64(s, one)), one);
    const __m256i sum = _mm256_add_epi64(raised, _mm256_add_epi64(half, odd));
    const __m256i found = _mm256_sub_epi64(_mm256_srlv_epi64(sum, s), _mm256_srlv_epi64(sign, s));
    const __m256i low = _mm256_blendv_epi8(found, top, _mm256_cmpgt_epi64(found, top));
    const __m256i kept = _mm256_blendv_epi8(low, bottom, _mm256_cmpgt_epi64(bottom, low));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(v + i), _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(kept, evens)));
  }
}

}  // namespace
}  // namespace sparseflow

#include "cmamba/integer_kernels.hpp"
