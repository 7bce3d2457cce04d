// One layer of a spiking network on packed spikes: 3x3, stride 1, padding 1, for sm_90a, with two thirds of the products
// of spike_layer.cu. See README.md.
//
// Winograd's F(2, 3) along rows: a pair of neighbouring outputs, which see pixels d0..d3 of a row, takes four products
//   m0 = (d0 - d2) g0, m1 = (d1 + d2) (g0 + g1 + g2) / 2, m2 = (d2 - d1) (g0 - g1 + g2) / 2, m3 = (d1 - d3) g2
// for y0 = m0 + m1 + m2 and y1 = m1 - m2 - m3. A warpgroup owns 64 pairs by 64 output channels, and walks over time.
// The decayed potentials wait in the accumulators of m0 and, negated, of m3.
//
// Compiled once for each set of defines; no header is needed.
//   COUNT       words of an input pixel, even
//   BUFFERS     operands that products under way may read
//   ADD, OUTP   planes added to the spikes, planes written
//   RESET       0 subtracts the threshold, 1 sets to 0, 2 sets to the reset potential

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short u16;
typedef unsigned char u8;
typedef float Sum;

#define BN 64
#define INT8 0
#define HALVES 1
#define VEC 1
#define LEAK 1
#define OUT 0
constexpr int STEPS = 4;
constexpr int STEP = BN * 32;          // bytes of one product
constexpr int CHUNK = STEP * STEPS;    // bytes of 64 inputs by 64 outputs
constexpr int PARTS = COUNT / 2;       // 64s of input channels
constexpr int UNITS = 3 * PARTS;       // of 64 inputs of one row of the window
constexpr int WAYS = 4;                // products of a unit
constexpr int GROUPS = 2;

struct Params {
  const u32* words;
  const u8* weights;       // float16 [columns][3][4][PARTS] chunks
  const float* constants;  // keep, threshold, reset, scale, 1/scale, 0, 0, 0, then the bias of every column
  u8* out;
  const u8* add;
  const int* gate;  // null, or where `open` must stand for the kernel to run
  int open, height, width, across;  // across: pairs of a row
  int step, pixels, pairs, steps;   // step: words of one time step
  int words_out, tiles, columns;    // tiles of 64 pairs, tiles of 64 channels
};

#include "instructions.cuh"

#include "neurons.cuh"

__device__ __forceinline__ u32 plus(u32 x, u32 y) {
  u32 z;
  asm("add.f16x2 %0, %1, %2;" : "=r"(z) : "r"(x), "r"(y));
  return z;
}

__device__ __forceinline__ u32 minus(u32 x, u32 y) {
  u32 z;
  asm("sub.f16x2 %0, %1, %2;" : "=r"(z) : "r"(x), "r"(y));
  return z;
}

