#include "engine/kernels.hpp"

#include <cstring>

#include "nouns/integer_isa.hpp"

namespace sparseflow {

const EngineKernels& engine_kernels(const char* isa) {
  const char* const name = integer_isa(isa);
#ifdef SPARSEFLOW_X86
  if (!std::strcmp(name, "avx512")) return engine_avx512;
  if (!std::strcmp(name, "avx2")) return engine_avx2;
#endif
  static_cast<void>(name);
  return engine_scalar;
}

}  // namespace sparseflow
