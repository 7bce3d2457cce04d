#pragma once
// The forward of a forecaster in integers, as src/sparseflow/ops/fixed_point/README.md has it. Included once per
// instruction set, so everything here has internal linkage. Codes of eight bits are kept with 128 added.
#include <cstddef>
#include <cstring>

#include "cmamba/integer_plain.hpp"
#include "cmamba/team.hpp"
#include "event/scratch.hpp"

namespace sparseflow {
namespace {

constexpr int64_t kChunkOfTokens = 4096;
constexpr int64_t kWorkOfThread = 1 << 21;  // multiplications worth a thread

inline int64_t up64(int64_t n) { return (n + 63) / 64 * 64; }

// a / d to nearest, halves to even; d > 0.
inline int64_t divide(int64_t a, int64_t d) {
  int64_t q = a / d, r = a % d;
  if (r < 0) r += d, --q;
  return q + (2 * r > d || (2 * r == d && (q & 1)));
}

inline int64_t root_of(int64_t v) {
  int64_t root = 0;
  for (int bit = 30; bit >= 0; --bit) {
    const int64_t next = root | (int64_t{1} << bit);
    if (next * next <= v) root = next;
  }
  return root;
}

// Rows [first, last): in(row) are codes, put(row, output, values, n) takes n requantised sums.
template <class In, class Put>
void linear(const IntegerLinear& l, int64_t first, int64_t last, const In& in, const Put& put) {
  int32_t sums[kRowsAtOnce][64];
  const uint8_t* ins[kRowsAtOnce];
  for (int64_t panel = 0; panel * 64 < l.outputs; ++panel) {
    const int64_t at = panel * 64, n = least(64, l.outputs - at);
    for (int64_t row = first; row < last; row += kRowsAtOnce) {
      const int64_t rows = least(kRowsAtOnce, last - row);
      for (int64_t r = 0; r < rows; ++r) ins[r] = in(row + r);
      products(l, panel, ins, rows, sums);
      for (int64_t r = 0; r < rows; ++r) {
        requant_all(sums[r], l.multiplier.data() + at, l.shift.data() + at, l.limit, n);
        put(row + r, at, sums[r], n);
      }
    }
  }
}

inline void put_codes(uint8_t* to, const int32_t* values, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<uint8_t>(values[i] + 128);
}

class IntegerForward {
 public:
  IntegerForward(const IntegerWeights& net, const int32_t* in, int32_t* out, int64_t batch, int threads)
      : net_(net), s_(net.sizes), in_(in), out_(out), batch_(batch) {
    const int64_t tokens = s_.series * s_.patches;
    chunk_ = least(batch, most(1, kChunkOfTokens / tokens));
    // In double, which does not overflow, whatever the sizes.
    const double work = 4.0 * static_cast<double>(batch * tokens) * static_cast<double>(s_.layers * s_.width) *
                        static_cast<double>(s_.inner) / static_cast<double>(kWorkOfThread);
    threads_ = work < threads ? static_cast<int>(most(1, static_cast<int64_t>(work))) : threads;
  }

  int threads() const { return threads_; }

  // Memory that all threads share, from `at` on. Returns how many bytes it is; a read may pass a row by 64 bytes.
  int64_t lay_out(uint8_t* at) {
    int64_t used = 0;
    const auto take = [&](auto*& part, int64_t count) {
      using T = std::remove_reference_t<decltype(*part)>;
      if (at) part = reinterpret_cast<T*>(at + used);
      used += up64(count * static_cast<int64_t>(sizeof(T))) + 64;
    };
    const int64_t sequences = chunk_ * s_.series, tokens = sequences * s_.patches, rows = chunk_ * s_.patches;
    inner_ = up64(s_.inner), width_ = up64(s_.width), parts_ = up64(s_.rank + 2 * s_.states + s_.inner);
    series_ = up64(s_.series), hidden_ = up64(2 * s_.hidden), flat_ = up64(s_.width * s_.patches);
    take(raw_, sequences * (s_.length + s_.padding)), take(mean_, sequences), take(deviation_, sequences);
    take(x_, tokens * width_), take(y_, tokens * width_), take(u_, tokens * width_);
    take(xs_, tokens * inner_), take(z_, tokens * inner_), take(p_, tokens * inner_), take(mixed_, tokens * inner_);
    take(dbcd_, tokens * parts_);
    take(wide_, tokens * width_);
    take(pools_, rows * 2 * series_), take(between_, rows * hidden_), take(gates_[0], rows * series_);
    take(gates_[1], rows * series_), take(tokens_, sequences * flat_);
    return used;
  }

