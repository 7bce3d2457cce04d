#pragma once
// The arithmetic of the scan, 16 channels a vector. Included once per instruction set, after its math_*.hpp, so everything
// here has internal linkage.
#include "event/scratch.hpp"
#include "scan/scan.hpp"

namespace sparseflow {
namespace {

// 2^r for |r| <= 1/2 within 1e-7 of itself; exactly 1 at 0, so that long memories lose nothing.
inline F power_of_rest(F r) {
  F p = f_set(0.0013264727f);
  p = f_fma(p, r, f_set(0.009671513f));
  p = f_fma(p, r, f_set(0.055507336f));
  p = f_fma(p, r, f_set(0.24022242f));
  p = f_fma(p, r, f_set(0.693147f));
  return f_fma(p, r, f_set(1.f));
}

inline F f_exp2(F t) {
  t = f_min(f_set(160.f), f_max(f_set(-160.f), t));
  const F n = f_round(t);
  return f_scale(power_of_rest(f_sub(t, n)), n);
}

inline F f_exp(F v) {
  v = f_min(f_set(110.f), f_max(f_set(-110.f), v));
  const F n = f_round(f_mul(v, f_set(1.44269502f)));
  // log2(e) in two parts, so that the rest keeps the precision of v.
  const F r = f_fma(v, f_set(1.92596299e-8f), f_fma(v, f_set(1.44269502f), f_sub(f_zero(), n)));
  return f_scale(power_of_rest(r), n);
}

// log(1 + u) for 0 <= u <= 1: twice the inverse hyperbolic tangent of u / (2 + u), relative error 1e-8.
inline F f_log1p(F u) {
  const F s = f_div(u, f_add(u, f_set(2.f))), s2 = f_mul(s, s);
  F p = f_set(1.f / 17);
  for (int odd = 15; odd > 0; odd -= 2) p = f_fma(p, s2, f_set(1.f / static_cast<float>(odd)));
  return f_mul(f_add(s, s), p);
}

inline F f_sigmoid(F v) { return f_div(f_set(1.f), f_add(f_set(1.f), f_exp(f_sub(f_zero(), v)))); }

inline F f_softplus(F v) {
  const F u = f_exp(f_min(v, f_sub(f_zero(), v)));
  return f_add(f_max(f_zero(), v), f_log1p(u));
}

inline F load_lanes(const float* p, int n) { return n == 16 ? f_load(p) : f_load_n(p, n); }
inline void store_lanes(float* p, F a, int n) { n == 16 ? f_store(p, a) : f_store_n(p, a, n); }

// Sixteen channels (or the rest of them) of one sequence.
struct Block {
  const ScanArgs& a;
  int64_t sequence, e;
  int n;  // channels

  const float* row(const Rows& rows, int64_t k) const { return rows.at + (sequence * a.steps + k) * rows.row; }
  F wide(const Rows& rows, int64_t k) const { return load_lanes(row(rows, k) + e, n); }
  F direct(int64_t k) const { return a.direct.row ? wide(a.direct, k) : load_lanes(a.direct.at + e, n); }
  F rate(int64_t s) const { return a.shared ? f_set(a.rate[s]) : load_lanes(a.rate + s * a.channels + e, n); }
  F before(int64_t k) const {
    const F dt = wide(a.dt, k);
    return a.bias ? f_add(dt, load_lanes(a.bias + e, n)) : dt;
  }
  F step(int64_t k) const { return a.softplus ? f_softplus(before(k)) : before(k); }

  // h[states][16] from and to [batch, channels, states].
  void load_state(const float* from, float* h) const {
    for (int64_t i = 0; i < a.states * 16; ++i) h[i] = 0.f;
    if (!from) return;
    from += (sequence * a.channels + e) * a.states;
    for (int i = 0; i < n; ++i)
      for (int64_t s = 0; s < a.states; ++s) h[s * 16 + i] = from[i * a.states + s];
  }
  void store_state(const float* h, float* to) const {
    to += (sequence * a.channels + e) * a.states;
    for (int i = 0; i < n; ++i)
      for (int64_t s = 0; s < a.states; ++s) to[i * a.states + s] = h[s * 16 + i];
  }
};

// One step of the states at `from`, into `to`; the decays into `decays` if asked. Returns sum_n h C.
template <bool DECAYS>
inline F advance(const Block& block, int64_t k, F delta, F x, const float* from, float* to, float* decays) {
  const ScanArgs& a = block.a;
  const float *b = block.row(a.b, k), *c = block.row(a.c, k);
  const F given = f_mul(delta, x);
  F y = f_zero();
  for (int64_t s = 0; s < a.states; ++s) {
    const F decay = f_exp2(f_mul(delta, block.rate(s)));
    const F h = f_fma(decay, f_load(from + s * 16), f_mul(given, f_set(b[s])));
    f_store(to + s * 16, h);
    if (DECAYS) f_store(decays + s * 16, decay);
    y = f_fma(h, f_set(c[s]), y);
  }
  return y;
}

// All steps of one block: y [batch, steps, channels], and the last state unless null. `h` is memory of 16 states.
inline void run_block(const Block& block, float* h, float* y, float* state) {
  const ScanArgs& a = block.a;
  // Step sizes and gates first: the recurrence would wait for their long chains.
  constexpr int64_t kAhead = 16;
  alignas(64) float deltas[kAhead * 16], gates[kAhead * 16];
  block.load_state(a.start, h);
  for (int64_t first = 0; first < a.steps; first += kAhead) {
    const int64_t last = least(first + kAhead, a.steps);
    for (int64_t k = first; k < last; ++k) f_store(deltas + (k - first) * 16, block.step(k));
    for (int64_t k = first; k < last && a.gate.at; ++k) {
      const F z = block.wide(a.gate, k);
      f_store(gates + (k - first) * 16, f_mul(z, f_sigmoid(z)));
    }
    for (int64_t k = first; k < last; ++k) {
      const F x = block.wide(a.x, k);
      F out = advance<false>(block, k, f_load(deltas + (k - first) * 16), x, h, h, nullptr);
      if (a.direct.at) out = f_fma(block.direct(k), x, out);
      if (a.gate.at) out = f_mul(out, f_load(gates + (k - first) * 16));
      store_lanes(y + (block.sequence * a.steps + k) * a.channels + block.e, out, block.n);
    }
  }
  if (state) block.store_state(h, state);
}

}  // namespace
}  // namespace sparseflow
