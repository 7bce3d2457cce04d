#pragma once
// The forward of a forecaster. Included once per instruction set, after scan/math_*.hpp, so everything here has internal
// linkage.
#include <cmath>

#include "cmamba/cmamba.hpp"
#include "cmamba/linear.hpp"
#include "cmamba/team.hpp"

namespace sparseflow {
namespace {

constexpr int64_t kBlockTokens = 96;     // of the sequences that a thread takes through a mixer at once
constexpr int64_t kChunkTokens = 8192;   // of the samples between two calls of the head
constexpr int64_t kThreadWork = 1 << 19;  // multiplications worth a thread

inline F f_silu(F x) { return f_mul(x, f_sigmoid(x)); }

// Within two units of the last place; Juffa's approximation, a polynomial up to .93 and one of the logarithm beyond.
inline F f_erf(F x) {
  const F t = f_max(x, f_sub(f_zero(), x)), s = f_mul(x, x);
  F far = f_fma(f_set(-1.72853470e-5f), t, f_set(3.83197126e-4f));
  far = f_fma(far, s, f_fma(f_set(-3.88396438e-3f), t, f_set(2.42546219e-2f)));
  far = f_fma(far, t, f_set(-1.06777877e-1f));
  far = f_fma(far, t, f_set(-6.34846687e-1f));
  far = f_fma(far, t, f_set(-1.28717512e-1f));
  far = f_sub(f_set(1.f), f_exp(f_sub(f_mul(far, t), t)));
  far = f_select(m_ge(x, f_zero()), far, f_sub(f_zero(), far));
  F near = f_set(-5.96761703e-4f);
  near = f_fma(near, s, f_set(4.99119423e-3f));
  near = f_fma(near, s, f_set(-2.67681349e-2f));
  near = f_fma(near, s, f_set(1.12819925e-1f));
  near = f_fma(near, s, f_set(-3.76125336e-1f));
  near = f_fma(near, s, f_set(1.28379166e-1f));
  near = f_fma(near, x, x);
  return f_select(m_ge(t, f_set(0.927734375f)), far, near);
}

inline F f_gelu(F x) {
  return f_mul(f_mul(f_set(.5f), x), f_add(f_set(1.f), f_erf(f_mul(x, f_set(0.70710678f)))));
}

// y = x (mean x^2 + eps)^(-1/2) w; rows rounded up to 16, whose ends are 0.
inline void rms_norm(const float* x, const float* w, int64_t width, float eps, float* y) {
  F squares = f_zero();
  for (int64_t d = 0; d < width; d += 16) squares = f_fma(f_load(x + d), f_load(x + d), squares);
  const F scale = f_set(1.f / std::sqrt(f_sum(squares) / static_cast<float>(width) + eps));
  for (int64_t d = 0; d < width; d += 16)
    f_store(y + d, f_mul(f_mul(f_load(x + d), scale), load_lanes(w + d, static_cast<int>(least(16, width - d)))));
}

struct PackedLayer {
  Packed in, x, dt, out, up[2], down[2];
  float* rate;  // log2(e) A, [states] or [states, inner]
};

// Memory of the mixer of some tokens, rows rounded up to 16.
struct Bench {
  float *u, *xz, *x, *dbcd, *dt, *y;
};

class Forward {
 public:
  Forward(const CMambaWeights& net, const float* in, float* out, int64_t batch, int threads)
      : net_(net), s_(net.sizes), in_(in), out_(out), batch_(batch) {
    sequences_a_sample_ = s_.official ? s_.series : 1;
    const int64_t tokens = sequences_a_sample_ * s_.patches;
    chunk_ = least(batch, most(1, kChunkTokens / tokens));
    width_ = up16(s_.width), inner_ = up16(s_.inner), projected_ = up16(2 * s_.inner);
    parts_ = up16(s_.rank + 2 * s_.states + (s_.official ? s_.inner : 0));
    pooled_ = up16(s_.series), hidden_ = up16(s_.hidden);
    const int64_t work = batch * tokens * s_.layers * s_.width * s_.inner * 4;
    threads_ = static_cast<int>(least(threads, most(1, work / kThreadWork)));
    together_ = threads_ > 1 && chunk_ * sequences_a_sample_ < 6 * threads_;
    const int64_t fit = most(1, kBlockTokens / s_.patches);
    block_ = together_ ? chunk_ * sequences_a_sample_ : least(fit, chunk_ * sequences_a_sample_);
    const int64_t e = s_.inner;
    embedding_ = {net.embedding, nullptr, s_.width, s_.official ? s_.patch : s_.patch * s_.series, nullptr};
    for (const CMambaLayer& l : net.layers) {
      PackedLayer p{};
      p.in = {l.in_weight, l.in_bias, 2 * e, s_.width, nullptr};
      p.x = {l.x_weight, nullptr, s_.rank + 2 * s_.states + (s_.official ? e : 0), e, nullptr};
      p.dt = {l.dt_weight, l.dt_bias, e, s_.rank, nullptr};
      p.out = {l.out_weight, l.out_bias, s_.width, e, nullptr};
      for (int i = 0; i < 2 && s_.official; ++i) {
        p.up[i] = {l.up[i], nullptr, s_.hidden, s_.series, nullptr};
        p.down[i] = {l.down[i], nullptr, s_.series, s_.hidden, nullptr};
      }
      layers_.push_back(p);
    }
  }

