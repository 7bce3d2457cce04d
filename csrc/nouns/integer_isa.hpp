#pragma once
#include <vector>

namespace sparseflow {

// Instruction sets with kernels for 8-bit codes that this machine runs, slowest first. "avx512" needs VNNI and VBMI.
std::vector<const char*> integer_isas();

// One of them by its name, or the best for "auto"; throws std::invalid_argument for any other.
const char* integer_isa(const char* wanted);

}  // namespace sparseflow
