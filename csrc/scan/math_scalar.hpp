#pragma once
#include <cmath>
#include <cstring>

#include "event/vec_scalar.hpp"

#define SF_SCAN scalar_scan

namespace sparseflow {
namespace {

// The second operand where either is NaN, as in all three versions.
inline F f_max(F a, F b) {
  for (int i = 0; i < 16; ++i) b.x[i] = a.x[i] > b.x[i] ? a.x[i] : b.x[i];
  return b;
}
inline F f_min(F a, F b) {
  for (int i = 0; i < 16; ++i) b.x[i] = a.x[i] < b.x[i] ? a.x[i] : b.x[i];
  return b;
}
inline F f_round(F a) {
  for (int i = 0; i < 16; ++i) a.x[i] = std::nearbyint(a.x[i]);
  return a;
}
inline float power(int32_t n) {
  const int32_t bits = (n + 127) * (1 << 23);
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
// a 2^n for whole n of -160 to 160, in two steps because 2^160 is no float.
inline F f_scale(F a, F n) {
  for (int i = 0; i < 16; ++i) {
    const int32_t whole = n.x[i] == n.x[i] ? static_cast<int32_t>(n.x[i]) : 0, half = whole >> 1;
    a.x[i] = a.x[i] * power(half) * power(whole - half);
  }
  return a;
}
inline float f_sum(F a) {
  float sum = 0.f;
  for (float x : a.x) sum += x;
  return sum;
}

}  // namespace
}  // namespace sparseflow
