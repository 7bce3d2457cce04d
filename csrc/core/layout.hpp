#pragma once
#include <algorithm>
#include <cstdint>

namespace sparseflow {

// Packed weight of one group: panels of up to 64 output channels; in a panel one row of
// `width` floats for every (tap, input channel), then one row of zeros that pads event lists.
struct RowLayout {
  static constexpr int64_t kPanel = 64;
  int64_t padded, rows;  // output channels rounded up to 16; rows in a panel with the zero row

  RowLayout(int64_t cout_g, int64_t cin_g, int64_t taps) : padded((cout_g + 15) / 16 * 16), rows(taps * cin_g + 1) {}
  int64_t group_size() const { return padded * rows; }
  int64_t panels() const { return (padded + kPanel - 1) / kPanel; }
  int64_t width(int64_t panel) const { return std::min(kPanel, padded - panel * kPanel); }
  int64_t panel_start(int64_t panel) const { return panel * kPanel * rows; }
  int64_t index(int64_t row, int64_t o) const {
    const int64_t panel = o / kPanel;
    return panel_start(panel) + row * width(panel) + o % kPanel;
  }
};

}  // namespace sparseflow
