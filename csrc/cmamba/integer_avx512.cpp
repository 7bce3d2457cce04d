#include <immintrin.h>

#define SF_INTEGER avx512_integer
#define SF_INTEGER_PRODUCTS
#define SF_INTEGER_REST
#include "cmamba/integer_plain.hpp"
#include "cmamba/integer_scan.hpp"

namespace sparseflow {
namespace {

inline __m512i load(const void* p) { return _mm512_loadu_si512(p); }

// By the intrinsic gcc 12 copies every sum to another register and back.
inline void dot(__m512i& sum, __m512i x, __m512i w) { asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w)); }

template <int R>
void tile(const IntegerLinear& l, int64_t panel, const uint8_t* const* in, int32_t (*out)[64]) {
  const int64_t quads = (l.inputs + 3) / 4;
  const int8_t* w = l.weight.data() + panel * quads * 256;
  const int32_t* const bias = l.bias.data() + panel * 64;
  __m512i sum[R][4];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < 4; ++v) sum[r][v] = load(bias + v * 16);
  for (int64_t i = 0; i < quads; ++i, w += 256) {
    const __m512i w0 = load(w), w1 = load(w + 64), w2 = load(w + 128), w3 = load(w + 192);
    for (int r = 0; r < R; ++r) {
      int32_t four;
      __builtin_memcpy(&four, in[r] + i * 4, 4);
      const __m512i x = _mm512_set1_epi32(four);
      dot(sum[r][0], x, w0), dot(sum[r][1], x, w1), dot(sum[r][2], x, w2), dot(sum[r][3], x, w3);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < 4; ++v) _mm512_storeu_si512(out[r] + v * 16, sum[r][v]);
}

inline void products(const IntegerLinear& l, int64_t panel, const uint8_t* const* in, int64_t rows, int32_t (*out)[64]) {
  switch (rows) {
    case 1: return tile<1>(l, panel, in, out);
    case 2: return tile<2>(l, panel, in, out);
    case 3: return tile<3>(l, panel, in, out);
    case 4: return tile<4>(l, panel, in, out);
    case 5: return tile<5>(l, panel, in, out);
    default: return tile<6>(l, panel, in, out);
  }
}

inline void requant_all(int32_t* v, const int64_t* multiplier, const int64_t* shift, int32_t limit, int64_t n) {
  const __m512i one = _mm512_set1_epi64(1), top = _mm512_set1_epi64(limit), bottom = _mm512_set1_epi64(-int64_t{limit});
  // Arrays are padded to whole panels.
  for (int64_t i = 0; i < n; i += 8) {
    const __m512i s = load(shift + i);
    const __m512i sums = _mm512_cvtepi32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(v + i)));
    const __m512i product = _mm512_mul_epi32(sums, load(multiplier + i));
    const __m512i odd = _mm512_and_si512(_mm512_srav_epi64(product, s), one);
    const __m512i half = _mm512_sub_epi64(_mm512_sllv_epi64(one, _mm512_sub_epi64(s, one)), one);
    const __m512i rounded = _mm512_srav_epi64(_mm512_add_epi64(product, _mm512_add_epi64(half, odd)), s);
    const __m512i kept = _mm512_max_epi64(bottom, _mm512_min_epi64(top, rounded));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(v + i), _mm512_cvtepi64_epi32(kept));
  }
}

}  // namespace
}  // namespace sparseflow

#include "cmamba/integer_kernels.hpp"