  int threads() const { return threads_; }

  // Memory that all threads share, from `at` on. Returns how many floats it is.
  int64_t lay_out(float* at) {
    int64_t used = 0;
    const auto take = [&](float*& part, int64_t size) {
      if (at) part = at + used;
      used += up16(size);
    };
    take(embedding_.at, embedding_.size());
    for (PackedLayer& p : layers_) {
      for (Packed* w : {&p.in, &p.x, &p.dt, &p.out, &p.up[0], &p.up[1], &p.down[0], &p.down[1]}) take(w->at, w->size());
      take(p.rate, s_.states * (s_.official ? 1 : s_.inner));
    }
    const int64_t sequences = chunk_ * sequences_a_sample_, tokens = sequences * s_.patches;
    take(table_, s_.patches * width_);
    take(raw_, s_.official ? sequences * (s_.length + s_.padding) : tokens * s_.patch * s_.series);
    take(mean_, sequences), take(deviation_, sequences);
    take(x_, tokens * width_), take(mixed_, tokens * width_);
    if (s_.official) {
      take(pools_, chunk_ * s_.patches * 2 * pooled_);
      for (float*& gate : gates_) take(gate, chunk_ * s_.patches * pooled_);
    }
    if (together_) used += lay_out_bench(at ? at + used : nullptr, shared_);
    return used;
  }

  int64_t own_memory() {
    Bench bench;
    return (together_ ? 0 : lay_out_bench(nullptr, bench)) + up16(rest_size());
  }

  // What every thread of the region does, with memory of its own.
  void run(Team all, float* memory) {
    pack(all);
    all.meet();
    for (int64_t first = 0; first < batch_; first += chunk_) {
      Walk walk{all, all, {0, 0}, least(chunk_, batch_ - first), shared_, memory};
      const Range sequences{0, walk.samples * sequences_a_sample_};
      walk.sequences = sequences;
      if (!together_) {
        walk.group = {0, 1}, walk.sequences = all.share(sequences);
        lay_out_bench(memory + up16(rest_size()), walk.bench);
      }
      embed(walk, first);
      for (size_t i = 0; i < layers_.size(); ++i) {
        mix(walk, i);
        if (!s_.official) continue;
        all.meet();
        look_across(walk, layers_[i]);
        all.meet();
      }
      flatten(walk);
      all.meet();
      head(walk, first);
      all.meet();
    }
  }

