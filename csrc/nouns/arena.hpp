#pragma once
#include <cstddef>

namespace sparseflow {

// Memory for large outputs that is used again. The C library maps such pieces afresh at every call, and a fresh
// page of 4 KB costs more than writing it: 2 GB/s where warm memory takes 25 (see README). Pieces here lie on huge
// pages, and up to kKept bytes of free ones wait for the next output of about their size.
constexpr size_t kArenaKept = size_t{256} << 20;

void* arena_take(size_t bytes);  // aligned to 2 MB; null if there is no memory
void arena_give(void* piece);
size_t arena_free();  // bytes that wait
void arena_clear();   // give what waits back to the system

}  // namespace sparseflow
