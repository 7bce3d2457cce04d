#pragma once
// Deals spans of codes to threads. Included once per instruction set, so everything here has internal linkage.
#include "event/scratch.hpp"
#include "triseg/lookup.hpp"

namespace sparseflow {
namespace {

constexpr int64_t kSpan = 1 << 14;

// Calls span(table, codes, out, n) for pieces of all maps; returns the sum of what it returns, shared codes once.
template <class T, class Span>
int64_t each_span(const LookupArgs& a, const T* codes, T* out, int threads, const Span& span) {
  const int64_t spans = (a.size + kSpan - 1) / kSpan, items = a.maps * spans;
  const int64_t busy = a.maps * a.size / kSpan + 1;
  int64_t sum = 0;
#pragma omp parallel for num_threads(static_cast<int>(least(threads, busy))) schedule(static) reduction(+ : sum)
  for (int64_t item = 0; item < items; ++item) {
    // Of shared codes all maps read a span while it is in the cache.
    const int64_t map = a.shared ? item % a.maps : item / spans;
    const int64_t from = (a.shared ? item / a.maps : item % spans) * kSpan;
    const T* const in = codes + (a.shared ? 0 : map * a.size) + from;
    const int64_t found = span(a.tables + map * 256, in, out + map * a.size + from, least(kSpan, a.size - from));
    if (!a.shared || map == 0) sum += found;
  }
  return sum;
}

}  // namespace
}  // namespace sparseflow