extern "C" __global__ void __launch_bounds__(128 * GROUPS, 1) spike_pairs(const __grid_constant__ Params p) {
  extern __shared__ __align__(1024) u8 memory[];
  if (p.gate && *p.gate != p.open) return;
  float* bias = (float*)(memory + WAYS * UNITS * CHUNK);
  const u32 ring = shared(memory), full = shared(bias + BN);
  const int thread = threadIdx.x, group = thread / 128, lane = thread % 32, c = lane % 4;
  const int row = (thread % 128) / 32 * 16 + lane / 4, fours = 4 * c;
  const int column = blockIdx.x % p.columns, block = blockIdx.x / p.columns;
  const int blocks = (gridDim.x - column + p.columns - 1) / p.columns;

  if (thread == 0) {
    for (int i = 0; i < UNITS; ++i) barrier_init(full + 8 * i, 1);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async;" ::: "memory");
    const u8* from = p.weights + (u64)column * (WAYS * UNITS * CHUNK);
    for (int i = 0; i < UNITS; ++i) {
      barrier_expect(full + 8 * i, WAYS * CHUNK);
      for (int way = 0; way < WAYS; ++way) {
        const int chunk = (i / PARTS * WAYS + way) * PARTS + i % PARTS;
        copy(ring + chunk * CHUNK, from + chunk * CHUNK, CHUNK, full + 8 * i);
      }
    }
  }
  for (int i = thread; i < BN; i += 128 * GROUPS) bias[i] = p.constants[8 + column * BN + i];
  __syncthreads();

  const float keep = p.constants[0];
  const Neuron neuron{keep, p.constants[1], p.constants[2]};
  const float4* mean = (const float4*)bias + 4 * c;
  const int pitch = p.words_out * 4, line_words = p.width * COUNT;
  bool came = false;

#pragma unroll 1
  for (int begin = block; begin < p.tiles; begin += blocks * GROUPS) {
    // Where tiles are few, a warpgroup has a multiprocessor for itself.
    const int tile = begin + blocks * group;
    if (tile >= p.tiles) break;
    // Of each pair: the pixel of its window that this lane of four reads, in which rows there is one, and its outputs.
    const u32* at[2];
    u32 seen[2];
    bool stores[2][2];
    u8* to[2];
    [[maybe_unused]] const u8* from[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int pair = tile * 64 + row + 8 * r, line = pair / p.across, x = 2 * (pair - line * p.across);
      const int y = line % p.height;
      const bool ok = pair < p.pairs, there = ok && (u32)(x + c - 1) < (u32)p.width;
      seen[r] = (there && y > 0 ? 1 : 0) | (there ? 2 : 0) | (there && y + 1 < p.height ? 4 : 0);
      at[r] = p.words + ((long long)(line - 1) * p.width + x + c - 1) * COUNT;
      const u64 pixel = (u64)line * p.width + x;
      to[r] = p.out + pixel * (OUTP * pitch) + 8 * column + 2 * c;
      from[r] = p.add + pixel * (ADD * pitch) + 8 * column + 2 * c;
      stores[r][0] = ok && 2 * column + c / 2 < p.words_out;
      stores[r][1] = stores[r][0] && x + 1 < p.width;
    }
    u32 next[2][2];
    auto load_unit = [&](int unit) {
#pragma unroll
      for (int r = 0; r < 2; ++r)
        load2(next[r][0], next[r][1], at[r] + unit / PARTS * line_words + unit % PARTS * 2, seen[r] & 1u << unit / PARTS,
              true);
    };
    load_unit(0);

    float acc[WAYS][BN / 2];
    float b[16];
    auto biases = [&] {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float4 x = mean[i];
        b[4 * i] = x.x, b[4 * i + 1] = x.y, b[4 * i + 2] = x.z, b[4 * i + 3] = x.w;
      }
    };
    biases();
#pragma unroll
    for (int i = 0; i < BN / 2; ++i) {
      const float x = __fmaf_rn(keep, neuron.rest(), b[i / 4 * 2 + i % 2]);
      acc[0][i] = x, acc[3][i] = -x;
    }

#pragma unroll 1
    for (int t = 0; t < p.steps; ++t) {
      u32 a[BUFFERS][WAYS][4];
#pragma unroll
      for (int unit = 0; unit < UNITS; ++unit) {
        // Four lanes need the words of the same four pixels: each reads one of them.
        u32 word[2][4][2];
#pragma unroll
        for (int i = 0; i < 16; ++i) {
          u32& x = word[i / 8][i / 2 % 4][i % 2];
          x = __shfl_sync(0xffffffffu, next[i / 8][i % 2], i / 2 % 4, 4) >> fours;
          asm volatile("" : "+r"(x)::"memory");
        }
        if (unit + 1 < UNITS) {
          load_unit(unit + 1);
        } else if (t + 1 < p.steps) {
#pragma unroll
          for (int r = 0; r < 2; ++r) at[r] += p.step;
          load_unit(0);
        }
        if (!came) barrier_wait(full + 8 * unit, 0);
#pragma unroll
        for (int s = 0; s < STEPS; ++s) {
          const int k = (unit * STEPS + s) % BUFFERS;
#pragma unroll
          for (int r = 0; r < 2; ++r)
#pragma unroll
            for (int q = 0; q < 2; ++q) {
              u32 d[4];
#pragma unroll
              for (int j = 0; j < 4; ++j) d[j] = word[r][j][s / 2] & 0x00010001u << (2 * (s % 2) + q);
              a[k][0][r + 2 * q] = minus(d[0], d[2]);
              a[k][1][r + 2 * q] = plus(d[1], d[2]);
              a[k][2][r + 2 * q] = minus(d[2], d[1]);
              a[k][3][r + 2 * q] = minus(d[1], d[3]);
            }
          // Keeps the compiler from sinking the expansion between the products, which would serialise them.
#pragma unroll
          for (int i = 0; i < 4 * WAYS; ++i) asm volatile("" : "+r"(a[k][i / 4][i % 4])::"memory");
          mma_fence();
#pragma unroll
          for (int way = 0; way < WAYS; ++way) {
            const int chunk = (unit / PARTS * WAYS + way) * PARTS + unit % PARTS;
            const u32 at_b = ((ring + chunk * CHUNK + s * STEP) >> 4) | (8u << 16);
            if (unit == 0 && s == 0 && way % 3)
              mma<false>(acc[way], a[k][way], at_b);
            else
              mma(acc[way], a[k][way], at_b);
          }
          mma_commit();
          mma_wait<BUFFERS - 1>();
        }
      }
      mma_wait<0>();
      came = true;

      biases();
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        u32 carry[2];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float sum = NO_SPIKES;
#pragma unroll
          for (int i = 0; i < 16; ++i) {
            const int k = i / 2 * 4 + 2 * r + i % 2;
            const float h = e == 0 ? acc[0][k] + (acc[1][k] + acc[2][k]) : (acc[1][k] - acc[2][k]) - acc[3][k];
            const float v = neuron.discharge(h, sum, i);
            acc[3 * e][k] = e == 0 ? __fmaf_rn(keep, v, b[i]) : __fmaf_rn(-keep, v, -b[i]);
          }
          carry[e] = __float_as_uint(sum);
        }
#pragma unroll
        for (int e = 0; e < 2; ++e)
          if (stores[r][e]) {
#pragma unroll
            for (int plane = 0; plane < OUTP; ++plane) {
              const u32 x = plane < ADD ? *(const u16*)(from[r] + (e * ADD + plane) * pitch) : 0;
              *(u16*)(to[r] + (e * OUTP + plane) * pitch) = (u16)(x ^ carry[e]);
              carry[e] &= x;
            }
          }
        to[r] += (u64)p.pixels * (OUTP * pitch);
        if (ADD) from[r] += (u64)p.pixels * (ADD * pitch);
      }
    }
  }
  // No block may end while weights are on their way.
  if (thread == 0)
    for (int i = 0; i < UNITS; ++i) barrier_wait(full + 8 * i, 0);
}