 private:
  struct Walk {
    Team all, group;   // group: who works on `sequences`
    Range sequences;
    int64_t samples;
    Bench bench;
    float* rest;  // memory of this thread
  };

  int64_t rest_size() const {
    return most(s_.states * 16 + 16, most(s_.patches * width_, kRows * 3 * hidden_));
  }
  int64_t lay_out_bench(float* at, Bench& b) const {
    const int64_t tokens = block_ * s_.patches;
    int64_t used = 0;
    const auto take = [&](float*& part, int64_t width) {
      part = at ? at + used : nullptr;
      used += tokens * width;
    };
    take(b.u, width_), take(b.xz, projected_), take(b.x, inner_), take(b.dbcd, parts_), take(b.dt, inner_);
    take(b.y, inner_);
    return used;
  }

  static constexpr int64_t kRows = 24;  // of the MLP along the series at once

  void pack(Team all) {
    int64_t unit = 0;
    const auto mine = [&] { return unit++ % all.size == all.rank; };
    const auto pack_all = [&](const Packed& w) {
      for (int64_t p = 0; p < w.panels(); ++p)
        if (mine()) pack_panel(w, p);
    };
    pack_all(embedding_);
    for (size_t i = 0; i < layers_.size(); ++i) {
      const PackedLayer& p = layers_[i];
      for (const Packed* w : {&p.in, &p.x, &p.dt, &p.out}) pack_all(*w);
      if (s_.official)
        for (const Packed* w : {&p.up[0], &p.up[1], &p.down[0], &p.down[1]}) pack_all(*w);
      if (mine()) rates(net_.layers[i].a_log, p.rate);
    }
    if (mine()) {
      for (int64_t i = 0; i < s_.patches * s_.width; ++i) {
        const int64_t d = i % s_.width;
        table_[i / s_.width * width_ + d] = net_.position[i] + (net_.embedding_bias ? net_.embedding_bias[d] : 0.f);
      }
      for (int64_t k = 0; k < s_.patches; ++k)
        for (int64_t d = s_.width; d < width_; ++d) table_[k * width_ + d] = 0.f;
    }
  }

  void rates(const float* a_log, float* to) const {
    const int64_t n = s_.states, e = s_.official ? 1 : s_.inner;
    for (int64_t i = 0; i < e * n; ++i) to[i % n * e + i / n] = -1.44269504f * std::exp(a_log[i]);
  }

  void embed(const Walk& walk, int64_t first) {
    const int64_t k = s_.patches, l = s_.length;
    const Range mine = walk.group.share(walk.sequences);
    const float* const in = in_ + first * s_.series * l;
    const int64_t row = l + s_.padding;
    for (int64_t q = mine.first; q < mine.last; ++q) {
      if (s_.official) {
        standardize(in + q * l, q, raw_ + q * row);
        continue;
      }
      for (int64_t i = 0; i < k; ++i)
        for (int64_t v = 0; v < s_.series; ++v) {
          const float* const from = in + (q * s_.series + v) * l + i * s_.stride;
          float* const to = raw_ + ((q * k + i) * s_.series + v) * s_.patch;
          for (int64_t p = 0; p < s_.patch; ++p) to[p] = from[p];
        }
    }
    walk.group.meet();
    const Range tokens = walk.group.share({walk.sequences.first * k, walk.sequences.last * k}, kTile);
    linear(
        embedding_, tokens.first, tokens.last,
        [&](int64_t t) {
          return s_.official ? raw_ + t / k * row + t % k * s_.stride : raw_ + t * s_.patch * s_.series;
        },
        [&](int64_t t) -> const float* { return table_ + t % k * width_; },
        [&](int64_t t) { return x_ + t * width_; });
  }

