#include "nouns/arena.hpp"

#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <unordered_map>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace sparseflow {

namespace {

constexpr size_t kHuge = size_t{2} << 20;

struct Piece {
  void* at;
  size_t bytes;
};

struct Arena {
  std::mutex mutex;
  std::vector<Piece> waiting;  // oldest first
  std::unordered_map<void*, size_t> taken;
  size_t waits = 0;

  void release_oldest() {
    std::free(waiting.front().at);
    waits -= waiting.front().bytes;
    waiting.erase(waiting.begin());
  }
};

// Never destroyed: tensors may outlive this library's statics.
Arena& arena() {
  static Arena& one = *new Arena;
  return one;
}

}  // namespace

void* arena_take(size_t bytes) {
  Arena& a = arena();
  const std::lock_guard<std::mutex> lock(a.mutex);
  const size_t wanted = (bytes + kHuge - 1) / kHuge * kHuge;
  // The youngest that fits without waste: its pages are the warmest.
  for (size_t i = a.waiting.size(); i-- > 0;) {
    const Piece piece = a.waiting[i];
    if (piece.bytes < wanted || piece.bytes > wanted + wanted / 4) continue;
    a.waiting.erase(a.waiting.begin() + static_cast<std::ptrdiff_t>(i));
    a.waits -= piece.bytes;
    a.taken[piece.at] = piece.bytes;
    return piece.at;
  }
  void* const at = std::aligned_alloc(kHuge, wanted);
  if (!at) return nullptr;
#ifdef __linux__
  madvise(at, wanted, MADV_HUGEPAGE);
#endif
  a.taken[at] = wanted;
  return at;
}

void arena_give(void* piece) {
  Arena& a = arena();
  const std::lock_guard<std::mutex> lock(a.mutex);
  const auto found = a.taken.find(piece);
  if (found == a.taken.end()) return;
  a.waiting.push_back({piece, found->second});
  a.waits += found->second;
  a.taken.erase(found);
  while (a.waits > kArenaKept) a.release_oldest();
}

size_t arena_free() {
  Arena& a = arena();
  const std::lock_guard<std::mutex> lock(a.mutex);
  return a.waits;
}

void arena_clear() {
  Arena& a = arena();
  const std::lock_guard<std::mutex> lock(a.mutex);
  while (!a.waiting.empty()) a.release_oldest();
}

}  // namespace sparseflow
