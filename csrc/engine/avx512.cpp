#include <immintrin.h>

#include "engine/around.hpp"
#include "engine/conv.hpp"

namespace sparseflow {
namespace {

// A table of 256 bytes in four registers, read at 64 places by two permutations.
inline __m512i read_table(const uint8_t* table, __m512i at) {
  const __m512i low = _mm512_permutex2var_epi8(_mm512_loadu_si512(table), at, _mm512_loadu_si512(table + 64));
  const __m512i high = _mm512_permutex2var_epi8(_mm512_loadu_si512(table + 128), at, _mm512_loadu_si512(table + 192));
  return _mm512_mask_blend_epi8(_mm512_movepi8_mask(at), low, high);
}

inline __mmask64 first(int64_t n) { return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1; }

struct Vnni {
  static constexpr int64_t lanes = kLane, most = 4;
  static constexpr double near[3] = {1.5, 1.1, 1.03}, far[3] = {1.9, 1.15, 1.03}, look = 0.15;
  static constexpr int64_t first_cache = 24576;
  using Sum = __m512i;
  using Weights = __m512i;

  static Sum load(const int32_t* from) { return _mm512_loadu_si512(from); }
  static void store(int32_t* to, Sum s) { _mm512_storeu_si512(to, s); }
  static Weights weights(const int8_t* w) { return _mm512_loadu_si512(w); }
  static __m512i broadcast(const uint8_t* x) {
    int32_t four;
    __builtin_memcpy(&four, x, 4);
    return _mm512_set1_epi32(four);
  }
  // By the intrinsic gcc 12 copies every sum to another register and back.
  static void dot(Sum& sum, __m512i x, __m512i w) {
    __m512i s = sum;
    asm("vpdpbusd %2, %1, %0" : "+v"(s) : "v"(x), "v"(w));
    sum = s;
  }

  template <int P>
  static uint32_t not_zero(const uint8_t* const (&in)[P], int64_t at) {
    __m512i any = _mm512_loadu_si512(in[0] + at);
    for (int p = 1; p < P; ++p) any = _mm512_or_si512(any, _mm512_loadu_si512(in[p] + at));
    return _mm512_test_epi32_mask(any, any);
  }
  static int64_t compress(int32_t* numbers, int32_t* places, uint32_t mask, int32_t number, int32_t place) {
    const __m512i i = _mm512_maskz_compress_epi32(
        static_cast<__mmask16>(mask), _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
    _mm512_storeu_si512(numbers, _mm512_add_epi32(i, _mm512_set1_epi32(number)));
    _mm512_storeu_si512(places, _mm512_add_epi32(_mm512_slli_epi32(i, 2), _mm512_set1_epi32(place)));
    return __builtin_popcount(mask);
  }

  template <int NV>
  static void finish(const Sum (&sum)[NV], const ConvArgs& a, int64_t out, int64_t channel) {
    const Finish& f = a.finish;
    const __m512 low = _mm512_set1_ps(f.low), high = _mm512_set1_ps(f.high);
    __m128i codes[4] = {};
    for (int v = 0; v < NV; ++v) {
      const int64_t at = channel + kLane * v;
      const __m512 total = _mm512_add_ps(_mm512_cvtepi32_ps(sum[v]), _mm512_loadu_ps(f.bias + at));
      __m512 steps = _mm512_mul_ps(total, _mm512_loadu_ps(f.multiplier + at));
      if (a.real != nullptr) {
        if (f.clamp) steps = _mm512_min_ps(_mm512_max_ps(steps, low), high);
        _mm512_mask_storeu_ps(a.real + out + at, static_cast<__mmask16>(first(a.cout - at) & 0xffff), steps);
        continue;
      }
      const __m512i code = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(steps, low), high));
      codes[v] = _mm512_cvtepi32_epi8(_mm512_add_epi32(code, _mm512_set1_epi32(f.zero)));
    }
    if (a.real != nullptr) return;
    __m512i all = _mm512_castsi128_si512(codes[0]);
    if constexpr (NV > 1) all = _mm512_inserti32x4(all, codes[1], 1);
    if constexpr (NV > 2) all = _mm512_inserti32x4(all, codes[2], 2);
    if constexpr (NV > 3) all = _mm512_inserti32x4(all, codes[3], 3);
    if (f.table != nullptr) all = read_table(f.table, all);
    _mm512_mask_storeu_epi8(a.out.at + out + channel, first(std::min<int64_t>(a.cout - channel, NV * kLane)), all);
  }

  struct Lane {
    __m512i at;
    explicit Lane(const int32_t* from) : at(load(from)) {}
    void add(const uint8_t* x, const int16_t* w) {
      const __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
      const __m512i by = _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)));
      at = _mm512_add_epi32(at, _mm512_madd_epi16(wide, by));  // the upper halves of wide are 0
    }
    void store(int32_t* to) const { _mm512_storeu_si512(to, at); }
  };

  static void largest(const uint8_t* const* in, int64_t count, uint8_t* out, int64_t n) {
    for (int64_t c = 0; c < n; c += 64) {
      const __mmask64 some = first(n - c);
      __m512i most = _mm512_setzero_si512();
      for (int64_t i = 0; i < count; ++i) most = _mm512_max_epu8(most, _mm512_maskz_loadu_epi8(some, in[i] + c));
      _mm512_mask_storeu_epi8(out + c, some, most);
    }
  }
  static void look_up(const uint8_t* table, const uint8_t* in, uint8_t* out, int64_t n) {
    for (int64_t i = 0; i < n; i += 64) {
      const __mmask64 some = first(n - i);
      _mm512_mask_storeu_epi8(out + i, some, read_table(table, _mm512_maskz_loadu_epi8(some, in + i)));
    }
  }
};

}  // namespace

const EngineKernels engine_avx512{"avx512", conv<Vnni>, depthwise<Vnni>, max_pool<Vnni>, average_pool,
                                  mean,     sum,        move<Vnni>,      quantize};

}  // namespace sparseflow
