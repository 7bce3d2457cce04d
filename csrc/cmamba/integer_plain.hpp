#pragma once
// The steps of integers that cost time, in plain C++; where the loops are vectorised, the compiler does it.
#include <cstring>

#include "cmamba/integer.hpp"

namespace sparseflow {
namespace {

// v / 2^s for s >= 1, halves to even.
inline int64_t rne(int64_t v, int64_t s) { return (v + (int64_t{1} << (s - 1)) - 1 + ((v >> s) & 1)) >> s; }
inline int64_t rne_or_not(int64_t v, int64_t s) { return s ? rne(v, s) : v; }
inline int32_t clamp(int64_t v, int64_t limit) {
  return static_cast<int32_t>(v > limit ? limit : v < -limit ? -limit : v);
}
// The same in 32 bits, in which compilers find vectors.
inline int32_t within(int32_t v, int32_t limit) { return v > limit ? limit : v < -limit ? -limit : v; }
inline int32_t requant(int64_t v, int64_t multiplier, int64_t shift, int32_t limit) {
  return clamp(rne(v * multiplier, shift), limit);
}

// A block of channels of one sequence through all its steps.
struct ScanBlock {
  const IntegerLayer& layer;
  int64_t steps, states, width;             // width: bytes from token to token of dbcd
  const uint8_t *x, *p, *z, *dbcd;          // of the first token; codes + 128
  int64_t inner, rank, first, channels;     // inner: bytes from token to token of x, p, z, out
  uint8_t* out;
};

struct ScanRow {
  int32_t w[16], sums[16];
};

inline void enter(const ScanBlock& b, int64_t k, ScanRow& row) {
  const IntegerLayer& l = b.layer;
  const int64_t at = k * b.inner + b.first;
  for (int64_t e = 0; e < b.channels; ++e)
    row.w[e] = clamp(rne_or_not(int64_t{l.delta[b.p[at + e]]} * (b.x[at + e] - 128), l.t), 32767);
}

inline void leave(const ScanBlock& b, int64_t k, const ScanRow& row) {
  const IntegerLayer& l = b.layer;
  const int64_t at = k * b.inner + b.first;
  const uint8_t* const d = b.dbcd + k * b.width + b.rank + 2 * b.states + b.first;
  for (int64_t e = 0; e < b.channels; ++e) {
    const int64_t skipped = (d[e] - 128) * (b.x[at + e] - 128);
    const int64_t y = clamp(rne(row.sums[e] * l.state + skipped * l.skip, l.y_shift), 32767);
    const int32_t out = requant(y * l.silu[b.z[at + e]], l.scan_multiplier, l.scan_shift, l.scan_limit);
    b.out[at + e] = static_cast<uint8_t>(out + 128);
  }
}

inline void plain_scan(const ScanBlock& b, int16_t* h) {
  const int64_t n = b.states;
  for (int64_t i = 0; i < 16 * n; ++i) h[i] = 0;
  ScanRow row;
  for (int64_t k = 0; k < b.steps; ++k) {
    enter(b, k, row);
    const uint8_t *in = b.dbcd + k * b.width + b.rank, *read = in + n;
    for (int64_t e = 0; e < b.channels; ++e) {
      const int16_t* const decay = b.layer.decay.data() + b.p[k * b.inner + b.first + e] * n;
      int32_t sum = 0;
      for (int64_t s = 0; s < n; ++s) {
        const int32_t raised = (in[s] - 128) * (1 << b.layer.j);
        const int32_t v = decay[s] * h[e * n + s] + row.w[e] * raised;
        const int32_t state = within((v + 16383 + ((v >> 15) & 1)) >> 15, 32767);
        h[e * n + s] = static_cast<int16_t>(state);
        sum += state * (read[s] - 128);
      }
      row.sums[e] = sum;
    }
    leave(b, k, row);
  }
}

constexpr int64_t kRowsAtOnce = 6;

#ifndef SF_INTEGER_PRODUCTS
// Sums of up to six rows with the 64 outputs of a panel, the bias among them. The bias has lost 128 times the weights, so
// only the whole sum is sure to fit 32 bits. Products of 16 bits are what vectors of any machine have.
inline void products(const IntegerLinear& l, int64_t panel, const uint8_t* const* in, int64_t rows, int32_t (*out)[64]) {
  const int64_t quads = (l.inputs + 3) / 4;
  const int8_t* w = l.weight.data() + panel * quads * 256;
  uint32_t sums[kRowsAtOnce][64];
  for (int64_t r = 0; r < rows; ++r)
    for (int o = 0; o < 64; ++o) sums[r][o] = static_cast<uint32_t>(l.bias[static_cast<size_t>(panel * 64 + o)]);
  for (int64_t i = 0; i < quads; ++i, w += 256) {
    int16_t wide[4][64];
    for (int j = 0; j < 4; ++j)
      for (int o = 0; o < 64; ++o) wide[j][o] = w[o * 4 + j];
    for (int64_t r = 0; r < rows; ++r)
      for (int j = 0; j < 4; ++j) {
        const int16_t x = in[r][i * 4 + j];
        for (int o = 0; o < 64; ++o) sums[r][o] += static_cast<uint32_t>(x * wide[j][o]);
      }
  }
  std::memcpy(out, sums, static_cast<size_t>(rows) * sizeof *out);
}
#endif

#ifndef SF_INTEGER_REST
inline void requant_all(int32_t* v, const int64_t* multiplier, const int64_t* shift, int32_t limit, int64_t n) {
  for (int64_t i = 0; i < n; ++i) v[i] = requant(v[i], multiplier[i], shift[i], limit);
}

// By one factor. Reads and writes up to 7 numbers behind the last.
inline void requant_same(int32_t* v, int64_t multiplier, int64_t shift, int32_t limit, int64_t n) {
  for (int64_t i = 0; i < n; ++i) v[i] = requant(v[i], multiplier, shift, limit);
}

inline void scan_block(const ScanBlock& b, int16_t* h) { plain_scan(b, h); }
#endif

}  // namespace
}  // namespace sparseflow