  void run(Team team, int16_t* states) {
    const int64_t k = s_.patches;
    for (int64_t first = 0; first < batch_; first += chunk_) {
      const int64_t samples = least(chunk_, batch_ - first), sequences = samples * s_.series;
      const Range mine = team.share({0, sequences * k}, kRowsAtOnce), own = team.share({0, sequences});
      for (int64_t q = own.first; q < own.last; ++q) standardize(in_ + (first * s_.series + q) * s_.length, q);
      team.meet();
      embed(mine);
      for (size_t i = 0; i < net_.layers.size(); ++i) {
        project(net_.layers[i], mine, i > 0);
        team.meet();
        const int64_t blocks = (s_.inner + 15) / 16;
        const Range items = team.share({0, sequences * blocks});
        for (int64_t item = items.first; item < items.last; ++item)
          scan(net_.layers[i], item / blocks, item % blocks * 16, states);
        team.meet();
        leave_mixer(net_.layers[i], mine);
        team.meet();
        look_across(net_.layers[i], team.share({0, samples * k}, kRowsAtOnce));
        team.meet();
      }
      flatten(mine);
      team.meet();
      head(team.share({0, sequences}), out_ + first * s_.series * s_.forecast);
      team.meet();
    }
  }

 private:
  void standardize(const int32_t* x, int64_t q) {
    const int64_t length = s_.length;
    int64_t sum = 0, squares = 0;
    for (int64_t i = 0; i < length; ++i) sum += x[i];
    const int64_t mean = divide(sum, length);
    for (int64_t i = 0; i < length; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const int64_t deviation = root_of((divide(squares, length) + 42950) << 10);
    uint8_t* const to = raw_ + q * (length + s_.padding);
    for (int64_t i = 0; i < length; ++i)
      to[i] = static_cast<uint8_t>(
          clamp(divide((x[i] - mean) * net_.standardize, deviation << 16), net_.standardize_limit) + 128);
    for (int64_t i = 0; i < s_.padding; ++i) to[length + i] = to[length - 1];
    mean_[q] = mean, deviation_[q] = deviation;
  }

  void embed(Range tokens) {
    const int64_t k = s_.patches, row = s_.length + s_.padding;
    linear(
        net_.embedding, tokens.first, tokens.last,
        [&](int64_t t) { return raw_ + t / k * row + t % k * s_.stride; },
        [&](int64_t t, int64_t o, const int32_t* v, int64_t n) {
          const int16_t* const position = net_.positions.data() + t % k * s_.width + o;
          for (int64_t i = 0; i < n; ++i) x_[t * width_ + o + i] = static_cast<int16_t>(clamp(v[i] + position[i], 32767));
        });
  }

  // X <- X + gate of what the mixer before left.
  void gate(int64_t t) {
    const int64_t q = t / s_.patches, at = (q / s_.series * s_.patches + t % s_.patches) * series_ + q % s_.series;
    const int32_t scale = gates_[0][at], shift = gates_[1][at];
    int16_t* const x = x_ + t * width_;
    const int16_t* const y = y_ + t * width_;
    for (int64_t d = 0; d < s_.width; ++d) {
      const int32_t v = y[d] * scale, gated = within(((v + 16383 + ((v >> 15) & 1)) >> 15) + shift, 32767);
      x[d] = static_cast<int16_t>(within(x[d] + gated, 32767));
    }
  }

  void norm(const IntegerLayer& l, const int16_t* x, int32_t* wide, uint8_t* u) const {
    int64_t v = l.eps;
    for (int64_t d = 0; d < s_.width; ++d) v += int32_t{x[d]} * x[d];
    int bits = 0;
    while (v >> bits) ++bits;
    const int e = (bits - 1) / 2, left = 30 - 2 * e;
    const int64_t m = left >= 0 ? v << left : rne(v, -left), guess = net_.rsqrt[static_cast<size_t>((m >> 24) - 64)];
    const int64_t root = rne(guess * (3 * (int64_t{1} << 30) - rne(m * guess * guess, 30)), 16);
    // x / sqrt(v) is 1 or less, and has 24 fraction bits.
    for (int64_t d = 0; d < s_.width; ++d) wide[d] = x[d];
    requant_same(wide, root, 6 + e, INT32_MAX, s_.width);
    requant_all(wide, l.norm_multiplier.data(), l.norm_shift.data(), l.norm_limit, s_.width);
    put_codes(u, wide, s_.width);
  }

  void project(const IntegerLayer& l, Range tokens, bool after_another) {
    const int64_t e = s_.inner;
    for (int64_t t = tokens.first; t < tokens.last; ++t) {
      if (after_another) gate(t);
      norm(l, x_ + t * width_, wide_ + t * width_, u_ + t * width_);
    }
    linear(
        l.in, tokens.first, tokens.last, [&](int64_t t) { return u_ + t * width_; },
        [&](int64_t t, int64_t o, const int32_t* v, int64_t n) {
          const int64_t to_x = most(0, least(n, e - o));
          for (int64_t i = 0; i < to_x; ++i) xs_[t * inner_ + o + i] = static_cast<uint8_t>(l.act[size_t(v[i] + 128)] + 128);
          if (to_x < n) put_codes(z_ + t * inner_ + o + to_x - e, v + to_x, n - to_x);
        });
    linear(
        l.x, tokens.first, tokens.last, [&](int64_t t) { return xs_ + t * inner_; },
        [&](int64_t t, int64_t o, const int32_t* v, int64_t n) { put_codes(dbcd_ + t * parts_ + o, v, n); });
    linear(
        l.dt, tokens.first, tokens.last, [&](int64_t t) { return dbcd_ + t * parts_; },
        [&](int64_t t, int64_t o, const int32_t* v, int64_t n) { put_codes(p_ + t * inner_ + o, v, n); });
  }

  void scan(const IntegerLayer& l, int64_t q, int64_t first, int16_t* states) {
    const int64_t t = q * s_.patches;
    const ScanBlock block{l, s_.patches, s_.states, parts_, xs_ + t * inner_, p_ + t * inner_, z_ + t * inner_,
                          dbcd_ + t * parts_, inner_, s_.rank, first, least(16, s_.inner - first), mixed_ + t * inner_};
    scan_block(block, states);
  }

  void leave_mixer(const IntegerLayer& l, Range tokens) {
    linear(
        l.out, tokens.first, tokens.last, [&](int64_t t) { return mixed_ + t * inner_; },
        [&](int64_t t, int64_t o, const int32_t* v, int64_t n) {
          for (int64_t i = 0; i < n; ++i) y_[t * width_ + o + i] = static_cast<int16_t>(v[i]);
        });
    for (int64_t t = tokens.first; t < tokens.last; ++t) {
      const int16_t* const y = y_ + t * width_;
      int32_t sum = 0, top = y[0];
      for (int64_t d = 0; d < s_.width; ++d) sum += y[d], top = y[d] > top ? y[d] : top;
      const int64_t q = t / s_.patches, row = q / s_.series * s_.patches + t % s_.patches;
      uint8_t* const pools = pools_ + row * 2 * series_ + q % s_.series;
      pools[0] = static_cast<uint8_t>(requant(sum, l.pool_multiplier[0], l.pool_shift[0], l.pool_limit) + 128);
      pools[series_] = static_cast<uint8_t>(requant(top, l.pool_multiplier[1], l.pool_shift[1], l.pool_limit) + 128);
    }
  }

  void look_across(const IntegerLayer& l, Range rows) {
    for (int i = 0; i < 2; ++i) {
      for (int q = 0; q < 2; ++q)
        linear(
            l.up[i][q], rows.first, rows.last, [&](int64_t r) { return pools_ + (2 * r + q) * series_; },
            [&](int64_t r, int64_t o, const int32_t* v, int64_t n) {
              uint8_t* const to = between_ + r * hidden_ + q * s_.hidden + o;
              for (int64_t h = 0; h < n; ++h) to[h] = static_cast<uint8_t>(l.gelu[i][size_t(v[h] + 128)] + 128);
            });
      linear(
          l.down[i], rows.first, rows.last, [&](int64_t r) { return between_ + r * hidden_; },
          [&](int64_t r, int64_t o, const int32_t* v, int64_t n) {
            for (int64_t s = 0; s < n; ++s) gates_[i][r * series_ + o + s] = l.gate[i][size_t(v[s] + 128)];
          });
    }
  }

  void flatten(Range tokens) {
    const int64_t k = s_.patches;
    for (int64_t t = tokens.first; t < tokens.last; ++t) {
      gate(t);
      uint8_t* const to = tokens_ + t / k * flat_ + t % k;
      const int16_t* const x = x_ + t * width_;
      int32_t* const codes = wide_ + t * width_;
      for (int64_t d = 0; d < s_.width; ++d) codes[d] = x[d] + net_.act_bias;
      requant_same(codes, net_.act_multiplier, net_.act_shift, net_.act_limit, s_.width);
      for (int64_t d = 0; d < s_.width; ++d)
        to[d * k] = static_cast<uint8_t>(net_.act[size_t(codes[d] + 128)] + 128);
    }
  }

  void head(Range sequences, int32_t* out) {
    linear(
        net_.head, sequences.first, sequences.last, [&](int64_t q) { return tokens_ + q * flat_; },
        [&](int64_t q, int64_t o, const int32_t* v, int64_t n) {
          for (int64_t i = 0; i < n; ++i)
            out[q * s_.forecast + o + i] = clamp(rne(v[i] * deviation_[q], 25) + mean_[q], 2147483647);
        });
  }

  const IntegerWeights& net_;
  const CMambaSizes& s_;
  const int32_t* in_;
  int32_t* out_;
  int64_t batch_, chunk_, inner_ = 0, width_ = 0, parts_ = 0, series_ = 0, hidden_ = 0, flat_ = 0;
  int threads_;
  uint8_t *raw_ = nullptr, *u_ = nullptr, *xs_ = nullptr, *z_ = nullptr, *p_ = nullptr, *mixed_ = nullptr;
  uint8_t *dbcd_ = nullptr, *pools_ = nullptr, *between_ = nullptr, *tokens_ = nullptr;
  int16_t *x_ = nullptr, *y_ = nullptr, *gates_[2] = {};
  int32_t* wide_ = nullptr;
  int64_t *mean_ = nullptr, *deviation_ = nullptr;
};

void integer_forward(const IntegerWeights& net, const int32_t* x, int32_t* y, int64_t batch, int threads) {
  if (batch == 0) return;
  static thread_local Scratch<uint8_t> shared;
  IntegerForward walk(net, x, y, batch, threads);
  walk.lay_out(shared.get(walk.lay_out(nullptr)));
#pragma omp parallel num_threads(walk.threads())
  {
    static thread_local Scratch<int16_t> own;
    walk.run(Team::here(), own.get(16 * net.sizes.states + 64));
  }
}

void integer_linear(const IntegerLinear& l, const uint8_t* x, int32_t* y, int64_t rows) {
  std::vector<uint8_t> in(static_cast<size_t>(rows * l.inputs + 64));
  if (in.size() > 64) std::memcpy(in.data(), x, in.size() - 64);
  linear(
      l, 0, rows, [&](int64_t row) { return in.data() + row * l.inputs; },
      [&](int64_t row, int64_t o, const int32_t* v, int64_t n) {
        std::memcpy(y + row * l.outputs + o, v, static_cast<size_t>(n) * sizeof *v);
      });
}

void integer_scan(const IntegerLayer& l, int64_t states, int64_t channels, const uint8_t* x, const uint8_t* p,
                  const uint8_t* z, const uint8_t* bcd, uint8_t* out, int64_t sequences, int64_t steps) {
  const int64_t inner = up64(channels), parts = 2 * states + channels, width = up64(parts) + 64;
  // Rows of x, p, z, out and dbcd with room behind them, as the network has them.
  std::vector<uint8_t> rows(static_cast<size_t>(steps * (4 * inner + width) + 64));
  std::vector<int16_t> h(static_cast<size_t>(16 * states + 64));
  uint8_t* const at[] = {rows.data(), rows.data() + steps * inner, rows.data() + 2 * steps * inner,
                         rows.data() + 3 * steps * inner, rows.data() + 4 * steps * inner};
  for (int64_t s = 0; s < sequences; ++s) {
    const uint8_t* const from[] = {x, p, z};
    for (int64_t k = 0; k < steps; ++k) {
      const int64_t t = s * steps + k;
      for (int i = 0; i < 3; ++i) std::memcpy(at[i] + k * inner, from[i] + t * channels, static_cast<size_t>(channels));
      std::memcpy(at[4] + k * width, bcd + t * parts, static_cast<size_t>(parts));
    }
    for (int64_t first = 0; first < channels; first += 16)
      scan_block({l, steps, states, width, at[0], at[1], at[2], at[4], inner, 0, first, least(16, channels - first), at[3]},
                 h.data());
    for (int64_t k = 0; k < steps; ++k)
      std::memcpy(out + (s * steps + k) * channels, at[3] + k * inner, static_cast<size_t>(channels));
  }
}

}  // namespace

const IntegerKernels SF_INTEGER{integer_forward, integer_linear, integer_scan};

}  // namespace sparseflow
