#include <algorithm>
#include <stdexcept>

#include "nouns/layout.hpp"
#include "event/kernels.hpp"

namespace sparseflow {

int64_t rows_size(int64_t cout, int64_t cin_g, int64_t kh, int64_t kw, int64_t groups) {
  if (cout < 1 || cin_g < 1 || kh < 1 || kw < 1 || groups < 1 || cout % groups)
    throw std::invalid_argument("weight sizes must be positive and groups must divide the output channels");
  if (kh * kw > RowLayout::kMaxTaps) throw std::invalid_argument("the kernel has more than 65535 taps");
  const int64_t cout_g = cout / groups;
  if (is_depthwise(cout_g, cin_g)) return kh * kw * ((cout + 15) / 16 * 16);
  return RowLayout(cout_g, cin_g, kh * kw).size() * groups;
}

void pack_rows(const float* weight, float* rows, int64_t cout, int64_t cin_g, int64_t kh, int64_t kw, int64_t groups) {
  const int64_t taps = kh * kw, cout_g = cout / groups;
  std::fill(rows, rows + rows_size(cout, cin_g, kh, kw, groups), 0.f);
  if (is_depthwise(cout_g, cin_g)) {
    for (int64_t o = 0; o < cout; ++o)
      for (int64_t t = 0; t < taps; ++t) rows[t * ((cout + 15) / 16 * 16) + o] = weight[o * taps + t];
    return;
  }
  const RowLayout layout(cout_g, cin_g, taps);
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t o = 0; o < cout_g; ++o) {
      const int64_t panel = o / RowLayout::kPanel, width = layout.width(panel);
      for (int64_t i = 0; i < cin_g; ++i) {
        const int64_t s = i / layout.slab, channels = layout.slab_channels(s), c = i - s * layout.slab;
        float* to = rows + g * layout.size() + layout.panel_start(s, panel) + o % RowLayout::kPanel;
        for (int64_t t = 0; t < taps; ++t)
          to[(t * channels + c) * width] = weight[((g * cout_g + o) * cin_g + i) * taps + t];
      }
    }
}

int64_t count_spikes(const int32_t* words, int64_t size) {
  int64_t count = 0;
  for (int64_t i = 0; i < size; ++i) count += __builtin_popcount(static_cast<uint32_t>(words[i]));
  return count;
}

void or_pool2d(const int32_t* words, int32_t* out, int64_t m, int64_t h, int64_t w, int64_t wp, Pair kernel,
               Pair stride, Pair padding, Pair dilation, int64_t ho, int64_t wo, int threads) {
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
  for (int64_t n = 0; n < m; ++n)
    for (int64_t oy = 0; oy < ho; ++oy)
      for (int64_t ox = 0; ox < wo; ++ox) {
        int32_t* to = out + ((n * ho + oy) * wo + ox) * wp;
        std::fill(to, to + wp, 0);
        for (int64_t ky = 0; ky < kernel.h; ++ky) {
          const int64_t iy = oy * stride.h - padding.h + ky * dilation.h;
          if (iy < 0 || iy >= h) continue;
          for (int64_t kx = 0; kx < kernel.w; ++kx) {
            const int64_t ix = ox * stride.w - padding.w + kx * dilation.w;
            if (ix < 0 || ix >= w) continue;
            const int32_t* from = words + ((n * h + iy) * w + ix) * wp;
            for (int64_t i = 0; i < wp; ++i) to[i] |= from[i];
          }
        }
      }
}

}  // namespace sparseflow
