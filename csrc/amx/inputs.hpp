#pragma once
// Spikes or counts as the bytes of input tiles. Included once, after vec_avx512.hpp.
#include <cstring>
#include <vector>

#include "nouns/geometry.hpp"
#include "event/scratch.hpp"

namespace sparseflow {
namespace {

constexpr int64_t kPixels = 16;  // rows of a tile
constexpr int64_t kTileBytes = 1024;

// What lies in memory for 32 channels of a pixel: a word of bits, or a byte a channel.
struct Bits {
  static constexpr int64_t kBytes = 4;
  // Write 64 inputs.
  static void store(uint8_t* to, const uint8_t* from) {
    uint64_t bits;
    std::memcpy(&bits, from, 8);
    _mm512_store_si512(to, _mm512_maskz_mov_epi8(bits, _mm512_set1_epi8(1)));
  }
};

struct Bytes {
  static constexpr int64_t kBytes = 32;
  static void store(uint8_t* to, const uint8_t* from) { _mm512_store_si512(to, _mm512_loadu_si512(from)); }
};

// Sixteen neighbouring output pixels of a step share a tile for every 64 inputs of their windows. Tile j of a group of
// pixels lies at the group's address + offsets()[j].
//
// In general every window is gathered. Where groups do not cross maps and windows move down by one row, the tiles of
// one column of the window are copies of each other, a row of pixels apart: each column is then stored once.
class Inputs {
 public:
  Inputs(const ConvGeometry& geometry, int64_t wp)
      : g_(geometry), wp_(wp), chunks_((wp * g_.kh * g_.kw + 1) / 2), hw_(g_.ho * g_.wo) {
    columns_ = wp_ % 2 == 0 && hw_ % kPixels == 0 && g_.stride.h == 1;
  }

  int64_t chunks() const { return chunks_; }
  bool columns() const { return columns_; }

  // Tiles that a group of pixels brings along, about.
  int64_t weight() const { return columns_ ? chunks_ / g_.kh * (g_.kh > 1 ? 2 : 1) : chunks_; }

  // The number of groups a unit should have: whole maps, or an equal part of one.
  int64_t align(int64_t groups) const {
    if (!columns_) return groups;
    const int64_t map = hw_ / kPixels;
    if (groups >= map) return groups / map * map;
    while (map % groups) --groups;
    return groups;
  }

  // Fix the largest number of groups of a unit.
  void limit(int64_t groups) {
    if (!columns_) {
      step_bytes_ = groups * chunks_ * kTileBytes;
      for (int64_t j = 0; j < chunks_; ++j) offsets_.push_back(j * kTileBytes);
      return;
    }
    const int64_t part = least(groups * kPixels, hw_);
    stored_ = least(g_.ho, (part + g_.wo - 2) / g_.wo + 1) + (g_.kh - 1) * g_.dilation.h;
    plane_ = stored_ * g_.wo * 64;
    part_bytes_ = g_.kw * wp_ / 2 * plane_;
    step_bytes_ = (groups * kPixels + hw_ - 1) / hw_ * part_bytes_;
    for (int64_t a = 0; a < g_.kh; ++a)
      for (int64_t b = 0; b < g_.kw; ++b)
        for (int64_t k = 0; k < wp_ / 2; ++k)
          offsets_.push_back((b * wp_ / 2 + k) * plane_ + a * g_.dilation.h * g_.wo * 64);
  }

  int64_t step_bytes() const { return step_bytes_; }
  const int64_t* offsets() const { return offsets_.data(); }

  // Write the tiles of `count` pixels from `first` on, counted over all maps, and the address of every group.
  template <class Source>
  void fill(const uint8_t* x, int64_t first, int64_t count, uint8_t* to, const uint8_t** groups,
            Scratch<uint8_t>& scratch) const {
    columns_ ? fill_columns<Source>(x, first, count, to, groups) : gather<Source>(x, first, count, to, groups, scratch);
  }

