#include <immintrin.h>

#include <cstring>

#include "event/vec_avx512.hpp"
//
#include "event/lif.hpp"
//
#include "amx/amx.hpp"

namespace sparseflow {
namespace {

constexpr int64_t kPixels = 16;           // rows of a tile
constexpr int64_t kPanelBytes = 640 << 10;  // inputs of a block, which share a 2 MB L2 with one panel of weights

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t columns[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Tiles 0-2 and 3-5 sum the high, middle and low bytes of two groups of 16 pixels; 6 holds inputs, 7 weights.
inline void multiply(const uint8_t* a0, const uint8_t* a1, const int8_t* b, int64_t chunks, int32_t* sums) {
  // GCC's tile loads do not say that they read memory.
  asm volatile("" ::: "memory");
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  for (int64_t j = 0; j < chunks; ++j, a0 += 1024, a1 += 1024, b += 3072) {
    _tile_loadd(6, a0, 64);
    _tile_loadd(7, b, 64);
    _tile_dpbusd(0, 6, 7);
    _tile_loadd(7, b + 1024, 64);
    _tile_dpbusd(1, 6, 7);
    _tile_loadd(7, b + 2048, 64);
    _tile_dpbusd(2, 6, 7);
    _tile_loadd(6, a1, 64);
    _tile_dpbusd(5, 6, 7);
    _tile_loadd(7, b + 1024, 64);
    _tile_dpbusd(4, 6, 7);
    _tile_loadd(7, b, 64);
    _tile_dpbusd(3, 6, 7);
  }
  _tile_stored(0, sums, 64);
  _tile_stored(1, sums + 256, 64);
  _tile_stored(2, sums + 512, 64);
  _tile_stored(3, sums + 768, 64);
  _tile_stored(4, sums + 1024, 64);
  _tile_stored(5, sums + 1280, 64);
}

// The float sums of 16 output channels of one pixel.
inline F combine(const int32_t* sums, int64_t row, F scale, F bias) {
  const __m512i high = _mm512_load_si512(sums + row * 16), middle = _mm512_load_si512(sums + 256 + row * 16);
  const __m512i low = _mm512_load_si512(sums + 512 + row * 16);
  const F fine = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(middle, 8), low));
  const F sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), _mm512_set1_ps(65536.f), fine);
  return _mm512_fmadd_ps(sum, scale, bias);
}

struct Window {
  const ConvGeometry& g;
  int64_t wp, words, chunks;

  explicit Window(const ConvGeometry& geometry)
      : g(geometry), wp(words_of(geometry.c)), words(wp * geometry.kh * geometry.kw), chunks((words + 1) / 2) {}

  // Write one row of all tiles: the window of output pixel (y, x) of a map, a byte an input.
  void expand(const int32_t* map, int64_t y, int64_t x, uint8_t* row, uint64_t* spare) const {
    const __m512i one = _mm512_set1_epi8(1);
    const int64_t top = y * g.stride.h - g.padding.h, left = x * g.stride.w - g.padding.w;
    int32_t* to = reinterpret_cast<int32_t*>(spare);
    to[words] = 0;
    for (int64_t a = 0; a < g.kh; ++a) {
      const int64_t i = top + a * g.dilation.h;
      for (int64_t b = 0; b < g.kw; ++b, to += wp) {
        const int64_t j = left + b * g.dilation.w;
        const bool inside = i >= 0 && i < g.h && j >= 0 && j < g.w;
        const int32_t* from = map + (i * g.w + j) * wp;
        for (int64_t k = 0; k < wp; ++k) to[k] = inside ? from[k] : 0;
      }
    }
    for (int64_t k = 0; k < chunks; ++k) _mm512_store_si512(row + k * 1024, _mm512_maskz_mov_epi8(spare[k], one));
  }
};

struct Plan {
  int64_t pixels, steps, block, span, blocks;

  // `span` steps of `block` pixels are one unit of work.
  Plan(int64_t pixels_, int64_t steps_, int64_t chunks, int threads) : pixels(pixels_), steps(steps_) {
    const int64_t fit = most(2, kPanelBytes / (chunks * 1024));
    span = least(steps, fit);
    block = most(1, least(fit / span, 16));
    const int64_t tiles = (pixels + kPixels - 1) / kPixels;
    while (block > 1 && (tiles + block - 1) / block < 3 * threads) block = (block + 1) / 2;
    blocks = (tiles + block - 1) / block;
  }
};

