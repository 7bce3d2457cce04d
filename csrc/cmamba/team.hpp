#pragma once
// Threads that share work. They meet at OpenMP's barrier, so all threads of the region form one team, or each its own.
#ifdef _OPENMP
#include <omp.h>
#endif

#include <cstdint>

namespace sparseflow {
namespace {

struct Range {
  int64_t first, last;
  int64_t size() const { return last - first; }
};

struct Team {
  int64_t rank, size;

  static Team here() {
#ifdef _OPENMP
    return {omp_get_thread_num(), omp_get_num_threads()};
#else
    return {0, 1};
#endif
  }
  void meet() const {
    if (size > 1) {
#pragma omp barrier
    }
  }
  // This thread's part of [first, last), whole units but for the end.
  Range share(Range all, int64_t unit = 1) const {
    const int64_t units = (all.size() + unit - 1) / unit;
    const auto at = [&](int64_t r) {
      const int64_t i = all.first + units * r / size * unit;
      return i < all.last ? i : all.last;
    };
    return {at(rank), at(rank + 1)};
  }
};

}  // namespace
}  // namespace sparseflow
