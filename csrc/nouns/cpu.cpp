#include "nouns/cpu.hpp"

#include <cstring>
#include <stdexcept>
#include <string>

#include "event/kernels.hpp"

namespace sparseflow {

namespace {

bool has_avx2() {
#ifdef SPARSEFLOW_X86
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt");
#else
  return false;
#endif
}

bool has_avx512() {
#ifdef SPARSEFLOW_X86
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vbmi2");
#else
  return false;
#endif
}

const Kernels* find(const char* isa) {
  if (!std::strcmp(isa, "scalar")) return &scalar_kernels;
#ifdef SPARSEFLOW_X86
  if (!std::strcmp(isa, "avx2") && has_avx2()) return &avx2_kernels;
  if (!std::strcmp(isa, "avx512") && has_avx512()) return &avx512_kernels;
#endif
  return nullptr;
}

}  // namespace

std::vector<const char*> isas() {
  std::vector<const char*> names{"scalar"};
  if (has_avx2()) names.push_back("avx2");
  if (has_avx512()) names.push_back("avx512");
  return names;
}

const Kernels& kernels(const char* isa) {
  static const Kernels& best = *find(isas().back());
  if (!std::strcmp(isa, "auto")) return best;
  if (const Kernels* found = find(isa)) return *found;
  throw std::invalid_argument(std::string("no kernels for instruction set '") + isa + "' on this machine");
}

}  // namespace sparseflow