  // The sums in double, as a level far above the deviation would else be lost.
  void standardize(const float* x, int64_t q, float* to) {
    const int64_t l = s_.length;
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < l; ++i) sum += x[i];
    const float mean = static_cast<float>(sum / static_cast<double>(l));
    for (int64_t i = 0; i < l; ++i) {
      const double d = x[i] - mean;
      squares += d * d;
    }
    const float deviation = std::sqrt(static_cast<float>(squares / static_cast<double>(l)) + net_.eps);
    for (int64_t i = 0; i < l; ++i) to[i] = (x[i] - mean) / deviation;
    for (int64_t i = 0; i < s_.padding; ++i) to[l + i] = to[l - 1];
    mean_[q] = mean, deviation_[q] = deviation;
  }

  void mix(const Walk& walk, size_t i) {
    const Range all = walk.sequences;
    for (int64_t q = all.first; q < all.last; q += block_) {
      const Range block{q, least(q + block_, all.last)};
      const Range tokens = walk.group.share({0, block.size() * s_.patches}, kTile);
      project(walk, i, q * s_.patches, tokens);
      if (!s_.official) walk.group.meet();
      select(walk, i, tokens);
      walk.group.meet();
      scan(walk, i, block.size());
      walk.group.meet();
      leave(walk, i, q * s_.patches, tokens);
    }
  }

  // Tokens of a block are counted from its first, `start`.
  void project(const Walk& walk, size_t i, int64_t start, Range tokens) {
    const Bench& b = walk.bench;
    for (int64_t t = tokens.first; t < tokens.last; ++t) {
      float* const x = x_ + (start + t) * width_;
      if (i && s_.official) gate(start + t);
      rms_norm(x, net_.layers[i].norm, s_.width, net_.layers[i].eps, b.u + t * width_);
    }
    linear(
        layers_[i].in, tokens.first, tokens.last, [&](int64_t t) { return b.u + t * width_; },
        [&](int64_t t) { return b.xz + t * projected_; });
  }

  // x <- x + m sigma(scale) + sigma(shift) of what the mixer before left.
  void gate(int64_t t) {
    const int64_t q = t / s_.patches, at = (q / s_.series * s_.patches + t % s_.patches) * pooled_ + q % s_.series;
    float* const x = x_ + t * width_;
    const float* const m = mixed_ + t * width_;
    const F scale = f_set(gates_[0][at]), shift = f_set(gates_[1][at]);
    for (int64_t d = 0; d < s_.width; d += 16)
      f_store(x + d, f_add(f_load(x + d), f_fma(f_load(m + d), scale, shift)));
    for (int64_t d = s_.width; d < width_; ++d) x[d] = 0.f;
  }

  void select(const Walk& walk, size_t i, Range tokens) {
    const Bench& b = walk.bench;
    for (int64_t t = tokens.first; t < tokens.last; ++t)
      for (int64_t e = 0; e < s_.inner; e += 16) {
        const int n = static_cast<int>(least(16, s_.inner - e));
        const F x = s_.official ? load_lanes(b.xz + t * projected_ + e, n) : convolve(b, net_.layers[i], t, e, n);
        f_store(b.x + t * inner_ + e, f_silu(x));
      }
    linear(
        layers_[i].x, tokens.first, tokens.last, [&](int64_t t) { return b.x + t * inner_; },
        [&](int64_t t) { return b.dbcd + t * parts_; });
    linear(
        layers_[i].dt, tokens.first, tokens.last, [&](int64_t t) { return b.dbcd + t * parts_; },
        [&](int64_t t) { return b.dt + t * inner_; });
  }

  F convolve(const Bench& b, const CMambaLayer& l, int64_t t, int64_t e, int n) const {
    F sum = l.conv_bias ? load_lanes(l.conv_bias + e, n) : f_zero();
    const int64_t past = least(s_.taps - 1, t % s_.patches);
    for (int64_t ago = past; ago >= 0; --ago) {
      float taps[16] = {};
      for (int j = 0; j < n; ++j) taps[j] = l.conv_weight[(e + j) * s_.taps + s_.taps - 1 - ago];
      sum = f_fma(f_load(taps), load_lanes(b.xz + (t - ago) * projected_ + e, n), sum);
    }
    return sum;
  }

