#pragma once
#include <immintrin.h>

#include <cstdint>

#define SF_KERNELS avx2_kernels
#define SF_NAME "avx2"

namespace sparseflow {
namespace {

struct F {
  __m256 a, b;
};
struct M {
  __m256 a, b;  // all ones or all zeros per lane
};
struct I {
  __m256i a, b;
};

constexpr int kSlack = 32;
constexpr int kWidest = 1;  // panels of 64 output channels whose sums fit the registers

inline __m256i lanes(int n) {
  alignas(32) static constexpr int32_t kIota[8] = {0, 1, 2, 3, 4, 5, 6, 7};
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_load_si256(reinterpret_cast<const __m256i*>(kIota)));
}

inline F f_zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline F f_set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline F f_load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline F f_load_n(const float* p, int n) {
  return {_mm256_maskload_ps(p, lanes(n)), _mm256_maskload_ps(p + 8, lanes(n - 8))};
}
inline void f_store(float* p, F x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
inline void f_store_n(float* p, F x, int n) {
  _mm256_maskstore_ps(p, lanes(n), x.a);
  _mm256_maskstore_ps(p + 8, lanes(n - 8), x.b);
}
// Around the caches; p is aligned to the vector. A fence follows before another thread reads.
inline void f_stream(float* p, F x) {
  _mm256_stream_ps(p, x.a);
  _mm256_stream_ps(p + 8, x.b);
}
inline void fence() { _mm_sfence(); }
inline F f_add(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline F f_sub(F x, F y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline F f_mul(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline F f_div(F x, F y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline F f_fma(F x, F y, F z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }

inline M m_ne(F x, F y) { return {_mm256_cmp_ps(x.a, y.a, _CMP_NEQ_UQ), _mm256_cmp_ps(x.b, y.b, _CMP_NEQ_UQ)}; }
inline M m_ge(F x, F y) { return {_mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ)}; }
inline M m_and(M x, M y) { return {_mm256_and_ps(x.a, y.a), _mm256_and_ps(x.b, y.b)}; }
inline uint32_t m_bits(M m) {
  return static_cast<uint32_t>(_mm256_movemask_ps(m.a)) | static_cast<uint32_t>(_mm256_movemask_ps(m.b)) << 8;
}
inline M m_from_bits(uint32_t bits) {
  alignas(32) static constexpr int32_t kBit[8] = {1, 2, 4, 8, 16, 32, 64, 128};
  const __m256i bit = _mm256_load_si256(reinterpret_cast<const __m256i*>(kBit));
  const __m256i low = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), bit);
  const __m256i high = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits >> 8)), bit);
  return {_mm256_castsi256_ps(_mm256_cmpeq_epi32(low, bit)), _mm256_castsi256_ps(_mm256_cmpeq_epi32(high, bit))};
}
inline F f_select(M m, F yes, F no) {
  return {_mm256_blendv_ps(no.a, yes.a, m.a), _mm256_blendv_ps(no.b, yes.b, m.b)};
}
inline F f_add_masked(F acc, M m, F x) { return f_select(m, f_add(acc, x), acc); }

inline I i_zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline I i_set(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline I i_or_masked(I x, M m, I y) {
  return {_mm256_or_si256(x.a, _mm256_and_si256(_mm256_castps_si256(m.a), y.a)),
          _mm256_or_si256(x.b, _mm256_and_si256(_mm256_castps_si256(m.b), y.b))};
}
inline void i_store(int32_t* p, I x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.a);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), x.b);
}
inline I i_load(const int32_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8))};
}
inline M i_test(I x, I y) {
  const __m256i zero = _mm256_setzero_si256(), ones = _mm256_set1_epi32(-1);
  const __m256i a = _mm256_cmpeq_epi32(_mm256_and_si256(x.a, y.a), zero);
  const __m256i b = _mm256_cmpeq_epi32(_mm256_and_si256(x.b, y.b), zero);
  return {_mm256_castsi256_ps(_mm256_xor_si256(a, ones)), _mm256_castsi256_ps(_mm256_xor_si256(b, ones))};
}

struct ByteTable {
  uint8_t at[256][8];
  constexpr ByteTable() : at() {
    for (int byte = 0; byte < 256; ++byte) {
      int n = 0;
      for (int bit = 0; bit < 8; ++bit)
        if (byte >> bit & 1) at[byte][n++] = static_cast<uint8_t>(bit);
    }
  }
};
constexpr ByteTable kPositions{};

inline int expand_bits(uint16_t* out, uint32_t bits, uint16_t base) {
  int n = 0;
  for (int i = 0; i < 4; ++i, bits >>= 8, base = static_cast<uint16_t>(base + 8)) {
    const __m128i at = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kPositions.at[bits & 255]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + n),
                     _mm_add_epi16(_mm_cvtepu8_epi16(at), _mm_set1_epi16(static_cast<short>(base))));
    n += _mm_popcnt_u32(bits & 255);
  }
  return n;
}
inline int64_t expand_words(uint16_t* out, const int32_t* word, int64_t full, uint32_t rest, uint16_t base) {
  int64_t n = 0;
  for (int64_t i = 0; i < full; ++i, base = static_cast<uint16_t>(base + 32))
    n += expand_bits(out + n, static_cast<uint32_t>(word[i]), base);
  if (rest) n += expand_bits(out + n, static_cast<uint32_t>(word[full]) & rest, base);
  return n;
}
inline int expand_values(uint16_t* out, float* values, F x, M m, uint16_t base) {
  const uint32_t bits = m_bits(m);
  const __m128i low = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kPositions.at[bits & 255]));
  const __m128i high = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kPositions.at[bits >> 8]));
  _mm256_storeu_ps(values, _mm256_permutevar8x32_ps(x.a, _mm256_cvtepu8_epi32(low)));
  _mm256_storeu_ps(values + _mm_popcnt_u32(bits & 255), _mm256_permutevar8x32_ps(x.b, _mm256_cvtepu8_epi32(high)));
  return expand_bits(out, bits, base);
}
inline void copy_list(uint16_t* out, const uint16_t* in, int n, uint16_t offset) {
  const __m256i add = _mm256_set1_epi16(static_cast<short>(offset));
  for (int i = 0; i < n; i += 16) {
    const __m256i at = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), _mm256_add_epi16(at, add));
  }
}
inline void copy_list(uint32_t* out, const uint32_t* in, int n, uint32_t offset) {
  for (int i = 0; i < n; ++i) out[i] = in[i] + offset;
}
inline void copy_values(float* out, const float* in, int n) {
  for (int i = 0; i < n; i += 8) _mm256_storeu_ps(out + i, _mm256_loadu_ps(in + i));
}
inline void transpose8(__m256 r[8]) {
  __m256 t[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
    t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
  }
  for (int i = 0; i < 8; ++i) r[i] = t[i];
}
inline void transpose(F r[16]) {
  __m256 q[4][8];
  for (int i = 0; i < 8; ++i) q[0][i] = r[i].a, q[1][i] = r[i].b, q[2][i] = r[i + 8].a, q[3][i] = r[i + 8].b;
  for (auto& block : q) transpose8(block);
  for (int i = 0; i < 8; ++i) r[i] = {q[0][i], q[2][i]}, r[i + 8] = {q[1][i], q[3][i]};
}

}  // namespace
}  // namespace sparseflow
