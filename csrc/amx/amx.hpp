#pragma once
#include <cstdint>

#include "event/kernels.hpp"

namespace sparseflow {

// Packed weight for tile multiplication: for each 16 output channels, for each 64 inputs (in the order of the
// window's words), three 1 KB tiles of signed bytes, most significant first; then one float scale a channel, the
// least power of two for which the bytes hold the channel's largest weight.
struct TileLayout {
  static constexpr int64_t kTile = 1024;

  int64_t cout, cin, taps;

  int64_t words() const { return words_of(cin) * taps; }
  int64_t chunks() const { return (words() + 1) / 2; }
  int64_t panels() const { return (cout + 15) / 16; }
  int64_t panel_bytes() const { return chunks() * 3 * kTile; }
  int64_t bytes() const { return panels() * (panel_bytes() + 64); }
  const int8_t* panel(const int8_t* tiles, int64_t i) const { return tiles + i * panel_bytes(); }
  const float* scales(const int8_t* tiles) const {
    return reinterpret_cast<const float*>(tiles + panels() * panel_bytes());
  }
};

// Why this machine cannot multiply tiles, or null; asks the kernel for permission at the first call.
const char* tiles_refusal();

void pack_tiles(const float* weight, int8_t* tiles, int64_t cout, int64_t cin, int64_t taps);

// Round-trip floats to bytes [m][h][w][c, filled up to a multiple of 32 with zeros].
struct ByteCount {
  int64_t other;  // values that are no integer of 0..255
  int64_t largest;
};
ByteCount pack_counts(const float* x, uint8_t* counts, int64_t m, int64_t c, int64_t h, int64_t w, bool channels_last,
                      int threads);

// As in `Kernels`, with `tiles` for `rows`; only groups == 1. Input is args.words, or `counts` if not null.
void tile_conv(const ConvArgs& args, const uint8_t* counts, const int8_t* tiles, const ConvGeometry& geometry,
               int threads);
void tile_conv_lif(const ConvArgs& args, const int8_t* tiles, const ConvGeometry& geometry, int threads);

}  // namespace sparseflow