  void scan(const Walk& walk, size_t i, int64_t sequences) {
    const Bench& b = walk.bench;
    const float* const parts = b.dbcd + s_.rank;
    const Rows direct = s_.official ? Rows{parts + 2 * s_.states, parts_} : Rows{net_.layers[i].skip, 0};
    const ScanArgs args{sequences, s_.patches, s_.inner, s_.states,
                        {b.x, inner_}, {b.dt, inner_}, {parts, parts_}, {parts + s_.states, parts_},
                        direct, {b.xz + s_.inner, projected_},
                        layers_[i].rate, nullptr, nullptr, s_.official, true};
    const int64_t blocks = inner_ / 16;
    const Range items = walk.group.share({0, sequences * blocks});
    for (int64_t item = items.first; item < items.last; ++item) {
      const int64_t e = item % blocks * 16;
      run_block(Block{args, item / blocks, e, static_cast<int>(least(16, s_.inner - e))}, walk.rest, b.y, nullptr);
    }
  }

  void leave(const Walk& walk, size_t i, int64_t start, Range tokens) {
    const Bench& b = walk.bench;
    linear(
        layers_[i].out, tokens.first, tokens.last, [&](int64_t t) { return b.y + t * s_.inner; },
        [&](int64_t t) { return mixed_ + (start + t) * width_; });
    for (int64_t t = start + tokens.first; t < start + tokens.last; ++t) {
      const float* const m = mixed_ + t * width_;
      if (s_.official) {
        pool(m, t);
        continue;
      }
      float* const x = x_ + t * width_;
      for (int64_t d = 0; d < s_.width; d += 16) f_store(x + d, f_add(f_load(x + d), f_load(m + d)));
    }
  }

  void pool(const float* m, int64_t t) {
    const int64_t q = t / s_.patches, at = (q / s_.series * s_.patches + t % s_.patches) * 2 * pooled_ + q % s_.series;
    const int64_t whole = s_.width / 16 * 16;
    F sum = f_zero(), top = f_set(m[0]);
    for (int64_t d = 0; d < width_; d += 16) sum = f_add(sum, f_load(m + d));
    for (int64_t d = 0; d < whole; d += 16) top = f_max(top, f_load(m + d));
    float tops[16], most_of_all = m[0];
    f_store(tops, top);
    for (const float v : tops) most_of_all = v > most_of_all ? v : most_of_all;
    for (int64_t d = whole; d < s_.width; ++d) most_of_all = m[d] > most_of_all ? m[d] : most_of_all;
    pools_[at] = f_sum(sum) / static_cast<float>(s_.width);
    pools_[at + pooled_] = most_of_all;
  }

  // The MLPs along the series, one row for each sample and patch.
  void look_across(const Walk& walk, const PackedLayer& p) {
    const Range rows = walk.all.share({0, walk.samples * s_.patches}, kTile / 2);
    float *const hidden = walk.rest, *const sums = hidden + kRows * 2 * hidden_;
    for (int64_t first = rows.first; first < rows.last; first += kRows) {
      const int64_t n = least(kRows, rows.last - first);
      for (int which = 0; which < 2; ++which) {
        float* const out = gates_[which] + first * pooled_;
        linear(
            p.up[which], 0, 2 * n, [&](int64_t r) { return pools_ + (2 * first + r) * pooled_; },
            [&](int64_t r) { return hidden + r * hidden_; });
        for (int64_t r = 0; r < n; ++r)
          for (int64_t h = 0; h < hidden_; h += 16) {
            const float* const of_mean = hidden + 2 * r * hidden_ + h;
            f_store(sums + r * hidden_ + h, f_add(f_gelu(f_load(of_mean)), f_gelu(f_load(of_mean + hidden_))));
          }
        linear(
            p.down[which], 0, n, [&](int64_t r) { return sums + r * hidden_; },
            [&](int64_t r) { return out + r * pooled_; });
        for (int64_t v = 0; v < n * pooled_; v += 16) f_store(out + v, f_sigmoid(f_load(out + v)));
      }
    }
  }

