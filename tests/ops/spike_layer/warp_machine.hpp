// Runs the text of a CUDA kernel on a CPU: every lane is a fibre, and what lanes do together waits for all of them.
//
// Shared memory lies below 4 GiB, so that its addresses fit the kernel's. Global memory of `room` ends at a page that
// cannot be touched, so that a read or write behind it is caught.
#include <sys/mman.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned char u8;
struct uint2 { u32 x, y; };
struct uint4 { u32 x, y, z, w; };
static uint2 make_uint2(u32 x, u32 y) { return {x, y}; }

#define __device__
#define __global__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)

constexpr size_t SHARED = 1 << 20, DYNAMIC = 1 << 19, STACK = 1 << 16, PAGE = 4096;

struct Meeting { int arrived = 0, turn = 0; };
struct Warp { u32 said[32][3]; Meeting all; };
struct Block { Warp warps[32]; Meeting all; u8* memory; size_t used = 0; std::map<std::string, size_t> places; };
struct Fibre { ucontext_t context; bool done = false; int thread, block; std::vector<char> stack; };

static struct { int x; } threadIdx, blockIdx, gridDim;
static std::vector<Fibre> fibres;
static std::vector<Block> blocks;
static ucontext_t home;
static int current, first_block, threads_of_block;

static void resume(int i) {
  current = i, threadIdx.x = fibres[i].thread, blockIdx.x = fibres[i].block;
  swapcontext(&home, &fibres[i].context);
}
static void pause_here() { swapcontext(&fibres[current].context, &home); }
static Block& my_block() { return blocks[fibres[current].block - first_block]; }
static Warp& my_warp() { return my_block().warps[fibres[current].thread / 32]; }
static u32 my_lane() { return fibres[current].thread % 32; }
static void meet(Meeting& all, int of) {
  const int turn = all.turn;
  if (++all.arrived == of) all.arrived = 0, ++all.turn;
  else while (all.turn == turn) pause_here();
}
static void __syncwarp() { meet(my_warp().all, 32); }
static void __syncthreads() { meet(my_block().all, threads_of_block); }

// What every lane says, heard by `hear` when all have spoken.
template <class Hear>
static auto together(u32 x, u32 y, u32 z, Hear hear) {
  Warp& warp = my_warp();
  u32(&mine)[3] = warp.said[my_lane()];
  mine[0] = x, mine[1] = y, mine[2] = z;
  __syncwarp();
  auto heard = hear(warp.said);
  __syncwarp();
  return heard;
}
static u32 __ballot_sync(u32, bool x) {
  return together(x, 0, 0, [](auto& said) { u32 y = 0; for (int i = 0; i < 32; ++i) y |= said[i][0] << i; return y; });
}
static bool __any_sync(u32 all, bool x) { return __ballot_sync(all, x) != 0; }
static u32 __shfl_sync(u32, u32 x, int from) {
  return together(x, 0, 0, [=](auto& said) { return said[from & 31][0]; });
}

static int __popc(u32 x) { return __builtin_popcount(x); }
static int __ffs(u32 x) { return __builtin_ffs((int)x); }
static float __uint_as_float(u32 x) { float y; memcpy(&y, &x, 4); return y; }
static u32 __float_as_uint(float x) { u32 y; memcpy(&y, &x, 4); return y; }
static float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
static u64 __cvta_generic_to_shared(const void* at) { return (u64)at; }
template <class T>
static T loaded(u64 at) { T x; memcpy(&x, (const void*)at, sizeof x); return x; }

static u8* shared_place(const char* name, size_t bytes) {
  Block& block = my_block();
  const auto [it, made] = block.places.try_emplace(name, block.used);
  if (made) block.used += (bytes + 127) / 128 * 128;
  return block.memory + it->second;
}

// Half `i` of the pairs that a lane said.
static double half_of(u32 pair, int i) {
  const uint16_t bits = (uint16_t)(pair >> 16 * i);
  _Float16 x;
  memcpy(&x, &bits, 2);
  return (double)x;
}
static void mma_m16n8k8(float (&d)[4], u32 a0, u32 a1, u32 b) {
  const int g = my_lane() / 4, c = my_lane() % 4;
  together(a0, a1, b, [&](auto& said) {
    for (int i = 0; i < 4; ++i) {
      double sum = d[i];
      for (int k = 0; k < 8; ++k)
        sum += half_of(said[4 * g + k / 2][i / 2], k % 2) * half_of(said[4 * (2 * c + i % 2) + k / 2][2], k % 2);
      d[i] = (float)sum;
    }
    return 0;
  });
}
static u32 movmatrix_trans(u32 x) {
  const int g = my_lane() / 4, c = my_lane() % 4;
  return together(x, 0, 0, [=](auto& said) {
    auto half = [&](int row, int column) { return said[4 * row + column / 2][0] >> 16 * (column % 2) & 0xffff; };
    return half(2 * c, g) | half(2 * c + 1, g) << 16;
  });
}
