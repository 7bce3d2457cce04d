// The arithmetic of a forecaster in integers: what every step ends with. Synthesisable; g++ compiles it too.
#pragma once

#include <cstdint>

// v / 2^s, halves to even.
inline int64_t sf_rne(int64_t v, int s) {
#pragma HLS INLINE
  if (s == 0) return v;
  return (v + (int64_t(1) << (s - 1)) - 1 + ((v >> s) & 1)) >> s;
}

inline int32_t sf_clamp(int64_t v, int32_t limit) {
#pragma HLS INLINE
  if (v > limit) return limit;
  if (v < -int64_t(limit)) return -limit;
  return int32_t(v);
}

inline int32_t sf_requant(int32_t v, int32_t multiplier, int shift, int32_t limit) {
#pragma HLS INLINE
  return sf_clamp(sf_rne(int64_t(v) * multiplier, shift), limit);
}

// a / d to nearest, halves to even; d > 0.
inline int64_t sf_divide(int64_t a, int64_t d) {
  int64_t q = a / d, r = a % d;
  if (r < 0) {
    r += d;
    --q;
  }
  return q + (2 * r > d || (2 * r == d && (q & 1)));
}

// floor(sqrt(v)), a bit of the root at a time.
inline int64_t sf_isqrt(int64_t v) {
  int64_t root = 0;
  for (int bit = 30; bit >= 0; --bit) {
#pragma HLS PIPELINE II = 1
    const int64_t next = root | (int64_t(1) << bit);
    if (next * next <= v) root = next;
  }
  return root;
}

// 1 / sqrt(v) = y 2^(-30 - e) by a table of 193 entries and one Newton step; 1 <= v < 2^47.
inline int64_t sf_rsqrt(int64_t v, const uint16_t *table, int &e) {
  int bits = 0;
  for (int b = 0; b < 47; ++b) {
#pragma HLS UNROLL
    if (v >> b) bits = b + 1;
  }
  e = (bits - 1) / 2;
  const int left = 30 - 2 * e;
  const int64_t m = left >= 0 ? v << left : sf_rne(v, -left);
  const int64_t y = table[(m >> 24) - 64];
  return sf_rne(y * (3 * (int64_t(1) << 30) - sf_rne(m * y * y, 30)), 16);
}
