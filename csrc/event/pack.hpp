#pragma once
// Floats to bits and back. Included once per instruction set, after its vec_*.hpp.
#include <type_traits>

#include "event/kernels.hpp"
#include "event/put.hpp"
#include "event/scratch.hpp"

namespace sparseflow {
namespace {

inline void count_others(const float* x, int n, int64_t& others) {
  for (int i = 0; i < n; ++i) others += !(x[i] == 0.f) & (x[i] != 1.f);
}

constexpr int64_t kAhead = 2048;

// One run of consecutive channels of one pixel, or of many pixels if 32 divides C.
inline PackCount pack_run(const float* x, int32_t* words, int64_t c) {
  PackCount count{0, 0};
  const F zero = f_zero(), one = f_set(1.f);
  for (int64_t i = 0; i < c; i += 32) {
    uint32_t word = 0, other = 0;
    const int n = static_cast<int>(least(32, c - i));
    // A prefetch far ahead, across the 4 KB page where the hardware's stops.
    __builtin_prefetch(x + i + kAhead);
    __builtin_prefetch(x + i + kAhead + 16);
    for (int half = 0; half * 16 < n; ++half) {
      const F a = n - half * 16 >= 16 ? f_load(x + i + half * 16) : f_load_n(x + i + half * 16, n - half * 16);
      const M set = m_ne(a, zero);
      word |= m_bits(set) << (16 * half);
      other |= m_bits(m_and(set, m_ne(a, one)));
    }
    words[i / 32] = static_cast<int32_t>(word);
    count.nonzero += __builtin_popcount(word);
    if (other) count_others(x + i, n, count.other);
  }
  return count;
}

// Pixels p..p+n of one image, all channels, n <= 16 * kWide: one lane a pixel, so that no bit has to be transposed.
constexpr int kWide = 4;

template <int WIDE>
inline PackCount pack_pixels(const float* x, int32_t* words, int64_t c, int64_t hw, int n) {
  PackCount count{0, 0};
  const int64_t wp = words_of(c);
  const F zero = f_zero(), one = f_set(1.f);
  for (int64_t i = 0; i < wp; ++i) {
    I word[WIDE], bad = i_zero();
    for (auto& w : word) w = i_zero();
    const int channels = static_cast<int>(least(32, c - 32 * i));
    const float* from = x + 32 * i * hw;
    for (int b = 0; b < channels; ++b, from += hw) {
      const I bit = i_set(static_cast<int32_t>(1u << b));
      // Too many streams for the hardware prefetcher: ask for the next chunk of this channel.
      if (WIDE > 1)
        for (int k = 0; k < WIDE; ++k) __builtin_prefetch(from + 16 * (WIDE + k));
      for (int k = 0; k < WIDE; ++k) {
        const F a = WIDE > 1 ? f_load(from + 16 * k) : f_load_n(from, n);
        const M set = m_ne(a, zero);
        word[k] = i_or_masked(word[k], set, bit);
        bad = i_or_masked(bad, m_and(set, m_ne(a, one)), bit);
      }
    }
    alignas(64) int32_t lane[16 * WIDE], other[16];
    for (int k = 0; k < WIDE; ++k) i_store(lane + 16 * k, word[k]);
    i_store(other, bad);
    for (int k = 0; k < n; ++k) {
      words[k * wp + i] = lane[k];
      count.nonzero += __builtin_popcount(static_cast<uint32_t>(lane[k]));
    }
    int32_t any = 0;
    for (int32_t o : other) any |= o;
    if (any)
      for (int b = 0; b < channels; ++b) count_others(x + (32 * i + b) * hw, n, count.other);
  }
  return count;
}

PackCount pack(const float* x, int32_t* words, int64_t m, int64_t c, int64_t h, int64_t w, bool channels_last,
               int threads) {
  const int64_t hw = h * w, wp = words_of(c);
  int64_t other = 0, nonzero = 0;
  if (channels_last || hw == 1) {
    // Where 32 divides C the pixels run on into each other, so a run may be as long as pleases the loop.
    const bool flat = c % 32 == 0;
    const int64_t pixels = m * hw, step = flat ? most(1, 4096 / c) : 64;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(+ : other, nonzero)
    for (int64_t p = 0; p < pixels; p += step) {
      const int64_t n = least(step, pixels - p);
      for (int64_t q = p; q < p + n; q += flat ? n : 1) {
        const PackCount count = pack_run(x + q * c, words + q * wp, flat ? n * c : c);
        other += count.other, nonzero += count.nonzero;
      }
    }
    return {other, nonzero};
  }
  const int64_t chunk = 16 * kWide, chunks = (hw + chunk - 1) / chunk;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(+ : other, nonzero)
  for (int64_t item = 0; item < m * chunks; ++item) {
    const int64_t image = item / chunks, p = item % chunks * chunk, n = least(chunk, hw - p);
    const float* from = x + image * c * hw + p;
    int32_t* to = words + (image * hw + p) * wp;
    if (n == chunk) {
      const PackCount count = pack_pixels<kWide>(from, to, c, hw, static_cast<int>(n));
      other += count.other, nonzero += count.nonzero;
    } else {
      for (int64_t q = 0; q < n; q += 16) {
        const PackCount count = pack_pixels<1>(from + q, to + q * wp, c, hw, static_cast<int>(least(16, n - q)));
        other += count.other, nonzero += count.nonzero;
      }
    }
  }
  return {other, nonzero};
}

void unpack(const int32_t* words, float* x, int64_t m, int64_t c, int64_t h, int64_t w, bool channels_last,
            int threads) {
  const int64_t hw = h * w, wp = words_of(c);
  const F zero = f_zero(), one = f_set(1.f);
  if ((channels_last || hw == 1) && c % 32 == 0) {
    // The pixels run on into each other; what no cache will hold goes around them.
    const auto run = [&](auto past) {
#pragma omp parallel for num_threads(threads) schedule(static)
      for (int64_t i = 0; i < m * hw * wp; ++i) {
        const auto word = static_cast<uint32_t>(words[i]);
        put<past>(x + 32 * i, f_select(m_from_bits(word & 0xffff), one, zero));
        put<past>(x + 32 * i + 16, f_select(m_from_bits(word >> 16), one, zero));
      }
      if (past) fence();
    };
    if (m * hw * c > kCached && reinterpret_cast<uintptr_t>(x) % 64 == 0)
      run(std::true_type());
    else
      run(std::false_type());
    return;
  }
  if (channels_last || hw == 1) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t p = 0; p < m * hw; ++p)
      for (int64_t i = 0; i < c; i += 16) {
        const uint32_t bits = static_cast<uint32_t>(words[p * wp + i / 32]) >> (i % 32) & 0xffff;
        f_store_n(x + p * c + i, f_select(m_from_bits(bits), one, zero), static_cast<int>(least(16, c - i)));
      }
    return;
  }
  const int64_t chunks = (hw + 15) / 16;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t item = 0; item < m * chunks; ++item) {
    const int64_t image = item / chunks, p = item % chunks * 16;
    const int n = static_cast<int>(least(16, hw - p));
    for (int64_t i = 0; i < wp; ++i) {
      alignas(64) int32_t lane[16] = {};
      for (int k = 0; k < n; ++k) lane[k] = words[(image * hw + p + k) * wp + i];
      const I word = i_load(lane);
      for (int64_t b = 0; b < least(32, c - 32 * i); ++b)
        f_store_n(x + (image * c + 32 * i + b) * hw + p,
                  f_select(i_test(word, i_set(static_cast<int32_t>(1u << b))), one, zero), n);
    }
  }
}

}  // namespace
}  // namespace sparseflow
