#pragma once
// The scan of sixteen channels with sixteen states each, in vectors of 256 bits. Included where AVX2 is on, after
// cmamba/integer_plain.hpp. A row of a block has room for sixteen channels, so all are computed, however many there are.
#include <immintrin.h>

#include <cstring>

namespace sparseflow {
namespace {

// v / 2^s to nearest, halves to even, then within +-limit, in lanes of 64 bits; 1 <= s <= 62, |v| <= 2^62. AVX2 shifts
// signed lanes of 32 bits alone: 2^63 is added before and 2^(63 - s) taken off behind.
class Requant64 {
 public:
  Requant64(int64_t shift, int64_t limit)
      : count_(_mm_cvtsi64_si128(shift)),
        half_(_mm256_set1_epi64x((int64_t{1} << (shift - 1)) - 1)),
        back_(_mm256_set1_epi64x(int64_t{1} << (63 - shift))),
        top_(_mm256_set1_epi64x(limit)),
        bottom_(_mm256_set1_epi64x(-limit)) {}

  __m256i operator()(__m256i v) const {
    const __m256i raised = _mm256_xor_si256(v, _mm256_set1_epi64x(INT64_MIN));
    const __m256i odd = _mm256_and_si256(_mm256_srl_epi64(raised, count_), _mm256_set1_epi64x(1));
    const __m256i sum = _mm256_add_epi64(raised, _mm256_add_epi64(half_, odd));
    const __m256i found = _mm256_sub_epi64(_mm256_srl_epi64(sum, count_), back_);
    const __m256i low = _mm256_blendv_epi8(found, top_, _mm256_cmpgt_epi64(found, top_));
    return _mm256_blendv_epi8(low, bottom_, _mm256_cmpgt_epi64(bottom_, low));
  }

  // Eight sums of 32 bits times one factor each, and two of those products.
  __m256i operator()(__m256i a, __m256i by, __m256i b, __m256i with) const {
    const auto high = [](__m256i v) { return _mm256_srli_epi64(v, 32); };
    const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(a, by), _mm256_mul_epi32(b, with));
    const __m256i odd = _mm256_add_epi64(_mm256_mul_epi32(high(a), by), _mm256_mul_epi32(high(b), with));
    return _mm256_blend_epi32((*this)(even), _mm256_slli_epi64((*this)(odd), 32), 0xaa);
  }

 private:
  __m128i count_;
  __m256i half_, back_, top_, bottom_;
};

inline __m128i load16(const uint8_t* at) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at)); }

inline __m256i eight_codes(const uint8_t* at) {
  return _mm256_sub_epi32(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at))),
                          _mm256_set1_epi32(128));
}

inline __m256i sixteen_codes(const uint8_t* at) {
  return _mm256_sub_epi16(_mm256_cvtepu8_epi16(load16(at)), _mm256_set1_epi16(128));
}

class WideScan {
 public:
  WideScan(const ScanBlock& b, int16_t* states)
      : b_(b),
        h_(states),
        t_(_mm_cvtsi32_si128(b.layer.t)),
        j_(_mm_cvtsi32_si128(b.layer.j)),
        t_half_(_mm256_set1_epi32(b.layer.t ? (1 << (b.layer.t - 1)) - 1 : 0)),
        t_one_(_mm256_set1_epi32(b.layer.t ? 1 : 0)),
        y_(b.layer.y_shift, 32767),
        out_(b.layer.scan_shift, b.layer.scan_limit) {}

  void run() const {
    std::memset(h_, 0, 16 * 16 * sizeof *h_);
    alignas(32) int16_t w[16];
    alignas(32) int32_t sums[16];
    for (int64_t k = 0; k < b_.steps; ++k) {
      enter(k, w);
      step(k, w, sums);
      leave(k, sums);
    }
  }

