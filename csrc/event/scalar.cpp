#include <algorithm>
#include <vector>

#include "core/layout.hpp"
#include "event/kernels.hpp"

namespace sparseflow {
namespace {

int64_t at(bool last, int64_t m, int64_t c, int64_t p, int64_t C, int64_t HW) {
  return last ? (m * HW + p) * C + c : (m * C + c) * HW + p;
}

PackCount pack(const float* x, int32_t* words, int64_t m, int64_t c, int64_t h, int64_t w, bool last, int) {
  PackCount n{0, 0};
  const int64_t hw = h * w, wp = words_of(c);
  std::fill(words, words + m * hw * wp, 0);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t p = 0; p < hw; ++p)
      for (int64_t k = 0; k < c; ++k) {
        const float f = x[at(last, i, k, p, c, hw)];
        if (!(f == 0)) {
          n.nonzero++;
          n.other += f != 1;
          words[(i * hw + p) * wp + k / 32] |= 1u << (k % 32);
        }
      }
  return n;
}

void unpack(const int32_t* words, float* x, int64_t m, int64_t c, int64_t h, int64_t w, bool last, int) {
  const int64_t hw = h * w, wp = words_of(c);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t p = 0; p < hw; ++p)
      for (int64_t k = 0; k < c; ++k)
        x[at(last, i, k, p, c, hw)] = (words[(i * hw + p) * wp + k / 32] >> (k % 32)) & 1;
}

bool fire(float x, float& v, const LIFConfig& q) {
  float h;
  switch (q.charge) {
    case LIFConfig::IF: h = v + x; break;
    case LIFConfig::DIVIDE_INPUT: h = v + (x - (v - q.reset)) / q.decay; break;
    case LIFConfig::DIVIDE: h = v - (v - q.reset) / q.decay + x; break;
    case LIFConfig::MULTIPLY_INPUT: h = v + (x - (v - q.reset)) * q.decay; break;
    default: h = v - (v - q.reset) * q.decay + x;
  }
  const bool s = h >= q.threshold;
  v = !s ? h : q.hard ? q.reset : h - q.threshold;
  return s;
}

void lif(const LIFArgs& a, int) {
  for (int64_t i = 0; i < a.n; ++i) {
    float v = a.v0 ? a.v0[i] : a.config.reset;
    for (int64_t t = 0; t < a.steps; ++t) a.spikes[t * a.n + i] = fire(a.x[(a.repeat ? 0 : t * a.n) + i], v, a.config);
    a.v[i] = v;
  }
}

void lif_pack(const LIFArgs& a, int) {
  const int64_t hw = a.h * a.w, wp = words_of(a.c);
  std::fill(a.words, a.words + a.steps * a.n * hw * wp, 0);
  for (int64_t i = 0; i < a.n; ++i)
    for (int64_t p = 0; p < hw; ++p)
      for (int64_t k = 0; k < a.c; ++k) {
        const int64_t e = at(a.channels_last, i, k, p, a.c, hw);
        float v = a.v0 ? a.v0[e] : a.config.reset;
        for (int64_t t = 0; t < a.steps; ++t)
          if (fire(a.x[e + (a.repeat ? 0 : t * a.n * a.c * hw)], v, a.config))
            a.words[((t * a.n + i) * hw + p) * wp + k / 32] |= 1u << (k % 32);
        a.v[e] = v;
      }
}

float one(const ConvArgs& a, const ConvGeometry& g, int64_t m, int64_t o, int64_t oy, int64_t ox) {
  const int64_t cg = g.cin_g(), group = o / g.cout_g(), hw = g.h * g.w;
  const RowLayout layout(g.cout_g(), cg, g.kh * g.kw);
  float acc = a.bias ? a.bias[o] : 0;
  for (int64_t ky = 0; ky < g.kh; ++ky)
    for (int64_t kx = 0; kx < g.kw; ++kx) {
      const int64_t iy = oy * g.stride.h - g.padding.h + ky * g.dilation.h;
      const int64_t ix = ox * g.stride.w - g.padding.w + kx * g.dilation.w;
      if (iy < 0 || ix < 0 || iy >= g.h || ix >= g.w) continue;
      for (int64_t i = 0; i < cg; ++i) {
        const int64_t c = group * cg + i, p = iy * g.w + ix;
        const float v = a.x ? a.x[at(a.x_channels_last, m, c, p, g.c, hw)]
                            : float((a.words[(m * hw + p) * words_of(g.c) + c / 32] >> (c % 32)) & 1);
        if (!(v == 0))
          acc += v * a.rows[group * layout.group_size() + layout.index((ky * g.kw + kx) * cg + i, o % g.cout_g())];
      }
    }
  return acc;
}

void conv(const ConvArgs& a, const ConvGeometry& g, int) {
  for (int64_t m = 0; m < g.m; ++m)
    for (int64_t o = 0; o < g.cout; ++o)
      for (int64_t p = 0; p < g.ho * g.wo; ++p) {
        const int64_t e = at(a.channels_last, m, o, p, g.cout, g.ho * g.wo);
        a.out[e] = one(a, g, m, o, p / g.wo, p % g.wo) + (a.residual ? a.residual[e] : 0);
      }
}

void conv_lif(const ConvArgs& a, const ConvGeometry& g, int) {
  const int64_t n = g.m / std::max<int64_t>(a.steps, 1), hw = g.ho * g.wo, wp = words_of(g.cout);
  std::fill(a.words_out, a.words_out + g.m * hw * wp, 0);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t p = 0; p < hw; ++p)
      for (int64_t o = 0; o < g.cout; ++o) {
        const int64_t e = (i * hw + p) * g.cout + o;
        float v = a.v0 ? a.v0[e] : a.config.reset;
        for (int64_t t = 0; t < a.steps; ++t) {
          const int64_t m = t * n + i, word = (m * hw + p) * wp + o / 32;
          float x = one(a, g, m, o, p / g.wo, p % g.wo);
          if (a.residual) x += a.residual[(m * hw + p) * g.cout + o];
          if (a.residual_words) x += float((a.residual_words[word] >> (o % 32)) & 1);
          if (fire(x, v, a.config)) a.words_out[word] |= 1u << (o % 32);
        }
        a.v[e] = v;
      }
}

}  // namespace

const Kernels scalar_kernels{"scalar", pack, unpack, lif, lif_pack, conv, conv_lif};
#ifdef SPARSEFLOW_X86
const Kernels avx2_kernels{"avx2", pack, unpack, lif, lif_pack, conv, conv_lif};
const Kernels avx512_kernels{"avx512", pack, unpack, lif, lif_pack, conv, conv_lif};
#endif

}  // namespace sparseflow
