#pragma once
#include <cstdint>
#include <stdexcept>

namespace sparseflow {

struct Pair {
  int64_t h, w;
};

struct ConvGeometry {
  int64_t m, c, h, w, cout, kh, kw;
  Pair stride, padding, dilation;
  int64_t groups, ho, wo;

  ConvGeometry(int64_t m_, int64_t c_, int64_t h_, int64_t w_, int64_t cout_, int64_t kh_, int64_t kw_, Pair s, Pair p,
               Pair d, int64_t g)
      : m(m_), c(c_), h(h_), w(w_), cout(cout_), kh(kh_), kw(kw_), stride(s), padding(p), dilation(d), groups(g) {
    if (m < 0 || c < 1 || h < 1 || w < 1 || cout < 1 || kh < 1 || kw < 1 || s.h < 1 || s.w < 1 || d.h < 1 || d.w < 1 ||
        g < 1)
      throw std::invalid_argument("convolution sizes must be positive");
    if (p.h < 0 || p.w < 0) throw std::invalid_argument("padding must not be negative");
    if (c % g || cout % g) throw std::invalid_argument("groups must divide the input and output channels");
    if (h + 2 * p.h < d.h * (kh - 1) + 1 || w + 2 * p.w < d.w * (kw - 1) + 1)
      throw std::invalid_argument("the kernel is larger than the padded input");
    ho = (h + 2 * p.h - d.h * (kh - 1) - 1) / s.h + 1;
    wo = (w + 2 * p.w - d.w * (kw - 1) - 1) / s.w + 1;
  }
  int64_t cin_g() const { return c / groups; }
  int64_t cout_g() const { return cout / groups; }
};

inline int64_t words_of(int64_t channels) { return (channels + 31) / 32; }

}  // namespace sparseflow
