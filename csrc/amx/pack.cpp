#include <algorithm>
#include <cmath>
#include <cstring>

#include "amx/amx.hpp"

#if defined(SPARSEFLOW_AMX) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace sparseflow {

namespace {

const char* probe() {
#if defined(SPARSEFLOW_AMX) && defined(__linux__)
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 24 & 1) || !(d >> 25 & 1))
    return "the processor has no AMX tiles for int8";
  if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vbmi2"))
    return "the processor lacks the AVX-512 parts that go with the tiles";
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  if (syscall(SYS_arch_prctl, kRequestPermission, kTileData) != 0)
    return "the operating system does not permit AMX tiles";
  return nullptr;
#else
  return "built without AMX";
#endif
}

}  // namespace

const char* tiles_refusal() {
  static const char* const refusal = probe();
  return refusal;
}

void pack_tiles(const float* weight, int8_t* tiles, int64_t cout, int64_t cin, int64_t taps) {
  const TileLayout to{cout, cin, taps};
  std::memset(tiles, 0, static_cast<size_t>(to.bytes()));
  float* scales = const_cast<float*>(to.scales(tiles));
  constexpr double kLargest = 127.0 * 65536.0;
  constexpr int kLeastExponent = -149;  // of a float32, which is a whole multiple of it
  const int64_t wp = words_of(cin);
  for (int64_t o = 0; o < cout; ++o) {
    const float* w = weight + o * cin * taps;
    float most = 0;
    for (int64_t i = 0; i < cin * taps; ++i) most = std::fmax(most, std::fabs(w[i]));
    if (most == 0) continue;
    // A power of two, so that weights on a grid of powers of two stay exact.
    int exponent;
    std::frexp(most / kLargest, &exponent);
    exponent = std::max(exponent, kLeastExponent);
    scales[o] = std::ldexp(1.f, exponent);
    const double inverse = std::ldexp(1.0, -exponent);
    int8_t* panel = tiles + o / 16 * to.panel_bytes();
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t c = 0; c < cin; ++c) {
        const int32_t q = static_cast<int32_t>(std::lrint(static_cast<double>(w[c * taps + tap]) * inverse));
        const int32_t low = ((q + 128) & 255) - 128, rest = (q - low) >> 8;
        const int32_t middle = ((rest + 128) & 255) - 128, high = (rest - middle) >> 8;
        const int64_t k = tap * wp * 32 + c;
        int8_t* at = panel + k / 64 * 3 * TileLayout::kTile + k % 64 / 4 * 64 + o % 16 * 4 + k % 4;
        at[0] = static_cast<int8_t>(high);
        at[TileLayout::kTile] = static_cast<int8_t>(middle);
        at[2 * TileLayout::kTile] = static_cast<int8_t>(low);
      }
  }
}

}  // namespace sparseflow
