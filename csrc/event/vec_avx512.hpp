#pragma once
#include <immintrin.h>

#include <cstdint>

#define SF_KERNELS avx512_kernels
#define SF_NAME "avx512"

namespace sparseflow {
namespace {

using F = __m512;     // 16 floats
using M = __mmask16;  // 16 truth values
using I = __m512i;    // 16 int32

constexpr int kSlack = 64;  // entries that list functions may write beyond the last one
constexpr int kWidest = 4;  // panels of 64 output channels whose sums fit the registers

inline M lanes(int n) { return static_cast<M>((1u << n) - 1); }

inline F f_zero() { return _mm512_setzero_ps(); }
inline F f_set(float x) { return _mm512_set1_ps(x); }
inline F f_load(const float* p) { return _mm512_loadu_ps(p); }
inline F f_load_n(const float* p, int n) { return _mm512_maskz_loadu_ps(lanes(n), p); }
inline void f_store(float* p, F a) { _mm512_storeu_ps(p, a); }
inline void f_store_n(float* p, F a, int n) { _mm512_mask_storeu_ps(p, lanes(n), a); }
// Around the caches; p is aligned to the vector. A fence follows before another thread reads.
inline void f_stream(float* p, F a) { _mm512_stream_ps(p, a); }
inline void fence() { _mm_sfence(); }
inline F f_add(F a, F b) { return _mm512_add_ps(a, b); }
inline F f_sub(F a, F b) { return _mm512_sub_ps(a, b); }
inline F f_mul(F a, F b) { return _mm512_mul_ps(a, b); }
inline F f_div(F a, F b) { return _mm512_div_ps(a, b); }
inline F f_fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }

inline M m_ne(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ); }
inline M m_ge(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
inline M m_and(M a, M b) { return a & b; }
inline uint32_t m_bits(M m) { return m; }
inline M m_from_bits(uint32_t bits) { return static_cast<M>(bits); }
inline F f_select(M m, F yes, F no) { return _mm512_mask_blend_ps(m, no, yes); }
inline F f_add_masked(F acc, M m, F x) { return _mm512_mask_add_ps(acc, m, acc, x); }

inline I i_zero() { return _mm512_setzero_si512(); }
inline I i_set(int32_t x) { return _mm512_set1_epi32(x); }
inline I i_or_masked(I a, M m, I b) { return _mm512_mask_or_epi32(a, m, a, b); }
inline void i_store(int32_t* p, I a) { _mm512_storeu_si512(p, a); }
inline I i_load(const int32_t* p) { return _mm512_loadu_si512(p); }
inline M i_test(I a, I b) { return _mm512_test_epi32_mask(a, b); }

inline __m512i iota(uint16_t base) {
  alignas(64) static constexpr uint16_t kIota[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                                     16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
  return _mm512_add_epi16(_mm512_load_si512(kIota), _mm512_set1_epi16(static_cast<short>(base)));
}

// Append base + (positions of the set bits); returns how many.
inline int expand_bits(uint16_t* out, uint32_t bits, uint16_t base) {
  _mm512_storeu_si512(out, _mm512_maskz_compress_epi16(bits, iota(base)));
  return _mm_popcnt_u32(bits);
}

// The same for `full` words and then the bits of one more that `rest` keeps.
inline int64_t expand_words(uint16_t* out, const int32_t* word, int64_t full, uint32_t rest, uint16_t base) {
  const __m512i step = _mm512_set1_epi16(32);
  __m512i at = iota(base);
  int64_t n = 0;
  for (int64_t i = 0; i < full; ++i) {
    const auto bits = static_cast<uint32_t>(word[i]);
    _mm512_storeu_si512(out + n, _mm512_maskz_compress_epi16(bits, at));
    at = _mm512_add_epi16(at, step);
    n += _mm_popcnt_u32(bits);
  }
  if (rest) {
    const uint32_t bits = static_cast<uint32_t>(word[full]) & rest;
    _mm512_storeu_si512(out + n, _mm512_maskz_compress_epi16(bits, at));
    n += _mm_popcnt_u32(bits);
  }
  return n;
}

// The same for 16 values of which those in `m` are kept.
inline int expand_values(uint16_t* out, float* values, F x, M m, uint16_t base) {
  _mm512_storeu_ps(values, _mm512_maskz_compress_ps(m, x));
  return expand_bits(out, m, base);
}

// out[i] = in[i] + offset for i < n, in whole vectors.
inline void copy_list(uint16_t* out, const uint16_t* in, int n, uint16_t offset) {
  const __m512i add = _mm512_set1_epi16(static_cast<short>(offset));
  _mm512_storeu_si512(out, _mm512_add_epi16(_mm512_loadu_si512(in), add));
  for (int i = 32; i < n; i += 32) _mm512_storeu_si512(out + i, _mm512_add_epi16(_mm512_loadu_si512(in + i), add));
}
inline void copy_list(uint32_t* out, const uint32_t* in, int n, uint32_t offset) {
  const __m512i add = _mm512_set1_epi32(static_cast<int>(offset));
  for (int i = 0; i < n; i += 16) _mm512_storeu_si512(out + i, _mm512_add_epi32(_mm512_loadu_si512(in + i), add));
}
inline void copy_values(float* out, const float* in, int n) {
  for (int i = 0; i < n; i += 16) f_store(out + i, f_load(in + i));
}

// r[i][j] -> r[j][i]
inline void transpose(F r[16]) {
  F t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

}  // namespace
}  // namespace sparseflow