 private:
  template <class Source>
  void fill_columns(const uint8_t* x, int64_t first, int64_t count, uint8_t* to, const uint8_t** groups) const {
    const int64_t pixel = wp_ * Source::kBytes;
    for (int64_t done = 0; done < count; to += part_bytes_) {
      const int64_t image = (first + done) / hw_, begin = (first + done) % hw_, n = least(count - done, hw_ - begin);
      const int64_t top = begin / g_.wo, rows = (begin + n - 1) / g_.wo - top + 1 + (g_.kh - 1) * g_.dilation.h;
      const uint8_t* const map = x + image * g_.h * g_.w * pixel;
      for (int64_t b = 0; b < g_.kw; ++b)
        for (int64_t k = 0; k < wp_ / 2; ++k) {
          uint8_t* at = to + (b * wp_ / 2 + k) * plane_;
          for (int64_t r = 0; r < rows; ++r) {
            const int64_t i = top - g_.padding.h + r;
            const uint8_t* const row = map + i * g_.w * pixel + 2 * k * Source::kBytes;
            int64_t j = b * g_.dilation.w - g_.padding.w;
            for (int64_t left = g_.wo; left > 0; --left, j += g_.stride.w, at += 64) {
              if (i >= 0 && i < g_.h && j >= 0 && j < g_.w)
                Source::store(at, row + j * pixel);
              else
                _mm512_store_si512(at, _mm512_setzero_si512());
            }
          }
        }
      for (int64_t p = 0; p < n; p += kPixels) *groups++ = to + (begin - top * g_.wo + p) * 64;
      done += n;
    }
  }

  template <class Source>
  void gather(const uint8_t* x, int64_t first, int64_t count, uint8_t* to, const uint8_t** groups,
              Scratch<uint8_t>& scratch) const {
    const int64_t row_bytes = 2 * chunks_ * Source::kBytes, map = g_.h * g_.w * wp_ * Source::kBytes;
    uint8_t* const rows = scratch.get(kPixels * row_bytes);
    std::memset(rows, 0, static_cast<size_t>(kPixels * row_bytes));
    int64_t image = first / hw_, y = first % hw_ / g_.wo, at = first % g_.wo;
    for (int64_t p = 0; p < count; p += kPixels, to += chunks_ * kTileBytes) {
      for (int64_t r = 0; r < least(kPixels, count - p); ++r) {
        window<Source>(x + image * map, y, at, rows + r * row_bytes);
        if (++at == g_.wo) {
          at = 0;
          if (++y == g_.ho) y = 0, ++image;
        }
      }
      for (int64_t j = 0; j < chunks_; ++j)
        for (int64_t r = 0; r < kPixels; ++r)
          Source::store(to + j * kTileBytes + r * 64, rows + r * row_bytes + 2 * j * Source::kBytes);
      *groups++ = to;
    }
  }

  // Copy what lies under the window of output pixel (y, x).
  template <class Source>
  void window(const uint8_t* map, int64_t y, int64_t x, uint8_t* to) const {
    const int64_t pixel = wp_ * Source::kBytes;
    const int64_t top = y * g_.stride.h - g_.padding.h, left = x * g_.stride.w - g_.padding.w;
    const bool inside = left >= 0 && left + (g_.kw - 1) * g_.dilation.w < g_.w;
    for (int64_t a = 0; a < g_.kh; ++a) {
      const int64_t i = top + a * g_.dilation.h;
      const bool row = i >= 0 && i < g_.h;
      if (row && inside && g_.dilation.w == 1) {
        copy(map + (i * g_.w + left) * pixel, to, pixel * g_.kw);
        to += pixel * g_.kw;
        continue;
      }
      for (int64_t b = 0; b < g_.kw; ++b, to += pixel) {
        const int64_t j = left + b * g_.dilation.w;
        if (row && j >= 0 && j < g_.w)
          copy(map + (i * g_.w + j) * pixel, to, pixel);
        else
          std::memset(to, 0, static_cast<size_t>(pixel));
      }
    }
  }

  // n is a multiple of 4.
  static void copy(const uint8_t* from, uint8_t* to, int64_t n) {
    for (; n >= 64; n -= 64, from += 64, to += 64) _mm512_storeu_si512(to, _mm512_loadu_si512(from));
    const M some = lanes(static_cast<int>(n / 4));
    _mm512_mask_storeu_epi32(to, some, _mm512_maskz_loadu_epi32(some, from));
  }

  const ConvGeometry& g_;
  int64_t wp_, chunks_, hw_, stored_ = 0, plane_ = 0, part_bytes_ = 0, step_bytes_ = 0;
  bool columns_ = false;
  std::vector<int64_t> offsets_;
};

}  // namespace
}  // namespace sparseflow
