#include <cstring>

#include "event/kernels.hpp"
#include "scan/math_scalar.hpp"
//
#include "scan/kernels.hpp"

namespace sparseflow {

const ScanKernels& scan_kernels(const char* isa) {
  const char* const name = kernels(isa).name;
#ifdef SPARSEFLOW_X86
  if (!std::strcmp(name, "avx512")) return avx512_scan;
  if (!std::strcmp(name, "avx2")) return avx2_scan;
#endif
  static_cast<void>(name);
  return scalar_scan;
}

}  // namespace sparseflow
