#pragma once
#include <cstdint>

namespace sparseflow {

struct LookupArgs {
  const uint8_t* tables;  // [maps, 256]
  int64_t maps, size;     // tables, and codes that each reads
  bool shared;            // all of them read the same codes
};

// One set of entry points per instruction set; each lives in its own translation unit.
struct LookupKernels {
  void (*bytes)(const LookupArgs& args, const uint8_t* codes, uint8_t* out, int threads);
  // Returns how many elements are no integer of 0 to 255; what they become is unspecified.
  int64_t (*floats)(const LookupArgs& args, const float* codes, float* out, int threads);
};

extern const LookupKernels scalar_lookup;
#ifdef SPARSEFLOW_X86
extern const LookupKernels avx512_lookup;
#endif

// The kernels of a named instruction set, or of the best one here for "auto"; "avx2" has none of its own.
const LookupKernels& lookup_kernels(const char* isa);

}  // namespace sparseflow
