#pragma once
#include <cstdint>

namespace sparseflow {

// Packed weight of one group: slabs of input channels; in a slab, panels of up to 64 output channels;
// in a panel one row of `width` floats for every (tap, input channel of the slab).
// A depthwise weight is one row of all channels, padded to 16, for every tap.
struct RowLayout {
  static constexpr int64_t kPanel = 64;
  static constexpr int64_t kSlabRows = 4608;  // one panel of a slab takes 1.2 MB at most, which stays in a 2 MB L2
  static constexpr int64_t kMaxTaps = 65535;  // events are 16-bit row numbers inside a slab

  int64_t cout, cin, taps, padded, slab;

  RowLayout(int64_t cout_g, int64_t cin_g, int64_t taps_)
      : cout(cout_g), cin(cin_g), taps(taps_), padded((cout_g + 15) / 16 * 16), slab(cin_g) {
    if (taps * cin > kSlabRows) {
      slab = kSlabRows / taps;
      slab = slab >= 32 ? slab / 32 * 32 : slab < 1 ? 1 : slab;
    }
  }
  int64_t size() const { return padded * taps * cin; }
  int64_t slabs() const { return (cin + slab - 1) / slab; }
  int64_t slab_channels(int64_t s) const { return s + 1 < slabs() ? slab : cin - s * slab; }
  int64_t slab_start(int64_t s) const { return padded * taps * slab * s; }
  int64_t panels() const { return (padded + kPanel - 1) / kPanel; }
  int64_t width(int64_t panel) const { return panel + 1 < panels() ? kPanel : padded - panel * kPanel; }
  int64_t panel_start(int64_t s, int64_t panel) const { return slab_start(s) + panel * kPanel * taps * slab_channels(s); }
};

inline bool is_depthwise(int64_t cout_g, int64_t cin_g) { return cout_g == 1 && cin_g == 1; }

}  // namespace sparseflow
