#include <immintrin.h>

#include "triseg/lookup.hpp"
#include "triseg/spans.hpp"

namespace sparseflow {

namespace {

// A table of 256 bytes in four registers, read at 64 places by two permutations.
struct Table {
  __m512i part[4];

  explicit Table(const uint8_t* table) {
    for (int i = 0; i < 4; ++i) part[i] = _mm512_loadu_si512(table + 64 * i);
  }
  __m512i operator()(__m512i at) const {
    const __m512i low = _mm512_permutex2var_epi8(part[0], at, part[1]);
    const __m512i high = _mm512_permutex2var_epi8(part[2], at, part[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(at), low, high);
  }
};

int64_t byte_span(const uint8_t* table, const uint8_t* codes, uint8_t* out, int64_t n) {
  const Table f(table);
  for (int64_t i = 0; i < n; i += 64) {
    const __mmask64 some = n - i >= 64 ? ~__mmask64{0} : (__mmask64{1} << (n - i)) - 1;
    _mm512_mask_storeu_epi8(out + i, some, f(_mm512_maskz_loadu_epi8(some, codes + i)));
  }
  return 0;
}

int64_t float_span(const uint8_t* table, const float* codes, float* out, int64_t n) {
  const Table f(table);
  const __m512i top = _mm512_set1_epi32(255);
  int64_t other = 0;
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 some = n - i >= 16 ? static_cast<__mmask16>(0xffff) : static_cast<__mmask16>((1u << (n - i)) - 1);
    const __m512 x = _mm512_maskz_loadu_ps(some, codes + i);
    const __m512i q = _mm512_cvttps_epi32(x);  // what does not fit becomes the least integer, above 255 as unsigned
    const unsigned wrong = static_cast<unsigned>(_mm512_cmp_ps_mask(_mm512_cvtepi32_ps(q), x, _CMP_NEQ_UQ)) |
                           static_cast<unsigned>(_mm512_cmpgt_epu32_mask(q, top));
    other += _mm_popcnt_u32(wrong);
    const __m512i found = f(_mm512_castsi128_si512(_mm512_cvtusepi32_epi8(q)));
    const __m512i wide = _mm512_cvtepu8_epi32(_mm512_castsi512_si128(found));
    _mm512_mask_storeu_ps(out + i, some, _mm512_cvtepi32_ps(wide));
  }
  return other;
}

void bytes(const LookupArgs& a, const uint8_t* codes, uint8_t* out, int threads) {
  each_span(a, codes, out, threads, byte_span);
}

int64_t floats(const LookupArgs& a, const float* codes, float* out, int threads) {
  return each_span(a, codes, out, threads, float_span);
}

}  // namespace

const LookupKernels avx512_lookup{bytes, floats};

}  // namespace sparseflow
