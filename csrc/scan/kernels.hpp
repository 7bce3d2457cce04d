#pragma once
// The scan and its gradient. Included once per instruction set, after its math_*.hpp, so everything here has internal
// linkage.
#include "scan/block.hpp"

namespace sparseflow {
namespace {

constexpr int64_t kChunk = 16;  // steps whose states and decays the gradient holds at once

void forward(const ScanArgs& a, float* y, float* state, int threads) {
  const int64_t blocks = (a.channels + 15) / 16, items = a.batch * blocks;
#pragma omp parallel num_threads(static_cast<int>(least(threads, most(1, items * a.steps * a.states / 512))))
  {
    static thread_local Scratch<float> scratch;
    float* const h = scratch.get(a.states * 16 + 16);
#pragma omp for schedule(static)
    for (int64_t item = 0; item < items; ++item) {
      const int64_t e = item % blocks * 16;
      run_block(Block{a, item / blocks, e, static_cast<int>(least(16, a.channels - e))}, h, y, state);
    }
  }
}

// Memory of one thread for the gradient.
struct Workspace {
  float *starts, *carry, *sum_rate, *sum_direct, *sum_bias;  // of all blocks
  float *hs, *decays, *sum_b, *sum_c, *ys, *deltas;          // of the steps of one chunk

