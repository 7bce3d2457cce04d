#pragma once
// Spikes as the bytes of input tiles. Included once, after vec_avx512.hpp.
#include <cstring>
#include <vector>

#include "core/geometry.hpp"
#include "event/scratch.hpp"

namespace sparseflow {
namespace {

constexpr int64_t kPixels = 16;  // rows of a tile
constexpr int64_t kTileBytes = 1024;

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
  void fill(const int32_t* words, int64_t first, int64_t count, uint8_t* to, const uint8_t** groups,
            Scratch<uint64_t>& scratch) const {
    columns_ ? fill_columns(words, first, count, to, groups) : gather(words, first, count, to, groups, scratch);
  }

 private:
  static void store(uint8_t* to, uint64_t bits) {
    _mm512_store_si512(to, _mm512_maskz_mov_epi8(bits, _mm512_set1_epi8(1)));
  }

  void fill_columns(const int32_t* words, int64_t first, int64_t count, uint8_t* to, const uint8_t** groups) const {
    for (int64_t done = 0; done < count; to += part_bytes_) {
      const int64_t image = (first + done) / hw_, begin = (first + done) % hw_, n = least(count - done, hw_ - begin);
      const int64_t top = begin / g_.wo, rows = (begin + n - 1) / g_.wo - top + 1 + (g_.kh - 1) * g_.dilation.h;
      const int32_t* const map = words + image * g_.h * g_.w * wp_;
      for (int64_t b = 0; b < g_.kw; ++b)
        for (int64_t k = 0; k < wp_ / 2; ++k) {
          uint8_t* at = to + (b * wp_ / 2 + k) * plane_;
          for (int64_t r = 0; r < rows; ++r) {
            const int64_t i = top - g_.padding.h + r;
            const int32_t* const row = map + i * g_.w * wp_ + 2 * k;
            int64_t j = b * g_.dilation.w - g_.padding.w;
            for (int64_t x = 0; x < g_.wo; ++x, j += g_.stride.w, at += 64) {
              uint64_t bits = 0;
              if (i >= 0 && i < g_.h && j >= 0 && j < g_.w) std::memcpy(&bits, row + j * wp_, 8);
              store(at, bits);
            }
          }
        }
      for (int64_t p = 0; p < n; p += kPixels) *groups++ = to + (begin - top * g_.wo + p) * 64;
      done += n;
    }
  }

  void gather(const int32_t* words, int64_t first, int64_t count, uint8_t* to, const uint8_t** groups,
              Scratch<uint64_t>& scratch) const {
    uint64_t* const rows = scratch.get(kPixels * chunks_);
    std::memset(rows, 0, static_cast<size_t>(kPixels * chunks_ * 8));
    int64_t image = first / hw_, y = first % hw_ / g_.wo, x = first % g_.wo;
    for (int64_t p = 0; p < count; p += kPixels, to += chunks_ * kTileBytes) {
      for (int64_t r = 0; r < least(kPixels, count - p); ++r) {
        window(words + image * g_.h * g_.w * wp_, y, x, reinterpret_cast<int32_t*>(rows + r * chunks_));
        if (++x == g_.wo) {
          x = 0;
          if (++y == g_.ho) y = 0, ++image;
        }
      }
      for (int64_t j = 0; j < chunks_; ++j)
        for (int64_t r = 0; r < kPixels; ++r) store(to + j * kTileBytes + r * 64, rows[r * chunks_ + j]);
      *groups++ = to;
    }
  }

  // The words under the window of output pixel (y, x).
  void window(const int32_t* map, int64_t y, int64_t x, int32_t* to) const {
    const int64_t top = y * g_.stride.h - g_.padding.h, left = x * g_.stride.w - g_.padding.w;
    const bool inside = left >= 0 && left + (g_.kw - 1) * g_.dilation.w < g_.w;
    for (int64_t a = 0; a < g_.kh; ++a) {
      const int64_t i = top + a * g_.dilation.h;
      const bool row = i >= 0 && i < g_.h;
      if (row && inside && g_.dilation.w == 1) {
        copy(map + (i * g_.w + left) * wp_, to, wp_ * g_.kw);
        to += wp_ * g_.kw;
        continue;
      }
      for (int64_t b = 0; b < g_.kw; ++b, to += wp_) {
        const int64_t j = left + b * g_.dilation.w;
        if (row && j >= 0 && j < g_.w)
          copy(map + (i * g_.w + j) * wp_, to, wp_);
        else
          for (int64_t k = 0; k < wp_; ++k) to[k] = 0;
      }
    }
  }

  static void copy(const int32_t* from, int32_t* to, int64_t n) {
    for (; n >= 16; n -= 16, from += 16, to += 16) _mm512_storeu_si512(to, _mm512_loadu_si512(from));
    const M some = lanes(static_cast<int>(n));
    _mm512_mask_storeu_epi32(to, some, _mm512_maskz_loadu_epi32(some, from));
  }

  const ConvGeometry& g_;
  int64_t wp_, chunks_, hw_, stored_ = 0, plane_ = 0, part_bytes_ = 0, step_bytes_ = 0;
  bool columns_ = false;
  std::vector<int64_t> offsets_;
};

}  // namespace
}  // namespace sparseflow