 private:
  // w = sat(rne(delta[p] x, t)).
  void enter(int64_t k, int16_t* w) const {
    const int64_t at = k * b_.inner + b_.first;
    alignas(32) int32_t delta[16];
    for (int e = 0; e < 16; ++e) delta[e] = b_.layer.delta[b_.p[at + e]];
    const auto eight = [&](int e) {
      const __m256i steps = _mm256_load_si256(reinterpret_cast<const __m256i*>(delta + e));
      const __m256i v = _mm256_mullo_epi32(steps, eight_codes(b_.x + at + e));
      const __m256i odd = _mm256_and_si256(_mm256_sra_epi32(v, t_), t_one_);
      return _mm256_sra_epi32(_mm256_add_epi32(v, _mm256_add_epi32(t_half_, odd)), t_);
    };
    const __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(eight(0), eight(8)), 0xd8);
    _mm256_store_si256(reinterpret_cast<__m256i*>(w), _mm256_max_epi16(both, _mm256_set1_epi16(-32767)));
  }

  // h = sat(rne(a h + (w B << j), 15)), and the products with C of each channel, summed by fours.
  __m256i channel(const uint8_t* p, int e, int16_t w, __m256i raised, __m256i read) const {
    __m256i* const state = reinterpret_cast<__m256i*>(h_ + e * 16);
    const __m256i h = _mm256_loadu_si256(state), ws = _mm256_set1_epi16(w);
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b_.layer.decay.data() + p[e] * 16));
    const auto round = [](__m256i v) {
      const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(v, 15), _mm256_set1_epi32(1));
      return _mm256_srai_epi32(_mm256_add_epi32(v, _mm256_add_epi32(_mm256_set1_epi32(16383), odd)), 15);
    };
    const __m256i low = _mm256_madd_epi16(_mm256_unpacklo_epi16(a, ws), _mm256_unpacklo_epi16(h, raised));
    const __m256i high = _mm256_madd_epi16(_mm256_unpackhi_epi16(a, ws), _mm256_unpackhi_epi16(h, raised));
    const __m256i next = _mm256_max_epi16(_mm256_packs_epi32(round(low), round(high)), _mm256_set1_epi16(-32767));
    _mm256_storeu_si256(state, next);
    return _mm256_madd_epi16(next, read);
  }

  void step(int64_t k, const int16_t* w, int32_t* sums) const {
    const uint8_t *const p = b_.p + k * b_.inner + b_.first, *const in = b_.dbcd + k * b_.width + b_.rank;
    const __m256i raised = _mm256_sll_epi16(sixteen_codes(in), j_), read = sixteen_codes(in + 16);
    for (int e = 0; e < 16; e += 4) {
      const __m256i left = _mm256_hadd_epi32(channel(p, e, w[e], raised, read), channel(p, e + 1, w[e + 1], raised, read));
      const __m256i right =
          _mm256_hadd_epi32(channel(p, e + 2, w[e + 2], raised, read), channel(p, e + 3, w[e + 3], raised, read));
      const __m256i all = _mm256_hadd_epi32(left, right);
      _mm_store_si128(reinterpret_cast<__m128i*>(sums + e),
                      _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1)));
    }
  }

  // y = sat(rne(sum M_h + D x M_D)), out = requant(y silu[z]).
  void leave(int64_t k, const int32_t* sums) const {
    const IntegerLayer& l = b_.layer;
    const int64_t at = k * b_.inner + b_.first;
    const uint8_t* const d = b_.dbcd + k * b_.width + b_.rank + 32 + b_.first;
    alignas(32) int32_t gates[16];
    for (int e = 0; e < 16; ++e) gates[e] = l.silu[b_.z[at + e]];
    const __m256i state = _mm256_set1_epi64x(l.state), skip = _mm256_set1_epi64x(l.skip);
    const __m256i factor = _mm256_set1_epi64x(l.scan_multiplier), none = _mm256_setzero_si256();
    const auto eight = [&](int e) {
      const __m256i sum = _mm256_load_si256(reinterpret_cast<const __m256i*>(sums + e));
      const __m256i skipped = _mm256_mullo_epi32(eight_codes(d + e), eight_codes(b_.x + at + e));
      const __m256i y = y_(sum, state, skipped, skip);
      const __m256i gated = _mm256_mullo_epi32(y, _mm256_load_si256(reinterpret_cast<const __m256i*>(gates + e)));
      return out_(gated, factor, none, none);
    };
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(eight(0), eight(8)), 0xd8);
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(b_.out + at), _mm_xor_si128(bytes, _mm_set1_epi8(-128)));
  }

  const ScanBlock& b_;
  int16_t* const h_;
  const __m128i t_, j_;
  const __m256i t_half_, t_one_;
  const Requant64 y_, out_;
};

inline void requant_same(int32_t* v, int64_t multiplier, int64_t shift, int32_t limit, int64_t n) {
  const Requant64 requantised(shift, limit);
  const __m256i by = _mm256_set1_epi64x(multiplier), none = _mm256_setzero_si256();
  for (int64_t i = 0; i < n; i += 8) {
    __m256i* const at = reinterpret_cast<__m256i*>(v + i);
    _mm256_storeu_si256(at, requantised(_mm256_loadu_si256(at), by, none, none));
  }
}

inline void scan_block(const ScanBlock& b, int16_t* h) {
  if (b.states != 16) return plain_scan(b, h);
  WideScan(b, h).run();
}

}  // namespace
}  // namespace sparseflow
