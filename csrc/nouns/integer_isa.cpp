#include "nouns/integer_isa.hpp"

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

std::vector<const char*> integer_isas() {
  std::vector<const char*> names{"scalar"};
#ifdef SPARSEFLOW_X86
  if (has_avx2()) names.push_back("avx2");
  if (has_avx512()) names.push_back("avx512");
#endif
  return names;
}

const char* integer_isa(const char* wanted) {
  static const std::vector<const char*> names = integer_isas();
  if (!std::strcmp(wanted, "auto")) return names.back();
  for (const char* name : names)
    if (!std::strcmp(name, wanted)) return name;
  throw std::invalid_argument(std::string("the engine has no kernels for instruction set '") + wanted + "' here");
}

}  // namespace sparseflow
