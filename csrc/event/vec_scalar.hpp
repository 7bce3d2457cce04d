#pragma once
#include <cstdint>

#define SF_KERNELS scalar_kernels
#define SF_NAME "scalar"

namespace sparseflow {
namespace {

struct F {
  float x[16];
};
using M = uint32_t;
struct I {
  int32_t x[16];
};

constexpr int kSlack = 32;
constexpr int kWidest = 1;  // panels of 64 output channels whose sums fit the registers

#define SF_EACH for (int i = 0; i < 16; ++i)

inline F f_set(float x) {
  F r;
  SF_EACH r.x[i] = x;
  return r;
}
inline F f_zero() { return f_set(0.f); }
inline F f_load(const float* p) {
  F r;
  SF_EACH r.x[i] = p[i];
  return r;
}
inline F f_load_n(const float* p, int n) {
  F r = f_zero();
  for (int i = 0; i < n; ++i) r.x[i] = p[i];
  return r;
}
inline void f_store(float* p, F a) { SF_EACH p[i] = a.x[i]; }
inline void f_store_n(float* p, F a, int n) {
  for (int i = 0; i < n; ++i) p[i] = a.x[i];
}
// Around the caches; p is aligned to the vector. A fence follows before another thread reads.
inline void f_stream(float* p, F a) { f_store(p, a); }
inline void fence() {}
inline F f_add(F a, F b) {
  SF_EACH a.x[i] += b.x[i];
  return a;
}
inline F f_sub(F a, F b) {
  SF_EACH a.x[i] -= b.x[i];
  return a;
}
inline F f_mul(F a, F b) {
  SF_EACH a.x[i] *= b.x[i];
  return a;
}
inline F f_div(F a, F b) {
  SF_EACH a.x[i] /= b.x[i];
  return a;
}
inline F f_fma(F a, F b, F c) {
  SF_EACH c.x[i] += a.x[i] * b.x[i];
  return c;
}
inline M m_ne(F a, F b) {
  M m = 0;
  SF_EACH m |= static_cast<M>(a.x[i] != b.x[i]) << i;
  return m;
}
inline M m_ge(F a, F b) {
  M m = 0;
  SF_EACH m |= static_cast<M>(a.x[i] >= b.x[i]) << i;
  return m;
}
inline M m_and(M a, M b) { return a & b; }
inline uint32_t m_bits(M m) { return m; }
inline M m_from_bits(uint32_t bits) { return bits & 0xffff; }
inline F f_select(M m, F yes, F no) {
  SF_EACH no.x[i] = (m >> i & 1) ? yes.x[i] : no.x[i];
  return no;
}
inline F f_add_masked(F acc, M m, F x) {
  SF_EACH acc.x[i] = (m >> i & 1) ? acc.x[i] + x.x[i] : acc.x[i];
  return acc;
}
inline I i_set(int32_t x) {
  I r;
  SF_EACH r.x[i] = x;
  return r;
}
inline I i_zero() { return i_set(0); }
inline I i_or_masked(I a, M m, I b) {
  SF_EACH a.x[i] |= (m >> i & 1) ? b.x[i] : 0;
  return a;
}
inline void i_store(int32_t* p, I a) { SF_EACH p[i] = a.x[i]; }
inline I i_load(const int32_t* p) {
  I r;
  SF_EACH r.x[i] = p[i];
  return r;
}
inline M i_test(I a, I b) {
  M m = 0;
  SF_EACH m |= static_cast<M>((a.x[i] & b.x[i]) != 0) << i;
  return m;
}

inline int expand_bits(uint16_t* out, uint32_t bits, uint16_t base) {
  int n = 0;
  for (; bits; bits &= bits - 1) out[n++] = static_cast<uint16_t>(base + __builtin_ctz(bits));
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
  int n = 0;
  for (uint32_t bits = m; bits; bits &= bits - 1) values[n++] = x.x[__builtin_ctz(bits)];
  return expand_bits(out, m, base);
}
template <class T>
inline void copy_list(T* out, const T* in, int n, T offset) {
  for (int i = 0; i < n; ++i) out[i] = static_cast<T>(in[i] + offset);
}
inline void copy_values(float* out, const float* in, int n) {
  for (int i = 0; i < n; ++i) out[i] = in[i];
}
inline void transpose(F r[16]) {
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < i; ++j) {
      const float t = r[i].x[j];
      r[i].x[j] = r[j].x[i];
      r[j].x[i] = t;
    }
}

#undef SF_EACH

}  // namespace
}  // namespace sparseflow