  // With `at` the start of the memory. Returns how many floats it is.
  int64_t lay_out(const ScanArgs& a, float* at) {
    const int64_t state = a.states * 16, blocks = (a.channels + 15) / 16, chunks = (a.steps + kChunk - 1) / kChunk;
    int64_t used = 0;
    const auto take = [&](float*& part, int64_t size) {
      if (at) part = at + used;
      used += size;
    };
    take(starts, chunks * blocks * state);
    take(carry, blocks * state), take(sum_rate, blocks * state);
    take(sum_direct, blocks * 16), take(sum_bias, blocks * 16);
    take(hs, kChunk * state), take(decays, kChunk * state);
    take(sum_b, kChunk * state), take(sum_c, kChunk * state);
    take(ys, kChunk * 16), take(deltas, kChunk * 16);
    return used;
  }
};

inline void clear(float* at, int64_t n) {
  for (int64_t i = 0; i < n; ++i) at[i] = 0.f;
}

inline void add_to(float* at, F x) { f_store(at, f_add(f_load(at), x)); }

// Steps [first, last) of one block, whose states before them lie at `start`: the states, then the gradient backwards.
void backward_chunk(const Block& block, const ScanGrads& g, int64_t first, int64_t last, const float* start, float* carry,
                    float* sum_rate, float* sum_direct, float* sum_bias, const Workspace& w) {
  const ScanArgs& a = block.a;
  const int64_t state = a.states * 16;
  for (int64_t k = first; k < last; ++k) {
    const int64_t i = k - first;
    const F delta = block.step(k);
    f_store(w.deltas + i * 16, delta);
    const float* const from = i ? w.hs + (i - 1) * state : start;
    f_store(w.ys + i * 16,
            advance<true>(block, k, delta, block.wide(a.x, k), from, w.hs + i * state, w.decays + i * state));
  }
  for (int64_t k = last; k-- > first;) {
    const int64_t i = k - first, at = (block.sequence * a.steps + k) * a.channels + block.e;
    const float *b = block.row(a.b, k), *c = block.row(a.c, k);
    const float *h = w.hs + i * state, *before = i ? h - state : start, *decays = w.decays + i * state;
    const F delta = f_load(w.deltas + i * 16), x = block.wide(a.x, k), given = f_mul(delta, x);
    F gy = block.wide(g.y, k);
    if (a.gate.at) {
      const F z = block.wide(a.gate, k), s = f_sigmoid(z), silu = f_mul(z, s), one = f_set(1.f);
      F y = f_load(w.ys + i * 16);
      if (a.direct.at) y = f_fma(block.direct(k), x, y);
      const F slope = f_mul(s, f_fma(z, f_sub(one, s), one));
      store_lanes(g.gate + at, f_mul(gy, f_mul(y, slope)), block.n);
      gy = f_mul(gy, silu);
    }
    F through = f_zero(), along = f_zero();
    for (int64_t s = 0; s < a.states; ++s) {
      const int64_t lane = s * 16;
      const F rate = block.rate(s), gh = f_fma(gy, f_set(c[s]), f_load(carry + lane));
      const F carried = f_mul(gh, f_load(decays + lane)), decayed = f_mul(carried, f_load(before + lane));
      f_store(carry + lane, carried);
      float *sum_b = w.sum_b + i * state + lane, *sum_c = w.sum_c + i * state + lane;
      f_store(sum_b, f_fma(gh, given, f_load(sum_b)));
      f_store(sum_c, f_fma(gy, f_load(h + lane), f_load(sum_c)));
      f_store(sum_rate + lane, f_fma(decayed, delta, f_load(sum_rate + lane)));
      through = f_fma(gh, f_set(b[s]), through);
      along = f_fma(decayed, rate, along);
    }
    F gx = f_mul(through, delta);
    if (a.direct.at) {
      gx = f_fma(gy, block.direct(k), gx);
      const F gd = f_mul(gy, x);
      a.direct.row ? store_lanes(g.direct + at, gd, block.n) : add_to(sum_direct, gd);
    }
    store_lanes(g.x + at, gx, block.n);
    // The rates carry log2(e), the derivative of 2^t brings log(2).
    F gdt = f_fma(along, f_set(0.693147181f), f_mul(through, x));
    if (a.softplus) gdt = f_mul(gdt, f_sigmoid(block.before(k)));
    store_lanes(g.dt + at, gdt, block.n);
    add_to(sum_bias, gdt);
  }
}

void backward_sequence(const ScanArgs& a, const ScanGrads& g, int64_t sequence, const Workspace& w) {
  const int64_t state = a.states * 16, blocks = (a.channels + 15) / 16, chunks = (a.steps + kChunk - 1) / kChunk;
  const auto block_of = [&](int64_t i) {
    return Block{a, sequence, i * 16, static_cast<int>(least(16, a.channels - i * 16))};
  };
  for (int64_t i = 0; i < blocks; ++i) {
    const Block block = block_of(i);
    block.load_state(g.last, w.carry + i * state);
    block.load_state(a.start, w.starts + i * state);
    for (int64_t chunk = 1; chunk < chunks; ++chunk) {
      const float* from = w.starts + ((chunk - 1) * blocks + i) * state;
      float* const to = w.starts + (chunk * blocks + i) * state;
      for (int64_t k = (chunk - 1) * kChunk; k < chunk * kChunk; ++k, from = to)
        advance<false>(block, k, block.step(k), block.wide(a.x, k), from, to, nullptr);
    }
  }
  for (int64_t chunk = chunks; chunk-- > 0;) {
    const int64_t first = chunk * kChunk, last = least(a.steps, first + kChunk);
    clear(w.sum_b, kChunk * state), clear(w.sum_c, kChunk * state);
    for (int64_t i = 0; i < blocks; ++i)
      backward_chunk(block_of(i), g, first, last, w.starts + (chunk * blocks + i) * state, w.carry + i * state,
                     w.sum_rate + i * state, w.sum_direct + i * 16, w.sum_bias + i * 16, w);
    const int64_t row = (sequence * a.steps + first) * a.states;
    for (int64_t i = 0; i < (last - first) * a.states; ++i) {
      g.b[row + i] = f_sum(f_load(w.sum_b + i * 16));
      g.c[row + i] = f_sum(f_load(w.sum_c + i * 16));
    }
  }
  if (g.start)
    for (int64_t i = 0; i < blocks; ++i) block_of(i).store_state(w.carry + i * state, g.start);
}

void backward(const ScanArgs& a, const ScanGrads& g, int threads) {
  const int64_t blocks = (a.channels + 15) / 16, state = a.states * 16;
  const int64_t size = Workspace{}.lay_out(a, nullptr);
#pragma omp parallel num_threads(static_cast<int>(least(threads, most(1, g.groups))))
  {
    static thread_local Scratch<float> scratch;
    Workspace w{};
    w.lay_out(a, scratch.get(size));
#pragma omp for schedule(static)
    for (int64_t group = 0; group < g.groups; ++group) {
      clear(w.sum_rate, blocks * state), clear(w.sum_direct, blocks * 16), clear(w.sum_bias, blocks * 16);
      for (int64_t b = group * a.batch / g.groups; b < (group + 1) * a.batch / g.groups; ++b)
        backward_sequence(a, g, b, w);
      for (int64_t i = 0; i < blocks; ++i) {
        const int64_t e = i * 16;
        const int n = static_cast<int>(least(16, a.channels - e));
        for (int64_t s = 0; s < a.states; ++s)
          store_lanes(g.rate + (group * a.states + s) * a.channels + e, f_load(w.sum_rate + i * state + s * 16), n);
        if (g.direct_sum) store_lanes(g.direct_sum + group * a.channels + e, f_load(w.sum_direct + e), n);
        if (g.bias) store_lanes(g.bias + group * a.channels + e, f_load(w.sum_bias + e), n);
      }
    }
  }
}

}  // namespace

const ScanKernels SF_SCAN{forward, backward};

}  // namespace sparseflow
