#include <cstring>

#include "engine/around.hpp"
#include "engine/conv.hpp"

namespace sparseflow {
namespace {

struct Scalar {
  static constexpr int64_t lanes = kLane, most = 1;
  static constexpr double near[3] = {1.2, 1.1, 1.0}, far[3] = {1.2, 1.1, 1.0}, look = 0.3;
  static constexpr int64_t first_cache = 16384;
  struct Sum {
    int32_t at[kLane];
  };
  using Weights = const int8_t*;

  static Sum load(const int32_t* from) {
    Sum s;
    std::memcpy(s.at, from, sizeof s.at);
    return s;
  }
  static void store(int32_t* to, const Sum& s) { std::memcpy(to, s.at, sizeof s.at); }
  static Weights weights(const int8_t* w) { return w; }
  static const uint8_t* broadcast(const uint8_t* x) { return x; }
  static void dot(Sum& s, const uint8_t* x, Weights w) {
    for (int i = 0; i < kLane; ++i) {
      s.at[i] += x[0] * w[4 * i] + x[1] * w[4 * i + 1] + x[2] * w[4 * i + 2] + x[3] * w[4 * i + 3];
    }
  }

  template <int P>
  static uint32_t not_zero(const uint8_t* const (&in)[P], int64_t at) {
    uint32_t mask = 0;
    for (int i = 0; i < 16; ++i) {
      uint32_t any = 0;
      for (int p = 0; p < P; ++p) {
        uint32_t one;
        std::memcpy(&one, in[p] + at + 4 * i, 4);
        any |= one;
      }
      mask |= static_cast<uint32_t>(any != 0) << i;
    }
    return mask;
  }
  static int64_t compress(int32_t* numbers, int32_t* places, uint32_t mask, int32_t number, int32_t place) {
    int64_t count = 0;
    for (int i = 0; i < 16; ++i) {
      numbers[count] = number + i;
      places[count] = place + 4 * i;
      count += mask >> i & 1;
    }
    return count;
  }

  template <int NV>
  static void finish(const Sum (&sum)[NV], const ConvArgs& a, int64_t out, int64_t channel) {
    const Finish& f = a.finish;
    const int64_t wide = std::min<int64_t>(kLane, a.cout - channel);
    for (int64_t i = 0; i < wide; ++i) {
      const float steps = (static_cast<float>(sum[0].at[i]) + f.bias[channel + i]) * f.multiplier[channel + i];
      if (a.real != nullptr) {
        a.real[out + channel + i] = f.clamp ? std::min(f.high, std::max(f.low, steps)) : steps;
      } else {
        uint8_t& code = a.out.at[out + channel + i];
        code = finished(steps, f);
        if (f.table != nullptr) code = f.table[code];
      }
    }
  }

  struct Lane {
    int32_t at[kLane];
    explicit Lane(const int32_t* from) { std::memcpy(at, from, sizeof at); }
    void add(const uint8_t* x, const int16_t* w) {
      for (int i = 0; i < kLane; ++i) at[i] += x[i] * w[i];
    }
    void store(int32_t* to) const { std::memcpy(to, at, sizeof at); }
  };

  static void largest(const uint8_t* const* in, int64_t count, uint8_t* out, int64_t n) {
    std::fill(out, out + n, uint8_t{0});
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t c = 0; c < n; ++c) out[c] = std::max(out[c], in[i][c]);
    }
  }
  static void look_up(const uint8_t* table, const uint8_t* in, uint8_t* out, int64_t n) {
    for (int64_t i = 0; i < n; ++i) out[i] = table[in[i]];
  }
};

}  // namespace

const EngineKernels engine_scalar{"scalar", conv<Scalar>, depthwise<Scalar>, max_pool<Scalar>, average_pool,
                                  mean,     sum,          move<Scalar>,      quantize};

}  // namespace sparseflow
