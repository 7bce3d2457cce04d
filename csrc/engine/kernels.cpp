#include "engine/kernels.hpp"

#include <cstring>
#include <stdexcept>
#include <string>

namespace sparseflow {

namespace {

#ifdef SPARSEFLOW_X86
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni");
}
#endif

}  // namespace

std::vector<const char*> engine_isas() {
  std::vector<const char*> names{"scalar"};
#ifdef SPARSEFLOW_X86
  if (has_avx2()) names.push_back("avx2");
  if (has_avx512()) names.push_back("avx512");
#endif
  return names;
}

const EngineKernels& engine_kernels(const char* isa) {
  static const std::vector<const char*> names = engine_isas();
  const char* const wanted = std::strcmp(isa, "auto") ? isa : names.back();
  for (const char* name : names) {
    if (std::strcmp(name, wanted)) continue;
#ifdef SPARSEFLOW_X86
    if (!std::strcmp(name, "avx512")) return engine_avx512;
    if (!std::strcmp(name, "avx2")) return engine_avx2;
#endif
    return engine_scalar;
  }
  throw std::invalid_argument(std::string("the engine has no kernels for instruction set '") + isa + "' here");
}

}  // namespace sparseflow
