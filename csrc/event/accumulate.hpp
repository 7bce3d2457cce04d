#pragma once
// The inner loop: rows of the weight summed over event lists. Included once per instruction set.
#include "event/scratch.hpp"

namespace sparseflow {
namespace {

// Event lists of consecutive output pixels: rows[end[p-1]..end[p]) for pixel p, values beside them or null.
struct Lists {
  const uint16_t* row;
  const float* value;
  const uint32_t* end;  // end[-1] exists
};

// out[p * ld + 16*k ...] = start + sum of rows, for pixels and NB vectors of 16 output channels, NB up to 4.
// SETS independent sums hide the latency of the add where NB is small. The order of the sum depends on
// the list alone.
template <int NB, int SETS, bool VALUED, bool MORE>
inline void accumulate(const float* rows, const Lists& lists, int64_t pixels, const float* bias, float* out,
                       int64_t ld) {
  for (int64_t p = 0; p < pixels; ++p, out += ld) {
    F sum[SETS][NB];
    for (int k = 0; k < NB; ++k) sum[0][k] = f_load((MORE ? out : bias) + 16 * k);
    for (int s = 1; s < SETS; ++s)
      for (int k = 0; k < NB; ++k) sum[s][k] = f_zero();
    const int64_t last = lists.end[p];
    int64_t i = lists.end[p - 1];
    const auto add = [&](int64_t at, F* to) {
      const float* row = rows + static_cast<int64_t>(lists.row[at]) * (NB * 16);
      const F value = VALUED ? f_set(lists.value[at]) : f_zero();
#pragma GCC unroll 4
      for (int k = 0; k < NB; ++k) {
        const F w = f_load(row + 16 * k);
        to[k] = VALUED ? f_fma(value, w, to[k]) : f_add(to[k], w);
      }
    };
    for (; i + SETS <= last; i += SETS)
#pragma GCC unroll 4
      for (int s = 0; s < SETS; ++s) add(i + s, sum[s]);
    if (SETS > 1)
      for (; i < last; ++i) add(i, sum[0]);
    for (int s = 1; s < SETS; ++s)
      for (int k = 0; k < NB; ++k) sum[0][k] = f_add(sum[0][k], sum[s][k]);
    for (int k = 0; k < NB; ++k) f_store(out + 16 * k, sum[0][k]);
  }
}

template <bool VALUED, bool MORE>
inline void accumulate_any(int nb, const float* rows, const Lists& lists, int64_t pixels, const float* bias, float* out,
                           int64_t ld) {
  switch (nb) {
    case 1: return accumulate<1, 4, VALUED, MORE>(rows, lists, pixels, bias, out, ld);
    case 2: return accumulate<2, 2, VALUED, MORE>(rows, lists, pixels, bias, out, ld);
    case 3: return accumulate<3, 1, VALUED, MORE>(rows, lists, pixels, bias, out, ld);
    default: return accumulate<4, 1, VALUED, MORE>(rows, lists, pixels, bias, out, ld);
  }
}

}  // namespace
}  // namespace sparseflow
