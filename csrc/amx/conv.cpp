#include <immintrin.h>

#include "event/vec_avx512.hpp"
//
#include "event/lif.hpp"
//
#include "amx/inputs.hpp"
//
#include "amx/amx.hpp"

namespace sparseflow {
namespace {

constexpr int64_t kInputBytes = 1000 << 10;  // input tiles of a unit, which share a 2 MB L2 with a panel of weights
constexpr int64_t kCached = 1 << 19;  // floats of output that may still be in a cache when they are read

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t columns[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Tiles 0-2 and 3-5 sum the high, middle and low bytes of two groups of 16 pixels; 6 holds inputs, 7 weights.
// between(j) is called for every chunk, for work that runs beside the multiplications.
template <class Between>
inline void multiply(const uint8_t* a0, const uint8_t* a1, const int64_t* offsets, const int8_t* b, int64_t chunks,
                     int32_t* sums, const Between& between) {
  // GCC's tile loads do not say that they read memory.
  asm volatile("" ::: "memory");
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  for (int64_t j = 0; j < chunks; ++j, b += 3072) {
    _tile_loadd(6, a0 + offsets[j], 64);
    _tile_loadd(7, b, 64);
    _tile_dpbusd(0, 6, 7);
    _tile_loadd(7, b + 1024, 64);
    _tile_dpbusd(1, 6, 7);
    _tile_loadd(7, b + 2048, 64);
    _tile_dpbusd(2, 6, 7);
    _tile_loadd(6, a1 + offsets[j], 64);
    _tile_dpbusd(5, 6, 7);
    _tile_loadd(7, b + 1024, 64);
    _tile_dpbusd(4, 6, 7);
    _tile_loadd(7, b, 64);
    _tile_dpbusd(3, 6, 7);
    between(j);
  }
  _tile_stored(0, sums, 64);
  _tile_stored(1, sums + 256, 64);
  _tile_stored(2, sums + 512, 64);
  _tile_stored(3, sums + 768, 64);
  _tile_stored(4, sums + 1024, 64);
  _tile_stored(5, sums + 1280, 64);
}

// The float sums of 16 output channels of one pixel: the exact sum of the bytes, rounded once. What the middle and low
// bytes carry into the high ones goes there first, since a float holds 24 bits of a sum.
inline F combine(const int32_t* sums, int64_t row, F scale, F bias) {
  const __m512i high = _mm512_load_si512(sums + row * 16), middle = _mm512_load_si512(sums + 256 + row * 16);
  const __m512i low = _mm512_load_si512(sums + 512 + row * 16);
  const __m512i rest = _mm512_add_epi32(_mm512_slli_epi32(middle, 8), low);
  const __m512i carry = _mm512_srai_epi32(_mm512_add_epi32(rest, _mm512_set1_epi32(1 << 15)), 16);
  const F fine = _mm512_cvtepi32_ps(_mm512_sub_epi32(rest, _mm512_slli_epi32(carry, 16)));
  const F coarse = _mm512_cvtepi32_ps(_mm512_add_epi32(high, carry));
  const F sum = _mm512_fmadd_ps(coarse, _mm512_set1_ps(65536.f), fine);
  return _mm512_fmadd_ps(sum, scale, bias);
}

// One unit of work is up to `span` steps of `block` groups of pixels.
struct Plan {
  static constexpr int64_t kMostTiles = 16;
  int64_t block, span, blocks;

  Plan(int64_t pixels, int64_t steps, const Inputs& inputs, int threads) {
    const int64_t fit = most(2, kInputBytes / (inputs.weight() * kTileBytes));
    span = least(steps, fit);
    block = most(1, least(fit / span, kMostTiles));
    const int64_t tiles = (pixels + kPixels - 1) / kPixels;
    while (block > 1 && (tiles + block - 1) / block < 3 * threads) block = (block + 1) / 2;
    block = inputs.align(block);
    blocks = (tiles + block - 1) / block;
  }
};

// Whole cache lines that nobody reads soon go around the cache, which would else fetch them first.
inline void store_past(float* p, F x, int n) {
  if (n == 16 && reinterpret_cast<uintptr_t>(p) % 64 == 0)
    _mm512_stream_ps(p, x);
  else
    store_up_to(p, x, n);
}

// A group of 16 output channels and one of up to 16 pixels at one step.
struct Tile {
  int64_t panel, first, step;
  int channels, pixels;
  bool begins, ends;  // the first or last step of its unit
  const int32_t* sums;
  float* state;  // 16 x 16, shared by the steps of a unit
  F scale, bias;

  F current(int64_t row) const { return combine(sums, row, scale, bias); }
};

// What a thread keeps between calls.
struct Buffers {
  Scratch<uint8_t> bytes, rows;
  Scratch<const uint8_t*> addresses;

  static Buffers& mine() {
    static thread_local Buffers buffers;
    return buffers;
  }
};

// Calls take(tile, from, to) for the pixels of every tile of sums, the steps of a pixel in order.
template <class Source, class Take>
void run(const void* x, const float* bias, const int8_t* tiles, const ConvGeometry& g, int64_t steps, int threads,
         const Take& take) {
  const TileLayout layout{g.cout, g.c, g.kh * g.kw};
  Inputs inputs(g, words_of(g.c));
  const int64_t pixels = g.m / steps * g.ho * g.wo, chunks = inputs.chunks();
  const Plan plan(pixels, steps, inputs, threads);
  inputs.limit(plan.block);
#pragma omp parallel num_threads(threads)
  {
    Buffers& mine = Buffers::mine();
    const TileConfig config;
    _tile_loadconfig(&config);
    alignas(64) int32_t sums[2][6 * 256];
    alignas(64) float state[Plan::kMostTiles * 256];
#pragma omp for schedule(dynamic)
    for (int64_t item = 0; item < plan.blocks; ++item) {
      const int64_t first = item * plan.block * kPixels, count = least(plan.block * kPixels, pixels - first);
      const int64_t groups = (count + kPixels - 1) / kPixels;
      for (int64_t t0 = 0; t0 < steps; t0 += plan.span) {
        const int64_t span = least(plan.span, steps - t0), all = span * groups;
        uint8_t* const in = mine.bytes.get(span * inputs.step_bytes());
        const uint8_t** const at = mine.addresses.get(all);
        for (int64_t t = 0; t < span; ++t)
          inputs.fill<Source>(static_cast<const uint8_t*>(x), (t0 + t) * pixels + first, count,
                              in + t * inputs.step_bytes(), at + t * groups, mine.rows);
        // The sums of one pair of tiles are taken while the next pair is multiplied.
        Tile pair[2][2];
        int64_t rows_left = 0, flip = 0;
        const int64_t pace = (2 * kPixels + chunks - 1) / chunks;
        const auto some = [&](int64_t most_rows) {
          for (; rows_left > 0 && most_rows > 0;) {
            const Tile& tile = pair[flip ^ 1][rows_left <= kPixels];
            const int64_t from = (2 * kPixels - rows_left) % kPixels, n = least(most_rows, kPixels - from);
            if (from < tile.pixels) take(tile, from, least(from + n, tile.pixels));
            rows_left -= n, most_rows -= n;
          }
        };
        for (int64_t panel = 0; panel < layout.panels(); ++panel) {
          const int channels = static_cast<int>(least(16, g.cout - panel * 16));
          const F scale = _mm512_loadu_ps(layout.scales(tiles) + panel * 16);
          const F added = bias ? f_load_n(bias + panel * 16, channels) : f_zero();
          for (int64_t i = 0; i < all; i += 2) {
            const int64_t last = least(i + 1, all - 1);
            multiply(at[i], at[last], inputs.offsets(), layout.panel(tiles, panel), chunks, sums[flip],
                     [&](int64_t) { some(pace); });
            for (int64_t k = i; k < i + 2; ++k) {
              Tile& tile = pair[flip][k - i];
              tile.panel = panel, tile.channels = channels, tile.scale = scale, tile.bias = added;
              tile.sums = sums[flip] + (k - i) * 768, tile.state = state + k % groups * 256;
              tile.first = first + k % groups * kPixels, tile.step = t0 + k / groups;
              tile.pixels = k <= last ? static_cast<int>(least(kPixels, first + count - tile.first)) : 0;
              tile.begins = k < groups, tile.ends = k >= all - groups;
            }
            rows_left = 2 * kPixels, flip ^= 1;
          }
        }
        some(rows_left);
      }
    }
    _tile_release();
    _mm_sfence();
  }
}

}  // namespace

void tile_conv(const ConvArgs& a, const uint8_t* counts, const int8_t* tiles, const ConvGeometry& g, int threads) {
  const int64_t hw = g.ho * g.wo;
  const __m512i column = _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                            _mm512_set1_epi32(16));
  const bool past = g.m * g.cout * hw > kCached;
  const auto take = [&](const Tile& tile, int64_t from, int64_t to) {
    if (a.channels_last) {
      const int64_t begin = tile.first * g.cout + tile.panel * 16, step = g.cout;
      const int n = tile.channels;
      float* const out = a.out + begin;
      const float* const added = a.residual ? a.residual + begin : nullptr;
      for (int64_t p = from; p < to; ++p) {
        F sum = tile.current(p);
        if (added) sum = f_add(sum, load_up_to(added + p * step, n));
        past ? store_past(out + p * step, sum, n) : store_up_to(out + p * step, sum, n);
      }
      return;
    }
    for (int64_t p = from; p < to; ++p) _mm512_store_ps(tile.state + p * 16, tile.current(p));
    if (to < tile.pixels) return;
    for (int64_t p = 0; p < tile.pixels;) {
      const int64_t image = (tile.first + p) / hw, pixel = (tile.first + p) % hw;
      const int some = static_cast<int>(least(tile.pixels - p, hw - pixel));
      for (int o = 0; o < tile.channels; ++o) {
        const int64_t at = (image * g.cout + tile.panel * 16 + o) * hw + pixel;
        F sum = _mm512_mask_i32gather_ps(f_zero(), lanes(some), column, tile.state + p * 16 + o, 4);
        if (a.residual) sum = f_add(sum, load_up_to(a.residual + at, some));
        store_up_to(a.out + at, sum, some);
      }
      p += some;
    }
  };
  if (counts)
    run<Bytes>(counts, a.bias, tiles, g, 1, threads, take);
  else
    run<Bits>(a.words, a.bias, tiles, g, 1, threads, take);
}

void tile_conv_lif(const ConvArgs& a, const int8_t* tiles, const ConvGeometry& g, int threads) {
  const int64_t pixels = g.m / a.steps * g.ho * g.wo, halves = 2 * words_of(g.cout), panels = (g.cout + 15) / 16;
  uint16_t* const out = reinterpret_cast<uint16_t*>(a.words_out);
  const uint16_t* const added = reinterpret_cast<const uint16_t*>(a.residual_words);
  with_neuron(a.config, [&](const auto& neuron) {
    const F one = f_set(1.f);
    run<Bits>(a.words, a.bias, tiles, g, a.steps, threads, [&](const Tile& tile, int64_t from, int64_t to) {
      const int64_t stride = g.cout, begin = tile.first * stride + tile.panel * 16;
      const int64_t pixel = tile.step * pixels + tile.first;
      const int n = tile.channels;
      const M keep = lanes(n);
      const float* const v0 = tile.begins ? (tile.step ? a.v : a.v0) : nullptr;
      float* const v1 = tile.ends ? a.v + begin : nullptr;
      const float* const current = a.residual ? a.residual + pixel * stride + tile.panel * 16 : nullptr;
      const uint16_t* const spikes = added ? added + pixel * halves + tile.panel : nullptr;
      uint16_t* const to_half = out + pixel * halves + tile.panel;
      const bool pad = tile.panel + 1 == panels && panels % 2;
      for (int64_t p = from; p < to; ++p) {
        F v = tile.begins ? neuron.reset : _mm512_load_ps(tile.state + p * 16);
        if (v0) v = load_up_to(v0 + begin + p * stride, n);
        F x = tile.current(p);
        if (current) x = f_add(x, load_up_to(current + p * stride, n));
        if (spikes) x = f_add_masked(x, spikes[p * halves], one);
        to_half[p * halves] = static_cast<uint16_t>(neuron.step(x, v) & keep);
        if (pad) to_half[p * halves + 1] = 0;
        if (v1)
          store_past(v1 + p * stride, v, n);
        else
          _mm512_store_ps(tile.state + p * 16, v);
      }
    });
  });
}

}  // namespace sparseflow
