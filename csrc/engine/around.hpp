#pragma once
// What lies around the convolutions. Included once per instruction set, so everything here has internal linkage.
#include <algorithm>
#include <vector>

#include "engine/kernels.hpp"

namespace sparseflow {
namespace {

// Between -2^22 and 2^22 this sum and difference round halves to even, and vectorise.
constexpr float kRound = 12582912.f;

inline uint8_t finished(float steps, const Finish& f) {
  const float inside = std::min(f.high, std::max(f.low, steps));  // in this order NaN becomes low
  return static_cast<uint8_t>(static_cast<int>((inside + kRound) - kRound) + f.zero);
}

inline void looked_up(uint8_t* codes, int64_t n, const uint8_t* table) {
  if (table == nullptr) return;
  for (int64_t i = 0; i < n; ++i) codes[i] = table[codes[i]];
}

// Calls row(image, y) for this part's share of all rows.
template <class Row>
void each_row(int64_t images, int64_t h, int64_t part, int64_t parts, const Row& row) {
  for (int64_t i = images * h * part / parts; i < images * h * (part + 1) / parts; ++i) row(i / h, i % h);
}

template <class V>
void max_pool(const PoolArgs& a, int64_t part, int64_t parts) {
  std::vector<const uint8_t*> taps(static_cast<size_t>(a.kh * a.kw));
  each_row(a.images, a.out.h, part, parts, [&](int64_t n, int64_t y) {
    for (int64_t x = 0; x < a.out.w; ++x) {
      int64_t count = 0;
      for (int64_t ky = 0; ky < a.kh; ++ky) {
        const int64_t iy = y * a.sh - a.ph + ky * a.dh;
        if (iy < 0 || iy >= a.in.h) continue;
        for (int64_t kx = 0; kx < a.kw; ++kx) {
          const int64_t ix = x * a.sw - a.pw + kx * a.dw;
          if (ix < 0 || ix >= a.in.w) continue;
          taps[static_cast<size_t>(count++)] = a.in.at + n * a.in.image + iy * a.in.row + ix * a.in.pixel;
        }
      }
      V::largest(taps.data(), count, a.out.at + n * a.out.image + y * a.out.row + x * a.out.pixel, a.out.c);
    }
  });
}

void average_pool(const PoolArgs& a, int64_t part, int64_t parts) {
  each_row(a.images, a.out.h, part, parts, [&](int64_t n, int64_t y) {
    for (int64_t x = 0; x < a.out.w; ++x) {
      uint8_t* const to = a.out.at + n * a.out.image + y * a.out.row + x * a.out.pixel;
      const int64_t y0 = y * a.sh - a.ph, x0 = x * a.sw - a.pw;
      const int64_t y1 = std::min(y0 + a.kh, a.in.h + a.ph), x1 = std::min(x0 + a.kw, a.in.w + a.pw);
      const int64_t whole = (y1 - y0) * (x1 - x0);
      const int64_t top = std::max<int64_t>(y0, 0), left = std::max<int64_t>(x0, 0);
      const int64_t bottom = std::min(y1, a.in.h), right = std::min(x1, a.in.w);
      const int64_t inside = std::max<int64_t>(bottom - top, 0) * std::max<int64_t>(right - left, 0);
      const auto by = static_cast<float>(a.divisor ? a.divisor : a.include_padding ? whole : inside);
      for (int64_t c = 0; c < a.out.c; ++c) {
        int32_t sum = 0;
        for (int64_t iy = top; iy < bottom; ++iy) {
          for (int64_t ix = left; ix < right; ++ix) {
            sum += a.in.at[n * a.in.image + iy * a.in.row + ix * a.in.pixel + c] - a.in_zero;
          }
        }
        to[c] = finished(static_cast<float>(sum) / by * a.ratio, a.finish);
      }
      looked_up(to, a.out.c, a.finish.table);
    }
  });
}

void mean(const PoolArgs& a, int64_t part, int64_t parts) {
  each_row(a.images, 1, part, parts, [&](int64_t n, int64_t) {
    uint8_t* const to = a.out.at + n * a.out.image;
    for (int64_t from = 0; from < a.out.c; from += kBlock) {
      const int64_t wide = std::min(kBlock, a.out.c - from);
      int32_t sum[kBlock] = {};
      for (int64_t y = 0; y < a.in.h; ++y) {
        for (int64_t x = 0; x < a.in.w; ++x) {
          const uint8_t* const in = a.in.at + n * a.in.image + y * a.in.row + x * a.in.pixel + from;
          for (int64_t c = 0; c < wide; ++c) sum[c] += in[c] - a.in_zero;
        }
      }
      for (int64_t c = 0; c < wide; ++c) to[from + c] = finished(static_cast<float>(sum[c]) * a.ratio, a.finish);
    }
    looked_up(to, a.out.c, a.finish.table);
  });
}

void sum(const SumArgs& a, int64_t part, int64_t parts) {
  each_row(a.images, a.out.h, part, parts, [&](int64_t n, int64_t y) {
    for (int64_t x = 0; x < a.out.w; ++x) {
      uint8_t* const to = a.out.at + n * a.out.image + y * a.out.row + x * a.out.pixel;
      for (int64_t from = 0; from < a.out.c; from += kBlock) {
        const int64_t wide = std::min(kBlock, a.out.c - from);
        float total[kBlock] = {};
        for (size_t i = 0; i < a.in.size(); ++i) {
          const Map& m = a.in[i];
          const uint8_t* const in = m.at + n * m.image + y * m.row + x * m.pixel + from;
          const int zero = a.zeros[i];
          const float ratio = a.ratios[i];
          for (int64_t c = 0; c < wide; ++c) total[c] += static_cast<float>(in[c] - zero) * ratio;
        }
        for (int64_t c = 0; c < wide; ++c) to[from + c] = finished(total[c], a.finish);
      }
      looked_up(to, a.out.c, a.finish.table);
    }
  });
}

template <class V>
void move(const Map& in, const Map& out, int64_t images, const uint8_t* table, int64_t part, int64_t parts) {
  each_row(images, in.h, part, parts, [&](int64_t n, int64_t y) {
    for (int64_t x = 0; x < in.w; ++x) {
      V::look_up(table, in.at + n * in.image + y * in.row + x * in.pixel,
                 out.at + n * out.image + y * out.row + x * out.pixel, in.c);
    }
  });
}

int64_t quantize(const QuantizeArgs& a, int64_t part, int64_t parts) {
  constexpr int64_t kWide = 64;
  const Map& m = a.out;
  int64_t bad = 0;
  each_row(a.images, m.h, part, parts, [&](int64_t n, int64_t y) {
    uint8_t* const to = m.at + n * m.image + y * m.row;
    for (int64_t x0 = 0; x0 < m.w; x0 += kWide) {
      const int64_t wide = std::min(kWide, m.w - x0);
      for (int64_t c = 0; c < m.pixel; c += 4) {
        // Four channels at a time, so that a pixel's are written as one word.
        uint8_t rows[4][kWide] = {};
        for (int64_t i = 0; i < std::min<int64_t>(4, m.c - c); ++i) {
          const float* const from = a.in + ((n * m.c + c + i) * m.h + y) * m.w + x0;
          for (int64_t x = 0; x < wide; ++x) {
            bad += from[x] != from[x];
            rows[i][x] = finished(from[x] * a.inverse, a.finish);
          }
          looked_up(rows[i], wide, a.finish.table);
        }
        for (int64_t x = 0; x < wide; ++x) {
          const uint8_t word[4] = {rows[0][x], rows[1][x], rows[2][x], rows[3][x]};
          __builtin_memcpy(to + (x0 + x) * m.pixel + c, word, 4);
        }
      }
    }
  });
  return bad;
}

template <class V>
void depthwise(const DepthwiseArgs& a, int64_t part, int64_t parts) {
  each_row(a.images, a.ho, part, parts, [&](int64_t n, int64_t y) {
    const int64_t padded = (a.out.c + kBlock - 1) / kBlock * kBlock;
    for (int64_t x = 0; x < a.wo; ++x) {
      uint8_t* const to = a.out.at + n * a.out.image + y * a.out.row + x * a.out.pixel;
      const uint8_t* const in = a.in.at + n * a.in.image + y * a.sh * a.in.row + x * a.sw * a.in.pixel;
      for (int64_t from = 0; from < a.out.c; from += kLane) {
        const int64_t wide = std::min(kLane, a.out.c - from);
        typename V::Lane lane(a.offset + from);
        for (int64_t k = 0; k < a.kh * a.kw; ++k) {
          const uint8_t* const tap = in + k / a.kw * a.dh * a.in.row + k % a.kw * a.dw * a.in.pixel + from;
          lane.add(tap, a.weight + k * padded + from);
        }
        int32_t total[kLane];
        lane.store(total);
        for (int64_t c = 0; c < wide; ++c) {
          const float real = static_cast<float>(total[c]) + a.finish.bias[from + c];
          to[from + c] = finished(real * a.finish.multiplier[from + c], a.finish);
        }
      }
      looked_up(to, a.out.c, a.finish.table);
    }
  });
}

}  // namespace
}  // namespace sparseflow