  // The tokens of a sequence side by side, as the head reads them, where they were.
  void flatten(const Walk& walk) {
    const int64_t k = s_.patches, width = s_.width;
    const Range tokens = walk.group.share({walk.sequences.first * k, walk.sequences.last * k}, kTile);
    for (int64_t t = tokens.first; t < tokens.last; ++t) {
      float* const x = x_ + t * width_;
      if (!s_.official) {
        rms_norm(x, net_.norm, width, net_.eps, x);
        continue;
      }
      gate(t);
      for (int64_t d = 0; d < width; d += 16) f_store(x + d, f_silu(f_load(x + d)));
    }
    walk.group.meet();
    const Range mine = walk.group.share(walk.sequences);
    for (int64_t q = mine.first; q < mine.last; ++q) {
      float* const x = x_ + q * k * width_;
      for (int64_t i = 0; i < k * width_; ++i) walk.rest[i] = x[i];
      for (int64_t i = 0; i < k; ++i)
        for (int64_t d = 0; d < width; ++d) x[s_.official ? d * k + i : i * width + d] = walk.rest[i * width_ + d];
    }
  }

  void head(const Walk& walk, int64_t first) {
    constexpr int64_t kOutputs = 8 * kDotOutputs;
    const int64_t rows = walk.samples * sequences_a_sample_, inputs = s_.patches * s_.width;
    const int64_t outputs = s_.official ? s_.forecast : s_.series * s_.forecast, ld = s_.patches * width_;
    float* const out = out_ + first * s_.series * s_.forecast;
    const int64_t across = (outputs + kOutputs - 1) / kOutputs, down = (rows + kDotRows - 1) / kDotRows;
    const Range mine = walk.all.share({0, across * down});
    for (int64_t item = mine.first; item < mine.last; ++item) {
      const int64_t q = item / across * kDotRows, o = item % across * kOutputs;
      const int64_t last_row = least(q + kDotRows, rows), last = least(o + kOutputs, outputs);
      few_rows(net_.head, inputs, o, last, x_ + q * ld, ld, last_row - q, out + q * outputs, outputs);
      for (int64_t r = q; r < last_row; ++r)
        for (int64_t i = o; i < last; ++i) {
          float& y = out[r * outputs + i];
          y += net_.head_bias[i];
          if (s_.official) y = y * deviation_[r] + mean_[r];
        }
    }
  }

  const CMambaWeights& net_;
  const CMambaSizes& s_;
  const float* in_;
  float* out_;
  int64_t batch_, chunk_, block_, sequences_a_sample_, width_, inner_, projected_, parts_, pooled_, hidden_;
  int threads_;
  bool together_;  // all threads in one block of tokens, else each in blocks of its own
  Packed embedding_{};
  std::vector<PackedLayer> layers_;
  float *table_ = nullptr, *raw_ = nullptr, *mean_ = nullptr, *deviation_ = nullptr, *x_ = nullptr, *mixed_ = nullptr;
  float *pools_ = nullptr, *gates_[2] = {};
  Bench shared_{};
};

void forward(const CMambaWeights& net, const float* x, float* y, int64_t batch, int threads) {
  if (batch == 0) return;
  static thread_local Scratch<float> shared;
  Forward walk(net, x, y, batch, threads);
  walk.lay_out(shared.get(walk.lay_out(nullptr)));
#pragma omp parallel num_threads(walk.threads())
  {
    static thread_local Scratch<float> own;
    walk.run(Team::here(), own.get(walk.own_memory()));
  }
}

}  // namespace

const CMambaKernels SF_CMAMBA{forward};

}  // namespace sparseflow
