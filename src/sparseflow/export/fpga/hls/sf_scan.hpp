// The selective scan: all STATES states of a channel at once, one channel after the other, step by step.
#pragma once

#include "sf_fixed.hpp"

// Tables lie at code + 128; decay [STATES][256] with 15 fraction bits.
struct sf_scan_tables {
  const uint16_t *delta;
  const int16_t *decay;
  const int8_t *gate;
  int t, j;
  int32_t m_h, m_d, m_o;
  int s_y, s_o;
  int32_t limit;
};

// One step of all channels; `h` [channels][STATES] is 0 in front of the first. `y` is what the gate multiplies.
template <int STATES>
void sf_scan_step(const sf_scan_tables &tables, int channels, const int8_t *p, const int8_t *x, const int8_t *d,
                  const int8_t *z, const int8_t *b, const int8_t *c, int16_t *h, int8_t *out, int16_t *y) {
  for (int e = 0; e < channels; ++e) {
#pragma HLS PIPELINE II = 1
#pragma HLS DEPENDENCE variable = h inter false
    const int index = p[e] + 128;
    const int32_t w = sf_clamp(sf_rne(int64_t(tables.delta[index]) * x[e], tables.t), 32767);
    int32_t sum = 0;
    for (int n = 0; n < STATES; ++n) {
#pragma HLS UNROLL
      const int32_t kept = int32_t(tables.decay[n * 256 + index]) * h[e * STATES + n];
      const int32_t added = w * b[n] * (1 << tables.j);
      const int32_t state = sf_clamp(sf_rne(kept + added, 15), 32767);
      h[e * STATES + n] = int16_t(state);
      sum += state * c[n];
    }
    const int64_t both = int64_t(sum) * tables.m_h + int64_t(int32_t(d[e]) * x[e]) * tables.m_d;
    y[e] = int16_t(sf_clamp(sf_rne(both, tables.s_y), 32767));
    out[e] = int8_t(sf_requant(y[e] * tables.gate[z[e] + 128], tables.m_o, tables.s_o, tables.limit));
  }
}
