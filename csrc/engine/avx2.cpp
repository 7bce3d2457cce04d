#include <immintrin.h>

#include <cstring>

#include "engine/around.hpp"
#include "engine/conv.hpp"

namespace sparseflow {
namespace {

// Pairs of products in 16 bits hold codes up to 127 only; kWide takes all 256.
template <bool kWide>
struct Avx2 {
  static constexpr int64_t lanes = 8, most = 2;
  static constexpr double near[3] = {1.2, 1.1, 1.0}, far[3] = {1.3, 1.1, 1.0}, look = 0.3;
  static constexpr int64_t first_cache = 16384;
  using Sum = __m256i;
  using Weights = __m256i;

  static Sum load(const int32_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
  static void store(int32_t* to, Sum s) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), s); }
  static Weights weights(const int8_t* w) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)); }
  static __m256i broadcast(const uint8_t* x) {
    int32_t four;
    std::memcpy(&four, x, 4);
    return _mm256_set1_epi32(four);
  }
  static void dot(Sum& s, __m256i x, __m256i w) {
    const __m256i one = _mm256_set1_epi16(1);
    if constexpr (!kWide) {
      s = _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), one));
      return;
    }
    const __m256i even = _mm256_and_si256(x, _mm256_set1_epi16(255)), odd = _mm256_srli_epi16(x, 8);
    const __m256i low = _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), high = _mm256_srai_epi16(w, 8);
    s = _mm256_add_epi32(s, _mm256_add_epi32(_mm256_madd_epi16(even, low), _mm256_madd_epi16(odd, high)));
  }

  template <int P>
  static uint32_t not_zero(const uint8_t* const (&in)[P], int64_t at) {
    uint32_t zero = 0;
    for (int half = 0; half < 2; ++half) {
      __m256i any = _mm256_setzero_si256();
      for (int p = 0; p < P; ++p) {
        any = _mm256_or_si256(any, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in[p] + at + 32 * half)));
      }
      const __m256i none = _mm256_cmpeq_epi32(any, _mm256_setzero_si256());
      zero |= static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(none))) << (8 * half);
    }
    return zero ^ 0xffff;
  }
  static int64_t compress(int32_t* numbers, int32_t* places, uint32_t mask, int32_t number, int32_t place) {
    int64_t count = 0;
    for (; mask != 0; mask &= mask - 1, ++count) {
      const int i = __builtin_ctz(mask);
      numbers[count] = number + i;
      places[count] = place + 4 * i;
    }
    return count;
  }

  template <int NV>
  static void finish(const Sum (&sum)[NV], const ConvArgs& a, int64_t out, int64_t channel) {
    static_assert(NV == 2);
    const Finish& f = a.finish;
    const int64_t wide = std::min<int64_t>(kLane, a.cout - channel);
    float steps[kLane];
    int32_t codes[kLane];
    for (int v = 0; v < 2; ++v) {
      const __m256 total = _mm256_add_ps(_mm256_cvtepi32_ps(sum[v]), _mm256_loadu_ps(f.bias + channel + 8 * v));
      const __m256 scaled = _mm256_mul_ps(total, _mm256_loadu_ps(f.multiplier + channel + 8 * v));
      _mm256_storeu_ps(steps + 8 * v, scaled);
      const __m256 inside = _mm256_min_ps(_mm256_max_ps(scaled, _mm256_set1_ps(f.low)), _mm256_set1_ps(f.high));
      const __m256i code = _mm256_add_epi32(_mm256_cvtps_epi32(inside), _mm256_set1_epi32(f.zero));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + 8 * v), code);
    }
    if (a.real != nullptr) {
      for (int64_t i = 0; i < wide; ++i) {
        a.real[out + channel + i] = f.clamp ? std::min(f.high, std::max(f.low, steps[i])) : steps[i];
      }
      return;
    }
    uint8_t* const to = a.out.at + out + channel;
    if (f.table != nullptr) {
      for (int64_t i = 0; i < wide; ++i) to[i] = f.table[codes[i]];
    } else {
      for (int64_t i = 0; i < wide; ++i) to[i] = static_cast<uint8_t>(codes[i]);
    }
  }

  struct Lane {
    __m256i low, high;
    explicit Lane(const int32_t* from) : low(load(from)), high(load(from + 8)) {}
    void add(const uint8_t* x, const int16_t* w) {
      const __m256i wide = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
      const __m256i by = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
      const __m256i product = _mm256_mullo_epi16(wide, by);  // at most 255 * 127, which fits
      low = _mm256_add_epi32(low, _mm256_cvtepi16_epi32(_mm256_castsi256_si128(product)));
      high = _mm256_add_epi32(high, _mm256_cvtepi16_epi32(_mm256_extracti128_si256(product, 1)));
    }
    void store(int32_t* to) const {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), low);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 8), high);
    }
  };

  static void largest(const uint8_t* const* in, int64_t count, uint8_t* out, int64_t n) {
    int64_t c = 0;
    for (; c + 32 <= n; c += 32) {
      __m256i most = _mm256_setzero_si256();
      for (int64_t i = 0; i < count; ++i) {
        most = _mm256_max_epu8(most, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in[i] + c)));
      }
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + c), most);
    }
    for (; c < n; ++c) {
      out[c] = 0;
      for (int64_t i = 0; i < count; ++i) out[c] = std::max(out[c], in[i][c]);
    }
  }
  static void look_up(const uint8_t* table, const uint8_t* in, uint8_t* out, int64_t n) {
    for (int64_t i = 0; i < n; ++i) out[i] = table[in[i]];
  }
};

void any_conv(const ConvArgs& a, int64_t part, int64_t parts, Lists& lists) {
  a.small ? conv<Avx2<false>>(a, part, parts, lists) : conv<Avx2<true>>(a, part, parts, lists);
}

}  // namespace

const EngineKernels engine_avx2{"avx2", any_conv, depthwise<Avx2<true>>, max_pool<Avx2<true>>, average_pool,
                                mean,   sum,      move<Avx2<true>>,      quantize};

}  // namespace sparseflow
