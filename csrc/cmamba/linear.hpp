#pragma once
// Linear layers on rows of floats. Included once per instruction set, after scan/math_*.hpp, so everything here has
// internal linkage.
#include "scan/block.hpp"

namespace sparseflow {
namespace {

constexpr int64_t kTile = 6;                 // rows whose sums are in registers at once
constexpr int64_t kWide = kWidest > 1 ? 4 : 1;  // vectors of outputs beside each other there
constexpr int64_t kPanel = kWide * 16;

inline int64_t up16(int64_t n) { return (n + 15) / 16 * 16; }

// A weight [outputs, inputs] as panels of outputs: one row for the bias, then one for each input.
struct Packed {
  const float *weight, *bias;  // as torch has them; the bias may be null
  int64_t outputs, inputs;
  float* at;

  int64_t panels() const { return (outputs + kPanel - 1) / kPanel; }
  int64_t panel_size() const { return (inputs + 1) * kPanel; }
  int64_t size() const { return panels() * panel_size(); }
};

// Brings 16 outputs by 16 inputs from rows `ld` apart to columns kPanel apart, zeros where there are fewer.
inline void pack_square(const float* from, int64_t ld, int rows, int columns, float* to) {
  F r[16];
  for (int i = 0; i < 16; ++i) r[i] = i < rows ? load_lanes(from + i * ld, columns) : f_zero();
  transpose(r);
  for (int i = 0; i < columns; ++i) f_store(to + i * kPanel, r[i]);
}

inline void pack_panel(const Packed& w, int64_t panel) {
  float* const to = w.at + panel * w.panel_size();
  for (int64_t i = 0; i < kPanel; i += 16) {
    const int64_t first = panel * kPanel + i;
    const int rows = static_cast<int>(most(0, least(16, w.outputs - first)));
    f_store(to + i, w.bias && rows ? load_lanes(w.bias + first, rows) : f_zero());
    for (int64_t k = 0; k < w.inputs && rows; k += 16)
      pack_square(w.weight + first * w.inputs + k, w.inputs, rows, static_cast<int>(least(16, w.inputs - k)),
                  to + (k + 1) * kPanel + i);
  }
}

template <int R, int V>
void tile(const float* panel, int64_t inputs, const float* const* in, const float* const* start, float* const* out) {
  F sum[R][V];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) sum[r][v] = f_load((start ? start[r] : panel) + v * 16);
  for (int64_t k = 0; k < inputs; ++k) {
    panel += kPanel;
    F w[V];
    for (int v = 0; v < V; ++v) w[v] = f_load(panel + v * 16);
    for (int r = 0; r < R; ++r) {
      const F x = f_set(in[r][k]);
      for (int v = 0; v < V; ++v) sum[r][v] = f_fma(x, w[v], sum[r][v]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) f_store(out[r] + v * 16, sum[r][v]);
}

template <int R>
void tile_of(int64_t vectors, const float* panel, int64_t inputs, const float* const* in, const float* const* start,
             float* const* out) {
  switch (vectors) {
    case 1: return tile<R, 1>(panel, inputs, in, start, out);
    case 2: return tile<R, least(2, kWide)>(panel, inputs, in, start, out);
    case 3: return tile<R, least(3, kWide)>(panel, inputs, in, start, out);
    default: return tile<R, kWide>(panel, inputs, in, start, out);
  }
}

// Rows [first, last): in(row) are its inputs, start(row) what is added instead of the bias, out(row) room for its
// outputs rounded up to 16.
template <class In, class Start, class Out>
void linear(const Packed& w, int64_t first, int64_t last, const In& in, const Start& start, const Out& out) {
  const float *ins[kTile], *starts[kTile];
  float* outs[kTile];
  for (int64_t panel = 0; panel < w.panels(); ++panel) {
    const float* const at = w.at + panel * w.panel_size();
    const int64_t vectors = (least(kPanel, w.outputs - panel * kPanel) + 15) / 16;
    for (int64_t row = first; row < last; row += kTile) {
      const int64_t rows = least(kTile, last - row);
      const bool own = start(row) != nullptr;
      for (int64_t r = 0; r < rows; ++r) {
        ins[r] = in(row + r), outs[r] = out(row + r) + panel * kPanel;
        starts[r] = own ? start(row + r) + panel * kPanel : nullptr;
      }
      const float* const* const added = own ? starts : nullptr;
      switch (rows) {
        case 1: tile_of<1>(vectors, at, w.inputs, ins, added, outs); break;
        case 2: tile_of<2>(vectors, at, w.inputs, ins, added, outs); break;
        case 3: tile_of<3>(vectors, at, w.inputs, ins, added, outs); break;
        case 4: tile_of<4>(vectors, at, w.inputs, ins, added, outs); break;
        case 5: tile_of<5>(vectors, at, w.inputs, ins, added, outs); break;
        default: tile_of<6>(vectors, at, w.inputs, ins, added, outs);
      }
    }
  }
}

template <class In, class Out>
void linear(const Packed& w, int64_t first, int64_t last, const In& in, const Out& out) {
  linear(w, first, last, in, [](int64_t) -> const float* { return nullptr; }, out);
}

constexpr int64_t kDotRows = kWidest > 1 ? 8 : 2, kDotOutputs = kWidest > 1 ? 3 : 2;

template <int R, int C>
void dots(const float* x, int64_t ldx, const float* w, int64_t inputs, float* out, int64_t ldo) {
  F sum[R][C];
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) sum[r][c] = f_zero();
  for (int64_t k = 0; k < inputs; k += 16) {
    const int n = static_cast<int>(least(16, inputs - k));
    F columns[C];
    for (int c = 0; c < C; ++c) columns[c] = load_lanes(w + c * inputs + k, n);
    for (int r = 0; r < R; ++r) {
      const F row = load_lanes(x + r * ldx + k, n);
      for (int c = 0; c < C; ++c) sum[r][c] = f_fma(row, columns[c], sum[r][c]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) out[r * ldo + c] = f_sum(sum[r][c]);
}

template <int R>
void dots_of(int64_t outputs, const float* x, int64_t ldx, const float* w, int64_t inputs, float* out, int64_t ldo) {
  switch (outputs) {
    case 1: return dots<R, 1>(x, ldx, w, inputs, out, ldo);
    case 2: return dots<R, 2>(x, ldx, w, inputs, out, ldo);
    default: return dots<R, kDotOutputs>(x, ldx, w, inputs, out, ldo);
  }
}

// Weights of many inputs for few rows, read once where torch keeps them: products with outputs [first, last), not the
// bias, of up to kDotRows rows.
inline void few_rows(const float* w, int64_t inputs, int64_t first, int64_t last, const float* x, int64_t ldx,
                     int64_t rows, float* out, int64_t ldo) {
  for (int64_t o = first; o < last; o += kDotOutputs) {
    const int64_t outputs = least(kDotOutputs, last - o);
    const float* const at = w + o * inputs;
    switch (rows) {
      case 1: dots_of<1>(outputs, x, ldx, at, inputs, out + o, ldo); break;
      case 2: dots_of<2>(outputs, x, ldx, at, inputs, out + o, ldo); break;
      case 3: dots_of<least(3, kDotRows)>(outputs, x, ldx, at, inputs, out + o, ldo); break;
      case 4: dots_of<least(4, kDotRows)>(outputs, x, ldx, at, inputs, out + o, ldo); break;
      case 5: dots_of<least(5, kDotRows)>(outputs, x, ldx, at, inputs, out + o, ldo); break;
      case 6: dots_of<least(6, kDotRows)>(outputs, x, ldx, at, inputs, out + o, ldo); break;
      case 7: dots_of<least(7, kDotRows)>(outputs, x, ldx, at, inputs, out + o, ldo); break;
      default: dots_of<kDotRows>(outputs, x, ldx, at, inputs, out + o, ldo);
    }
  }
}

}  // namespace
}  // namespace sparseflow
