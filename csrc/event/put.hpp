#pragma once
// Stores of large outputs. Included once per instruction set, after its vec_*.hpp.
#include <cstdint>

namespace sparseflow {
namespace {

constexpr int64_t kCached = 1 << 19;  // floats of output that may still be in a cache when they are read

// Whole, aligned lines of outputs larger than that go around the caches, which would else fetch them first and drop
// the input for them.
template <bool PAST>
inline void put(float* p, F x) {
  PAST ? f_stream(p, x) : f_store(p, x);
}

}  // namespace
}  // namespace sparseflow
