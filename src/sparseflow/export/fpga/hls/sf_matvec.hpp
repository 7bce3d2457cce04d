// INT8 matrix times vector on ROWS x COLS multipliers; weights in tiles, byte [r * COLS + c] of a tile.
#pragma once

#include "sf_fixed.hpp"

template <int ROWS, int COLS>
void sf_matvec(const int8_t *tiles, const int32_t *bias, const int32_t *multiplier, const uint8_t *shift, int inputs,
               int outputs, int32_t limit, const int8_t *x, int32_t *y) {
  const int across = (inputs + COLS - 1) / COLS, down = (outputs + ROWS - 1) / ROWS;
  for (int block = 0; block < down; ++block) {
    int32_t acc[ROWS] = {};
#pragma HLS ARRAY_PARTITION variable = acc complete
    for (int t = 0; t < across; ++t) {
#pragma HLS PIPELINE II = 1
      const int8_t *tile = tiles + (block * across + t) * ROWS * COLS;
      for (int r = 0; r < ROWS; ++r) {
#pragma HLS UNROLL
        for (int c = 0; c < COLS; ++c) {
#pragma HLS UNROLL
          const int8_t code = t * COLS + c < inputs ? x[t * COLS + c] : int8_t(0);
          acc[r] += int32_t(tile[r * COLS + c]) * code;
        }
      }
    }
    for (int r = 0; r < ROWS; ++r) {
#pragma HLS PIPELINE II = 1
      const int o = block * ROWS + r;
      if (o < outputs) y[o] = sf_requant(acc[r] + (bias ? bias[o] : 0), multiplier[o], shift[o], limit);
    }
  }
}
