#pragma once
// Neurons. Included once per instruction set, after its vec_*.hpp.
#include "event/kernels.hpp"
#include "event/scratch.hpp"

namespace sparseflow {
namespace {

// One step of 16 neurons, in torch's order of operations; returns who fires.
template <LIFConfig::Charge CHARGE>
struct Neuron {
  F decay, threshold, reset;
  bool hard;

  explicit Neuron(const LIFConfig& q)
      : decay(f_set(q.decay)), threshold(f_set(q.threshold)), reset(f_set(q.reset)), hard(q.hard) {}

  M step(F x, F& v) const {
    F h;
    if (CHARGE == LIFConfig::IF)
      h = f_add(v, x);
    else if (CHARGE == LIFConfig::DIVIDE_INPUT)
      h = f_add(v, f_div(f_sub(x, f_sub(v, reset)), decay));
    else if (CHARGE == LIFConfig::DIVIDE)
      h = f_add(f_sub(v, f_div(f_sub(v, reset), decay)), x);
    else if (CHARGE == LIFConfig::MULTIPLY_INPUT)
      h = f_add(v, f_mul(f_sub(x, f_sub(v, reset)), decay));
    else
      h = f_add(f_sub(v, f_mul(f_sub(v, reset), decay)), x);
    const M fires = m_ge(h, threshold);
    v = hard ? f_select(fires, reset, h) : f_select(fires, f_sub(h, threshold), h);
    return fires;
  }
};

// Calls body(Neuron<charge>) for the charge of the configuration.
template <class Body>
inline void with_neuron(const LIFConfig& q, const Body& body) {
  switch (q.charge) {
    case LIFConfig::IF: return body(Neuron<LIFConfig::IF>(q));
    case LIFConfig::DIVIDE_INPUT: return body(Neuron<LIFConfig::DIVIDE_INPUT>(q));
    case LIFConfig::DIVIDE: return body(Neuron<LIFConfig::DIVIDE>(q));
    case LIFConfig::MULTIPLY_INPUT: return body(Neuron<LIFConfig::MULTIPLY_INPUT>(q));
    case LIFConfig::MULTIPLY: return body(Neuron<LIFConfig::MULTIPLY>(q));
  }
}

inline F load_up_to(const float* p, int n) { return n == 16 ? f_load(p) : f_load_n(p, n); }
inline void store_up_to(float* p, F a, int n) { n == 16 ? f_store(p, a) : f_store_n(p, a, n); }

void lif(const LIFArgs& a, int threads) {
  const int64_t stride = a.repeat ? 0 : a.n, chunk = 1024, chunks = (a.n + chunk - 1) / chunk;
  with_neuron(a.config, [&](const auto& neuron) {
    const F zero = f_zero(), one = f_set(1.f);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t item = 0; item < chunks; ++item)
      for (int64_t i = item * chunk; i < least(a.n, (item + 1) * chunk); i += 16) {
        const int n = static_cast<int>(least(16, a.n - i));
        F v = a.v0 ? load_up_to(a.v0 + i, n) : neuron.reset;
        for (int64_t t = 0; t < a.steps; ++t) {
          const M fires = neuron.step(load_up_to(a.x + t * stride + i, n), v);
          store_up_to(a.spikes + t * a.n + i, f_select(fires, one, zero), n);
        }
        store_up_to(a.v + i, v, n);
      }
  });
}

// Channels c of one pixel in NHWC over all steps; v is updated in place, from `from` at the first step.
template <class N>
inline void lif_run(const N& shared, const float* x, int64_t x_step, const float* from, float* v, int32_t* words,
                    int64_t words_step, int64_t steps, int64_t c) {
  const N neuron = shared;  // a copy, or the compiler reads its constants again after every store
  int64_t i = 0;
  for (; i + 32 <= c; i += 32) {
    F va = from ? f_load(from + i) : neuron.reset, vb = from ? f_load(from + i + 16) : neuron.reset;
    for (int64_t t = 0; t < steps; ++t) {
      const uint32_t low = m_bits(neuron.step(f_load(x + t * x_step + i), va));
      const uint32_t high = m_bits(neuron.step(f_load(x + t * x_step + i + 16), vb));
      words[t * words_step + i / 32] = static_cast<int32_t>(low | high << 16);
    }
    f_store(v + i, va);
    f_store(v + i + 16, vb);
  }
  for (; i < c; i += 32) {
    const int low = static_cast<int>(least(16, c - i)), high = static_cast<int>(most(0, least(16, c - i - 16)));
    F va = from ? load_up_to(from + i, low) : neuron.reset;
    F vb = from && high ? load_up_to(from + i + 16, high) : neuron.reset;
    const uint32_t keep = c - i >= 32 ? ~0u : (1u << (c - i)) - 1;
    for (int64_t t = 0; t < steps; ++t) {
      uint32_t word = m_bits(neuron.step(load_up_to(x + t * x_step + i, low), va));
      if (high) word |= m_bits(neuron.step(load_up_to(x + t * x_step + i + 16, high), vb)) << 16;
      words[t * words_step + i / 32] = static_cast<int32_t>(word & keep);
    }
    store_up_to(v + i, va, low);
    if (high) store_up_to(v + i + 16, vb, high);
  }
}

void lif_pack(const LIFArgs& a, int threads) {
  const int64_t hw = a.h * a.w, wp = words_of(a.c), all = a.n * a.c * hw, x_step = a.repeat ? 0 : all;
  const int64_t words_step = a.n * hw * wp;
  if (a.channels_last || hw == 1) {
    with_neuron(a.config, [&](const auto& neuron) {
#pragma omp parallel for num_threads(threads) schedule(static)
      for (int64_t p = 0; p < a.n * hw; ++p)
        lif_run(neuron, a.x + p * a.c, x_step, a.v0 ? a.v0 + p * a.c : nullptr, a.v + p * a.c, a.words + p * wp,
                words_step, a.steps, a.c);
    });
    return;
  }
  const int64_t chunks = (hw + 15) / 16;
  with_neuron(a.config, [&](const auto& neuron) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t item = 0; item < a.n * chunks; ++item) {
      const int64_t image = item / chunks, p = item % chunks * 16;
      const int n = static_cast<int>(least(16, hw - p));
      for (int64_t i = 0; i < wp; ++i)
        for (int64_t t = 0; t < a.steps; ++t) {
          I word = i_zero();
          for (int64_t b = 0; b < least(32, a.c - 32 * i); ++b) {
            const int64_t at = (image * a.c + 32 * i + b) * hw + p;
            const float* from = t ? a.v : a.v0;
            F v = from ? load_up_to(from + at, n) : neuron.reset;
            const M fires = neuron.step(load_up_to(a.x + t * x_step + at, n), v);
            word = i_or_masked(word, fires, i_set(static_cast<int32_t>(1u << b)));
            store_up_to(a.v + at, v, n);
          }
          alignas(64) int32_t lane[16];
          i_store(lane, word);
          for (int k = 0; k < n; ++k) a.words[t * words_step + (image * hw + p + k) * wp + i] = lane[k];
        }
    }
  });
}

}  // namespace
}  // namespace sparseflow
