#pragma once
#include <vector>

namespace sparseflow {

// Instruction sets with kernels here that this machine runs, slowest first.
std::vector<const char*> isas();

}  // namespace sparseflow
