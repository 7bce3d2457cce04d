#include "triseg/lookup.hpp"

#include <cstring>

#include "event/kernels.hpp"
#include "triseg/spans.hpp"

namespace sparseflow {

namespace {

int64_t byte_span(const uint8_t* table, const uint8_t* codes, uint8_t* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = table[codes[i]];
  return 0;
}

int64_t float_span(const uint8_t* table, const float* codes, float* out, int64_t n) {
  float values[256];
  for (int i = 0; i < 256; ++i) values[i] = table[i];
  int64_t other = 0;
  for (int64_t i = 0; i < n; ++i) {
    const float q = codes[i];
    const bool inside = q >= 0.f && q <= 255.f;
    const int at = inside ? static_cast<int>(q) : 0;
    other += !inside || static_cast<float>(at) != q;
    out[i] = values[at];
  }
  return other;
}

void bytes(const LookupArgs& a, const uint8_t* codes, uint8_t* out, int threads) {
  each_span(a, codes, out, threads, byte_span);
}

int64_t floats(const LookupArgs& a, const float* codes, float* out, int threads) {
  return each_span(a, codes, out, threads, float_span);
}

}  // namespace

const LookupKernels scalar_lookup{bytes, floats};

const LookupKernels& lookup_kernels(const char* isa) {
  const char* const name = kernels(isa).name;
#ifdef SPARSEFLOW_X86
  if (!std::strcmp(name, "avx512") && __builtin_cpu_supports("avx512vbmi")) return avx512_lookup;
#endif
  static_cast<void>(name);
  return scalar_lookup;
}

}  // namespace sparseflow
