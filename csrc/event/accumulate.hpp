#pragma once
// The inner loop: rows of the weight summed over event lists. Included once per instruction set.
#include <type_traits>

#include "event/put.hpp"
#include "event/scratch.hpp"

namespace sparseflow {
namespace {

template <int N>
using Int = std::integral_constant<int, N>;

// Event lists of consecutive output pixels: rows[end[p-1]..end[p]) for pixel p, values beside them or null.
struct Lists {
  const uint16_t* row;
  const float* value;
  const uint32_t* end;  // end[-1] exists
};

// out[p * ld + 64*q + 16*k ...] = start + sum of rows, for pixels, P panels whose weights lie `panel` floats apart,
// and NB vectors of 16 output channels a panel, NB up to 4. SETS independent sums hide the latency of the add where
// NB is small. The order of the sum depends on the list alone.
template <int P, int NB, int SETS, bool VALUED, bool MORE, bool PAST>
inline void accumulate(const float* rows, int64_t panel, const Lists& lists, int64_t pixels, const float* bias,
                       float* out, int64_t ld) {
  constexpr int N = P * NB;
  for (int64_t p = 0; p < pixels; ++p, out += ld) {
    F sum[SETS][N];
    for (int k = 0; k < N; ++k) sum[0][k] = f_load((MORE ? out : bias) + 16 * k);
    for (int s = 1; s < SETS; ++s)
      for (int k = 0; k < N; ++k) sum[s][k] = f_zero();
    const int64_t last = lists.end[p];
    int64_t i = lists.end[p - 1];
    const auto add = [&](int64_t at, F* to) {
      const float* row = rows + static_cast<int64_t>(lists.row[at]) * (NB * 16);
      const F value = VALUED ? f_set(lists.value[at]) : f_zero();
#pragma GCC unroll 4
      for (int q = 0; q < P; ++q)
#pragma GCC unroll 4
        for (int k = 0; k < NB; ++k) {
          const F w = f_load(row + q * panel + 16 * k);
          F& sum_of = to[q * NB + k];
          sum_of = VALUED ? f_fma(value, w, sum_of) : f_add(sum_of, w);
        }
    };
    for (; i + SETS <= last; i += SETS)
#pragma GCC unroll 4
      for (int s = 0; s < SETS; ++s) add(i + s, sum[s]);
    if (SETS > 1)
      for (; i < last; ++i) add(i, sum[0]);
    for (int s = 1; s < SETS; ++s)
      for (int k = 0; k < N; ++k) sum[0][k] = f_add(sum[0][k], sum[s][k]);
    for (int k = 0; k < N; ++k) put<PAST>(out + 16 * k, sum[0][k]);
  }
}

// Sums up as many of `nb` vectors as one walk over the lists takes, and returns how many. A wide one spares others
// their mispredicted ends.
template <bool VALUED, bool MORE, bool PAST>
inline int64_t accumulate_some(bool wide, int64_t nb, const float* rows, int64_t panel, const Lists& lists, int64_t pixels,
                               const float* bias, float* out, int64_t ld) {
  const auto run = [&](auto p, auto n, auto sets) {
    accumulate<p, n, sets, VALUED, MORE, PAST>(rows, panel, lists, pixels, bias, out, ld);
    return int64_t{p} * n;
  };
  if (kWidest >= 4 && wide && nb >= 16) return run(Int<kWidest >= 4 ? 4 : 1>(), Int<4>(), Int<1>());
  if (kWidest >= 2 && wide && nb >= 8) return run(Int<kWidest >= 2 ? 2 : 1>(), Int<4>(), Int<1>());
  switch (nb) {
    case 1: return run(Int<1>(), Int<1>(), Int<4>());
    case 2: return run(Int<1>(), Int<2>(), Int<2>());
    case 3: return run(Int<1>(), Int<3>(), Int<1>());
    default: return run(Int<1>(), Int<4>(), Int<1>());
  }
}

}  // namespace
}  // namespace sparseflow
