// A whole forecaster in integers, for synthesis and for g++: readings with 16 fraction bits in, a forecast with 16 out.
//
// `memory` holds weights.bin; cmamba_params.h, generated with it, says what lies where. Names of steps as in the golden
// vectors. Instance norm at both ends is meant for the processor beside the logic.
#pragma once

#include <cstring>

#include "cmamba_params.h"
#include "sf_matvec.hpp"
#include "sf_scan.hpp"

namespace cmamba {

constexpr int V = CMAMBA_V, L = CMAMBA_L, P = CMAMBA_P, S = CMAMBA_S, K = CMAMBA_K, D = CMAMBA_D, E = CMAMBA_E,
              N = CMAMBA_N, R = CMAMBA_R, H = CMAMBA_H, F = CMAMBA_F;
constexpr int HIDDEN = H > 0 ? H : 1;

template <class T>
const T *at(const uint8_t *memory, uint32_t offset) {
  return reinterpret_cast<const T *>(memory + offset);
}

inline void linear(const uint8_t *memory, const sf_matrix_t &m, const int8_t *x, int32_t *y) {
  sf_matvec<8, 8>(at<int8_t>(memory, m.weight), at<int32_t>(memory, m.bias), at<int32_t>(memory, m.multiplier),
                  at<uint8_t>(memory, m.shift), m.inputs, m.outputs, m.limit, x, y);
}

inline int16_t sat16(int64_t v) { return int16_t(sf_clamp(v, 32767)); }

// Codes of the readings of one series, repeated at the end for the last patch; their mean and deviation.
inline void standardize(const int32_t *x, int8_t *codes, int64_t &mean, int64_t &std) {
  int64_t sum = 0, squares = 0;
  for (int l = 0; l < L; ++l) sum += x[l];
  mean = sf_divide(sum, L);
  for (int l = 0; l < L; ++l) squares += (x[l] - mean) * (x[l] - mean);
  std = sf_isqrt((sf_divide(squares, L) + 42950) << 10);
  for (int l = 0; l < L; ++l)
    codes[l] = int8_t(sf_clamp(sf_divide((x[l] - mean) * CMAMBA_STANDARDIZE, std << 16), CMAMBA_STANDARDIZE_LIMIT));
  for (int l = 0; l < S; ++l) codes[L + l] = codes[L - 1];
}

// X [V][K][D] through one block, in place.
inline void block(const uint8_t *memory, const sf_block_t &b, int16_t X[V][K][D]) {
  static int16_t Y[V][K][D];
  static int8_t pool[2][K][V];
  const int32_t *m_norm = at<int32_t>(memory, b.norm_multiplier);
  const uint8_t *s_norm = at<uint8_t>(memory, b.norm_shift);
  const sf_scan_tables tables = {at<uint16_t>(memory, b.delta), at<int16_t>(memory, b.decay), at<int8_t>(memory, b.silu),
                                 b.t, b.j, b.m_h, b.m_d, b.m_o, b.s_y, b.s_o, b.scan_limit};
  for (int v = 0; v < V; ++v) {
    static int16_t h[E][N];
    std::memset(h, 0, sizeof h);
    for (int k = 0; k < K; ++k) {
      int8_t u[D], x[E], z[E], delta[R], c_b[N], c_c[N], d[E], p[E], out[E];
      int16_t y[E];
      int32_t sums[CMAMBA_WIDEST];
      int64_t squares = b.eps;
      for (int i = 0; i < D; ++i) squares += int32_t(X[v][k][i]) * X[v][k][i];
      int e = 0;
      const int64_t root = sf_rsqrt(squares, at<uint16_t>(memory, CMAMBA_RSQRT), e);
      for (int i = 0; i < D; ++i) {
        const int32_t n = int32_t(sf_rne(X[v][k][i] * root, 6 + e));
        u[i] = int8_t(sf_requant(n, m_norm[i], s_norm[i], b.norm_limit));
      }
      linear(memory, b.in_proj, u, sums);
      for (int i = 0; i < E; ++i) {
        x[i] = at<int8_t>(memory, b.act)[sums[i] + 128];
        z[i] = int8_t(sums[E + i]);
      }
      linear(memory, b.x_proj, x, sums);
      for (int i = 0; i < R; ++i) delta[i] = int8_t(sums[i]);
      for (int i = 0; i < N; ++i) {
        c_b[i] = int8_t(sums[R + i]);
        c_c[i] = int8_t(sums[R + N + i]);
      }
      for (int i = 0; i < E; ++i) d[i] = int8_t(sums[R + 2 * N + i]);
      linear(memory, b.dt_proj, delta, sums);
      for (int i = 0; i < E; ++i) p[i] = int8_t(sums[i]);
      sf_scan_step<N>(tables, E, p, x, d, z, c_b, c_c, &h[0][0], out, y);
      linear(memory, b.out_proj, out, sums);
      int32_t total = 0, largest = sums[0];
      for (int i = 0; i < D; ++i) {
        Y[v][k][i] = int16_t(sums[i]);
        total += sums[i];
        if (sums[i] > largest) largest = sums[i];
      }
      pool[0][k][v] = int8_t(sf_requant(total, b.pool_m[0], b.pool_s[0], b.pool_limit));
      pool[1][k][v] = int8_t(sf_requant(largest, b.pool_m[1], b.pool_s[1], b.pool_limit));
    }
  }
  for (int k = 0; k < K; ++k) {
    int8_t gates[2][V];
    for (int g = 0; g < 2; ++g) {
      const sf_gdd_t &gdd = b.gdd[g];
      int8_t both[2 * HIDDEN] = {};
      int32_t sums[HIDDEN > V ? HIDDEN : V];
      for (int q = 0; q < 2; ++q) {
        sf_matvec<8, 8>(at<int8_t>(memory, gdd.first), nullptr, at<int32_t>(memory, gdd.first_m) + q * H,
                        at<uint8_t>(memory, gdd.first_s) + q * H, V, H, gdd.first_limit, pool[q][k], sums);
        for (int i = 0; i < H; ++i) both[q * H + i] = at<int8_t>(memory, gdd.gelu)[sums[i] + 128];
      }
      // Both pools meet in one sum: what follows is linear, so their codes are added first.
      for (int v = 0; v < V; ++v) {
        int32_t sum = at<int32_t>(memory, gdd.bias)[v];
        for (int i = 0; i < H; ++i) {
          const int8_t w = at<int8_t>(memory, gdd.second)[((v / 8) * ((H + 7) / 8) + i / 8) * 64 + (v % 8) * 8 + i % 8];
          sum += int32_t(w) * (both[i] + both[H + i]);
        }
        gates[g][v] = int8_t(sf_requant(sum, at<int32_t>(memory, gdd.second_m)[v], at<uint8_t>(memory, gdd.second_s)[v],
                                        gdd.second_limit));
      }
    }
    for (int v = 0; v < V; ++v) {
      const int32_t scale = at<int16_t>(memory, b.gate_scale)[gates[0][v] + 128];
      const int32_t shift = at<int16_t>(memory, b.gate_shift)[gates[1][v] + 128];
      for (int i = 0; i < D; ++i) {
        const int16_t gated = sat16(sf_rne(int32_t(Y[v][k][i]) * scale, 15) + shift);
        X[v][k][i] = sat16(int32_t(X[v][k][i]) + gated);
      }
    }
  }
}

// One window: readings [V][L] to a forecast [V][F].
inline void predict(const uint8_t *memory, const int32_t *readings, int32_t *forecast) {
#pragma HLS INTERFACE m_axi port = memory bundle = weights
#pragma HLS INTERFACE m_axi port = readings bundle = data
#pragma HLS INTERFACE m_axi port = forecast bundle = data
  static int16_t X[V][K][D];
  int64_t mean[V], std[V];
  for (int v = 0; v < V; ++v) {
    int8_t codes[L + S];
    standardize(readings + v * L, codes, mean[v], std[v]);
    for (int k = 0; k < K; ++k) {
      int32_t sums[D];
      linear(memory, CMAMBA_EMBEDDING, codes + k * S, sums);
      for (int i = 0; i < D; ++i) X[v][k][i] = sat16(int64_t(sums[i]) + at<int16_t>(memory, CMAMBA_PE)[k * D + i]);
    }
  }
  for (int i = 0; i < CMAMBA_BLOCKS; ++i) block(memory, CMAMBA_BLOCK[i], X);
  for (int v = 0; v < V; ++v) {
    static int8_t flat[D * K];
    int32_t sums[F];
    for (int k = 0; k < K; ++k)
      for (int i = 0; i < D; ++i) {
        const int32_t code = sf_requant(X[v][k][i] + CMAMBA_ACT_BIAS, CMAMBA_ACT_M, CMAMBA_ACT_S, CMAMBA_ACT_LIMIT);
        flat[i * K + k] = at<int8_t>(memory, CMAMBA_ACT)[code + 128];
      }
    linear(memory, CMAMBA_HEAD, flat, sums);
    for (int f = 0; f < F; ++f)
      forecast[v * F + f] = sf_clamp(sf_rne(sums[f] * std[v], 25) + mean[v], 2147483647);
  }
}

}  // namespace cmamba