// Calls emit(panel, channels, first pixel, pixels, tiles a step, first step, steps, sums) for 16 output channels of
// some pixels over some steps; the sums are [step][pixel, filled up to tiles][16].
template <class Emit>
void run(const ConvArgs& a, const int8_t* tiles, const ConvGeometry& g, int64_t steps, int threads, const Emit& emit) {
  const TileLayout layout{g.cout, g.c, g.kh * g.kw};
  const Window window(g);
  const int64_t hw = g.ho * g.wo, pixels = g.m / steps * hw, map = g.h * g.w * window.wp;
  const Plan plan(pixels, steps, window.chunks, threads);
#pragma omp parallel num_threads(threads)
  {
    static thread_local Scratch<uint8_t> inputs;
    static thread_local Scratch<uint64_t> spare;
    static thread_local Scratch<float> currents;
    const TileConfig config;
    _tile_loadconfig(&config);
    alignas(64) int32_t sums[6 * 256];
    uint64_t* const words = spare.get(window.chunks + 1);
#pragma omp for schedule(dynamic)
    for (int64_t item = 0; item < plan.blocks; ++item) {
      const int64_t first = item * plan.block * kPixels, count = least(plan.block * kPixels, pixels - first);
      const int64_t groups = (count + kPixels - 1) / kPixels;
      for (int64_t t0 = 0; t0 < steps; t0 += plan.span) {
        const int64_t span = least(plan.span, steps - t0), all = span * groups, bytes = window.chunks * 1024;
        uint8_t* const in = inputs.get((all + 1) * bytes);
        float* const y = currents.get((all + 1) * 256);
        for (int64_t t = 0; t < span; ++t)
          for (int64_t p = 0; p < groups * kPixels; ++p) {
            uint8_t* row = in + (t * groups + p / kPixels) * bytes + p % kPixels * 64;
            if (p < count) {
              const int64_t at = (t0 + t) * pixels + first + p, image = at / hw, pixel = at % hw;
              window.expand(a.words + image * map, pixel / g.wo, pixel % g.wo, row, words);
            } else {
              for (int64_t k = 0; k < window.chunks; ++k)
                _mm512_store_si512(row + k * 1024, _mm512_setzero_si512());
            }
          }
        for (int64_t panel = 0; panel < layout.panels(); ++panel) {
          const int lanes_here = static_cast<int>(least(16, g.cout - panel * 16));
          const F scale = _mm512_loadu_ps(layout.scales(tiles) + panel * 16);
          const F bias = a.bias ? f_load_n(a.bias + panel * 16, lanes_here) : f_zero();
          for (int64_t i = 0; i < all; i += 2) {
            const int64_t second = i + 1 < all ? i + 1 : i;
            multiply(in + i * bytes, in + second * bytes, layout.panel(tiles, panel), window.chunks, sums);
            for (int64_t half = 0; half < least(2, all - i); ++half)
              for (int64_t row = 0; row < kPixels; ++row)
                _mm512_store_ps(y + (i + half) * 256 + row * 16, combine(sums + half * 768, row, scale, bias));
          }
          emit(panel, lanes_here, first, count, groups, t0, span, y);
        }
      }
    }
    _tile_release();
  }
}

}  // namespace

void tile_conv(const ConvArgs& a, const int8_t* tiles, const ConvGeometry& g, int threads) {
  const int64_t hw = g.ho * g.wo;
  run(a, tiles, g, 1, threads,
      [&](int64_t panel, int n, int64_t first, int64_t count, int64_t, int64_t, int64_t, const float* y) {
        if (a.channels_last) {
          for (int64_t p = 0; p < count; ++p) {
            const int64_t at = (first + p) * g.cout + panel * 16;
            F sum = _mm512_load_ps(y + p * 16);
            if (a.residual) sum = f_add(sum, f_load_n(a.residual + at, n));
            f_store_n(a.out + at, sum, n);
          }
          return;
        }
        const __m512i sixteen = _mm512_mullo_epi32(
            _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_epi32(16));
        for (int64_t p = 0; p < count;) {
          const int64_t image = (first + p) / hw, pixel = (first + p) % hw;
          const int some = static_cast<int>(least(least(16, count - p), hw - pixel));
          for (int o = 0; o < n; ++o) {
            const int64_t at = (image * g.cout + panel * 16 + o) * hw + pixel;
            F sum = _mm512_mask_i32gather_ps(f_zero(), lanes(some), sixteen, y + p * 16 + o, 4);
            if (a.residual) sum = f_add(sum, f_load_n(a.residual + at, some));
            f_store_n(a.out + at, sum, some);
          }
          p += some;
        }
      });
}

void tile_conv_lif(const ConvArgs& a, const int8_t* tiles, const ConvGeometry& g, int threads) {
  const int64_t pixels = g.m / a.steps * g.ho * g.wo, halves = 2 * words_of(g.cout), panels = (g.cout + 15) / 16;
  uint16_t* const out = reinterpret_cast<uint16_t*>(a.words_out);
  const uint16_t* const added = reinterpret_cast<const uint16_t*>(a.residual_words);
  with_neuron(a.config, [&](const auto& neuron) {
    const F one = f_set(1.f);
    run(a, tiles, g, a.steps, threads,
        [&](int64_t panel, int n, int64_t first, int64_t count, int64_t groups, int64_t t0, int64_t span,
            const float* y) {
          const M keep = lanes(n);
          for (int64_t p = 0; p < count; ++p) {
            const int64_t at = (first + p) * g.cout + panel * 16;
            const float* from = t0 ? a.v : a.v0;
            F v = from ? f_load_n(from + at, n) : neuron.reset;
            for (int64_t t = 0; t < span; ++t) {
              const int64_t pixel = (t0 + t) * pixels + first + p;
              F x = _mm512_load_ps(y + t * groups * 256 + p * 16);
              if (a.residual) x = f_add(x, f_load_n(a.residual + pixel * g.cout + panel * 16, n));
              if (added) x = f_add_masked(x, added[pixel * halves + panel], one);
              out[pixel * halves + panel] = static_cast<uint16_t>(neuron.step(x, v) & keep);
              if (panel + 1 == panels && panels % 2) out[pixel * halves + panel + 1] = 0;
            }
            f_store_n(a.v + at, v, n);
          }
        });
  });
}

}  // namespace sparseflow
