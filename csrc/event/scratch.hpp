#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace sparseflow {
namespace {

// Grow-only, cache-line aligned memory that a thread keeps between calls, so that no call pays for page faults.
template <class T>
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(data_); }

  T* get(int64_t size) {
    if (size > size_) {
      std::free(data_);
      const size_t bytes = (static_cast<size_t>(size + size / 4) * sizeof(T) + 4095) / 4096 * 4096;
      data_ = static_cast<T*>(std::aligned_alloc(4096, bytes));
      if (!data_) std::abort();
      size_ = size + size / 4;
    }
    return data_;
  }

 private:
  T* data_ = nullptr;
  int64_t size_ = 0;
};

constexpr int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

}  // namespace
}  // namespace sparseflow
