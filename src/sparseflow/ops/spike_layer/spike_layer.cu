// One layer of a spiking network on packed spikes, for sm_90a: implicit GEMM by wgmma with the spikes' bits
// expanded in registers, then neurons over time and packing, all before anything is written. See README.md.
//
// Compiled once for each set of defines; no header is needed.
//   BN        output channels of a tile: 64, or 32 (half of a packed tile)
//   TC        time steps that a warpgroup holds in accumulators at once: 1, 2, 4
//   WGS       consumer warpgroups of a block
//   SPLIT     the warpgroups share a tile and divide its time steps; else each has a tile of its own
//   PLANES    bit planes of the widest source
//   INT8      bits become bytes, weights are int8 with one scale a channel, and sums are whole; else all in float16
//   HALVES    1, or 2 for float16 weights of a high and a low half
//   IDENT     planes of the identity, if it is added after the product (INT8); else it is one more source
//   RESIDENT  all weights of a tile stay in shared memory; else a ring fed by one more warp
//   SCAN      there are words to look at for spikes besides those of the first chunks
//   VEC       every source reads its words in aligned pairs
//   MULTI     more time steps than are held: potentials wait in shared memory
//   TAIL      the steps held do not divide the steps
//   OUT       0 words, 1 float16, 2 float32
//   ADD       planes added to the spikes
//   OUTP      planes written
//   LEAK      the potential decays
//   RESET     0 subtracts the threshold, 1 sets to 0, 2 sets to the reset potential
//   V0 KEEPV  the potential comes in, goes out

#include "layer.cuh"

#include "instructions.cuh"

#include "operands.cuh"

#include "neurons.cuh"

#include "silence.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 1) spike_layer(const __grid_constant__ Params p) {
  extern __shared__ __align__(1024) u8 memory[];
  if (p.gate && *p.gate != p.open) return;
  Entry* table = (Entry*)(memory + p.stages * CHUNK);
  float* bias = (float*)(table + p.chunks);
  u64* barriers = (u64*)(bias + BN * (1 + INT8));
  u32* once = (u32*)(barriers + 2 * p.stages);
  float* potentials = (float*)(once + 4);
  const u32 ring = shared(memory), full = shared(barriers), empty = full + 8 * p.stages;

  const int thread = threadIdx.x, group = thread / 128, lane = thread % 32, c = lane % 4;
  const int row = (thread % 128) / 32 * 16 + lane / 4;

  // In a ring every block strides over pairs (tile of channels, tiles of pixels); resident weights fix the channels.
  const int passes = SPLIT ? p.tiles : (p.tiles + WGS - 1) / WGS;
  int item, items, stride, column;
  if (RESIDENT) {
    column = blockIdx.x % p.columns;
    item = blockIdx.x / p.columns;
    stride = (gridDim.x - column + p.columns - 1) / p.columns;
    items = passes;
  } else {
    item = blockIdx.x;
    stride = gridDim.x;
    items = passes * p.columns;
    column = item % p.columns;
  }

  if (thread == 0) {
    *once = 0;
    for (int i = 0; i < p.stages; ++i) {
      barrier_init(full + 8 * i, 1);
      barrier_init(empty + 8 * i, 4 * WGS);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async;" ::: "memory");
  }
  tabulate(p, table);
  const float* columns = p.constants + 8;
  if (RESIDENT)
    for (int i = thread; i < BN; i += THREADS) {
      const int from = column * BN / 64 * 64 + (BN == 64 ? i : (i / 8) * 16 + (column % 2) * 8 + i % 8);
      bias[i] = columns[from];
      if (INT8) bias[BN + i] = columns[p.columns * BN + from];
    }
  __syncthreads();

  const u64 tile_bytes = (u64)p.chunks * FULL;
  const int spans = MULTI ? (p.steps + HELD - 1) / HELD : 1;

  [[maybe_unused]] auto fetch_resident = [&](int begin, int end) {
    const u8* from = p.weights + (u64)(column * BN / 64) * tile_bytes;
    for (int i = begin; i < end; ++i) fetch(ring + i * CHUNK, from + (u64)i * FULL, column % 2, full + 8 * i);
  };
  const int early = !SCAN || p.chunks < EARLY ? p.chunks : EARLY;
  [[maybe_unused]] bool fetched = false;
  if (RESIDENT && thread == 0) fetch_resident(0, early);

#if !RESIDENT
  if (thread >= 128 * WGS) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (thread >= 128 * WGS + 32) return;
    int stage = 0;
    u32 parity = 1;
    for (; item < items; item += stride) {
      column = item % p.columns;
      const u8* from = p.weights + (u64)(column * BN / 64) * tile_bytes;
      for (int span = 0; span < spans; ++span) {
        int ahead = p.stages < p.chunks ? p.stages : p.chunks;
        for (int i = 0; i < p.chunks; ++i) {
          if (i == ahead && !vote(1, VOTERS, false)) break;
          if (lane == 0) {
            barrier_wait(empty + 8 * stage, parity);
            fetch(ring + stage * CHUNK, from + (u64)i * FULL, column % 2, full + 8 * stage);
          }
          __syncwarp();
          if (++stage == p.stages) stage = 0, parity ^= 1;
        }
        if (ahead == p.chunks) vote(1, VOTERS, false);
      }
    }
    return;
  }
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(WGS == 2 ? 240 : 112));
#endif

  [[maybe_unused]] const Neuron neuron{p.constants[0], p.constants[1], p.constants[2]};
  [[maybe_unused]] const float scale = p.constants[3], unscale = p.constants[4];
  [[maybe_unused]] float* mine = potentials + (SPLIT ? 0 : group * (BN / 2) * 128) + thread % 128;
  [[maybe_unused]] float* sums = potentials + (MULTI ? (SPLIT ? 1 : WGS) * (BN / 2) * 128 : 0) + thread % 128;

  // What the next loads need: the window of this thread's two pixels in the source in hand.
  int top[2], left[2], origin[2], height = 0, width = 0, plane_count = 0;
  [[maybe_unused]] int planes = 1;
  u64 words_at = 0, step = 0;
  const u32* at[2];
  bool go[2], two = true;
  [[maybe_unused]] int time = 0;
  Words words;

  int tile = 0, span = 0, stage = 0;
  u32 parity = 0;

  auto locate = [&]() {
    if (!RESIDENT) column = item % p.columns;
    const int pass = RESIDENT ? item : item / p.columns;
    tile = item >= items ? p.tiles : SPLIT ? pass : pass * WGS + group;
  };
  auto advance = [&]() {
    if (!MULTI || ++span == spans) {
      span = 0;
      item += stride;
      locate();
    }
  };
  auto aim = [&](int i) {
    Entry e = table[i];
    if (e.flags & 4) {
      const Source& s = p.source[e.flags & 3];
      height = s.linear ? 1 : s.height;
      width = s.linear ? 1 : s.width;
      plane_count = s.count;
      planes = s.planes;
      step = (u64)s.step * 4;
      words_at = (u64)s.words + (u64)(span * HELD + (SPLIT ? group * TC : 0)) * step;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int m = tile * 64 + row + 8 * r;
        top[r] = left[r] = 0;
        origin[r] = m * s.pitch;
        if (!s.linear) {
          const u32 area = p.height * p.width, n = (u32)m / area, rest = m - n * area, y = rest / (u32)p.width;
          top[r] = (int)y * s.sh - s.ph;
          left[r] = (int)(rest - y * p.width) * s.sw - s.pw;
          origin[r] = (((int)n * s.height + top[r]) * s.width + left[r]) * s.pitch;
        }
        if (m >= p.pixels) top[r] = -(1 << 30);
      }
      if (s.identity) {
        e.offset += column * BN / 64 * 2;
        e.flags = column * BN / 64 * 2 + 1 < s.count ? 8 : 0;
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      go[r] = (u32)(top[r] + e.dy) < (u32)height && (u32)(left[r] + e.dx) < (u32)width;
      at[r] = (const u32*)words_at + (origin[r] + e.offset);
    }
    two = (e.flags & 8) != 0;
    if (TAIL) time = span * HELD + (SPLIT ? group * TC : 0);
  };
  // Loads the words of one time step; steps are taken in order.
  auto take = [&](int t, int slot) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int plane = 0; plane < PLANES; ++plane) {
        const bool ok = go[r] && (!TAIL || time + t < p.steps) && (PLANES == 1 || plane < planes);
        u32* to = words[slot][plane][r];
        load2(to[0], to[1], at[r] + (PLANES == 1 ? 0 : plane * plane_count), ok, two);
      }
      at[r] = (const u32*)((u64)at[r] + step);
    }
  };
  // Loads the first chunks of a tile.
  auto start = [&]() {
#pragma unroll
    for (int d = 0; d < DEPTH; ++d) {
      if (d < p.chunks) aim(d);
      if (d >= p.chunks) go[0] = go[1] = false;
#pragma unroll
      for (int t = 0; t < TC; ++t) take(t, d * TC + t);
    }
  };

#if IDENT
  // A lane's channels of one pixel and step of the identity.
  auto same = [&](int t, int m, int plane, int channel) -> u32 {
    const Source& s = p.source[p.sources];
    if (t >= p.steps || m >= p.pixels || channel / 32 >= p.words) return 0;
    const u8* at = (const u8*)(s.words + ((u64)t * p.pixels + m) * s.pitch + plane * s.count) + channel / 8;
    return BN == 64 ? (u32) * (const u16*)at : *at;
  };
#endif

  locate();
  if (item < items) start();
  [[maybe_unused]] u32 quiet[HELD];
  [[maybe_unused]] int quiet_column = -1;

  while (item < items) {
    const int pixel = tile * 64 + row, begin = span * HELD;
    const int channel = column * BN / 64 * 64 + 16 * c + (BN == 64 ? 0 : column % 2 * 8);
    [[maybe_unused]] const int column_now = column;
    [[maybe_unused]] const bool first_span = !MULTI || span == 0, last_span = !MULTI || span + 1 == spans;
    // A tile that sees no spike in any step keeps its bias.
    const int judges = SPLIT ? 128 * WGS : 128, judge = SPLIT ? 2 : 2 + group;
    u32 seen = 0;
#pragma unroll
    for (int t = 0; t < TC * DEPTH; ++t)
#pragma unroll
      for (int plane = 0; plane < PLANES; ++plane)
        seen |= words[t][plane][0][0] | words[t][plane][0][1] | words[t][plane][1][0] | words[t][plane][1][1];
    bool busy = vote(judge, judges, seen != 0);
    if (SCAN && !busy && (p.chunks > DEPTH || IDENT)) busy = vote(judge, judges, spikes_near(p, tile, span * HELD + (SPLIT ? group * TC : 0)));
    const bool any = RESIDENT ? busy : vote(1, VOTERS, busy);

    Sum acc[TC][BN / 2];
    const float4* mean = (const float4*)(RESIDENT ? bias + PER * c : columns + channel);
#if INT8
    const float* means = (const float*)mean;
    const float* scales = RESIDENT ? bias + BN + PER * c : columns + p.columns * BN + channel;
#pragma unroll
    for (int i = 0; i < TC * BN / 2; ++i) acc[i / (BN / 2)][i % (BN / 2)] = 0;
#else
#pragma unroll
    for (int j = 0; j < BN / 16; ++j) {
      const float4 x = mean[j];
#pragma unroll
      for (int t = 0; t < TC; ++t) {
        acc[t][8 * j] = acc[t][8 * j + 2] = x.x;
        acc[t][8 * j + 1] = acc[t][8 * j + 3] = x.y;
        acc[t][8 * j + 4] = acc[t][8 * j + 6] = x.z;
        acc[t][8 * j + 5] = acc[t][8 * j + 7] = x.w;
      }
    }
#endif

    if (SCAN && RESIDENT && busy && !fetched) {
      fetched = true;
      if (thread % 128 == 0 && atomicExch(once, 1u) == 0) fetch_resident(early, p.chunks);
    }
    if (busy) {
      u32 a[2][STEPS][4];
      // Tensor cores cut off what does not fit below the largest number of a sum; two halves are added up apart.
      [[maybe_unused]] Sum part[BN / 2];
      auto multiply = [&](int t, int k, u32 b) {
        Sum (&to)[BN / 2] = HALVES == 2 ? part : acc[t];
        mma_fence();
#pragma unroll
        for (int s = 0; s < STEPS; ++s) {
          if (HALVES == 2 && s == 0)
            mma<false>(to, a[k][s], b);
          else
            mma(to, a[k][s], b + s * (STEP >> 4));
          if (HALVES == 2) mma(to, a[k][s], b + ((HALF + s * STEP) >> 4));
        }
        mma_commit();
      };
      auto gather = [&](int t) {
        mma_wait<0>();
#pragma unroll
        for (int i = 0; i < BN / 2; ++i) acc[t][i] = __fmaf_rn(part[i], 0x1p-15f, acc[t][i]);
      };
      if (DEPTH == 1) {
        for (int i = 0; i < p.chunks; ++i) {
          const bool last = i + 1 == p.chunks;
          if (last) advance();
          aim(last ? 0 : i + 1);
          if (RESIDENT) stage = i;
          barrier_wait(full + 8 * stage, RESIDENT ? 0 : parity);
          const u32 b = ((ring + stage * CHUNK) >> 4) | (8u << 16);
#pragma unroll
          for (int t = 0; t < TC; ++t) {
            expand(words[t], a[t & 1], c);
            multiply(t, t & 1, b);
            take(t, t);
            if (HALVES == 2)
              gather(t);
            else
              mma_wait<1>();
            if (!RESIDENT && t == 0)
              barrier_arrive(empty + 8 * (stage == 0 ? p.stages - 1 : stage - 1), i > 0 && lane == 0);
          }
          if (!RESIDENT && ++stage == p.stages) stage = 0, parity ^= 1;
        }
        mma_wait<0>();
        if (!RESIDENT) barrier_arrive(empty + 8 * (stage == 0 ? p.stages - 1 : stage - 1), lane == 0);
      } else {
        for (int i = 0; i < p.chunks; i += DEPTH) {
#pragma unroll
          for (int d = 0; d < DEPTH; ++d) {
            if (i + d >= p.chunks) break;
            expand(words[d], a[0], c);
            if (i + d + DEPTH < p.chunks) {
              aim(i + d + DEPTH);
              take(0, d);
            }
            if (RESIDENT) stage = i + d;
            barrier_wait(full + 8 * stage, RESIDENT ? 0 : parity);
            multiply(0, 0, ((ring + stage * CHUNK) >> 4) | (8u << 16));
            if (HALVES == 2)
              gather(0);
            else
              mma_wait<0>();
            if (!RESIDENT) barrier_arrive(empty + 8 * stage, lane == 0);
            if (!RESIDENT && ++stage == p.stages) stage = 0, parity ^= 1;
          }
        }
        advance();
        start();
      }
    } else {
      // The weights that were fetched all the same must be let go.
      const int sent = RESIDENT ? 0 : any || p.stages > p.chunks ? p.chunks : p.stages;
      for (int i = 0; i < sent; ++i) {
        barrier_wait(full + 8 * stage, parity);
        __syncwarp();
        barrier_arrive(empty + 8 * stage, lane == 0);
        if (++stage == p.stages) stage = 0, parity ^= 1;
      }
      advance();
      start();
    }

    // In a split tile every warpgroup has some steps of all pixels; it needs all steps of some pixels.
    const bool alike = QUIET && OUT == 0 && !busy;
    if (SPLIT) {
      if (!alike) {
#pragma unroll
        for (int t = 0; t < TC; ++t)
#pragma unroll
          for (int i = 0; i < BN / 2; ++i) sums[((group * TC + t) * (BN / 2) + i) * 128] = (float)acc[t][i];
        vote(3, 128 * WGS, false);
      }
      if (group >= 2) continue;
    }
    int place[ROWS];
    bool valid[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      place[r] = pixel + 8 * (SPLIT ? group : r);
      valid[r] = place[r] < p.pixels && channel / 32 < p.words;
    }
#if IDENT
    u32 shortcut[HELD][ROWS][IDENT];
#pragma unroll
    for (int i = 0; i < HELD * ROWS * IDENT; ++i) {
      const int t = i / (ROWS * IDENT), r = i / IDENT % ROWS, plane = i % IDENT;
      shortcut[t][r][plane] = same(begin + t, place[r], plane, channel);
    }
#endif
    auto current = [&](int t, int r, int i) {
      const Sum sum = acc[t < TC ? t : 0][i / 2 * 4 + 2 * r + i % 2];
      float x = SPLIT ? sums[(t * (BN / 2) + i / 2 * 4 + 2 * group + i % 2) * 128] : (float)sum;
#if INT8
      x = __fmaf_rn(x, scales[i], means[i]);
#endif
#if IDENT
#pragma unroll
      for (int plane = 0; plane < IDENT; ++plane)
        if (shortcut[t][r][plane] >> i & 1) x += p.constants[5] * (1 << plane);
#endif
      return x;
    };

#if OUT == 0
    const int pitch = p.words * 4;
    u8* to[ROWS];
    [[maybe_unused]] const u8* from[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      const u64 m = (u64)begin * p.pixels + place[r];
      to[r] = (u8*)p.out + m * (OUTP * pitch) + channel / 8;
      from[r] = p.add + m * (ADD * pitch) + channel / 8;
    }
    // Writes the spikes of one pixel and step; steps are written in order.
    auto emit = [&](int r, u32 carry) {
      if (valid[r]) {
#pragma unroll
        for (int plane = 0; plane < OUTP; ++plane) {
          u32 bits = carry;
          if (plane < ADD) {
            const u8* other = from[r] + plane * pitch;
            const u32 x = BN == 64 ? *(const u16*)other : *other;
            bits = carry ^ x;
            carry &= x;
          } else {
            carry = 0;
          }
          if (BN == 64)
            *(u16*)(to[r] + plane * pitch) = (u16)bits;
          else
            to[r][plane * pitch] = (u8)bits;
        }
      }
      to[r] += (u64)p.pixels * (OUTP * pitch);
      if (ADD) from[r] += (u64)p.pixels * (ADD * pitch);
    };
    if (alike) {
      if (quiet_column != column_now) {
        quiet_column = column_now;
        float v[PER];
#pragma unroll
        for (int i = 0; i < PER; ++i) v[i] = neuron.rest();
#pragma unroll
        for (int t = 0; t < HELD; ++t) {
          float sum = NO_SPIKES;
#pragma unroll
          for (int i = 0; i < PER; ++i) neuron.fire(v[i], ((const float*)mean)[i], sum, i);
          quiet[t] = __float_as_uint(sum);
        }
      }
#pragma unroll
      for (int t = 0; t < HELD; ++t)
        if (!TAIL || t < p.steps)
#pragma unroll
          for (int r = 0; r < ROWS; ++r) emit(r, quiet[t]);
      continue;
    }
    float v[ROWS][PER];
#pragma unroll
    for (int r = 0; r < ROWS; ++r)
#pragma unroll
      for (int i = 0; i < PER; ++i) {
        if (!first_span) {
          v[r][i] = mine[((SPLIT ? group : r) * PER + i) * 128];
        } else {
          v[r][i] = neuron.rest();
#if V0
          if (valid[r] && channel + i < p.channels) v[r][i] = p.v0[(u64)place[r] * p.channels + channel + i] * scale;
#endif
        }
      }
#pragma unroll
    for (int t = 0; t < HELD; ++t) {
      if (!TAIL || begin + t < p.steps) {
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
          float sum = NO_SPIKES;
#pragma unroll
          for (int i = 0; i < PER; ++i) neuron.fire(v[r][i], current(t, r, i), sum, i);
          emit(r, __float_as_uint(sum));
        }
      }
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r)
#pragma unroll
      for (int i = 0; i < PER; ++i) {
        if (!last_span) mine[((SPLIT ? group : r) * PER + i) * 128] = v[r][i];
#if KEEPV
        if (last_span && valid[r] && channel + i < p.channels)
          p.v[(u64)place[r] * p.channels + channel + i] = v[r][i] * unscale;
#endif
      }
#else
#pragma unroll
    for (int t = 0; t < HELD; ++t)
      if (!TAIL || begin + t < p.steps)
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
          if (valid[r]) {
            float y[PER];
#pragma unroll
            for (int i = 0; i < PER; ++i) y[i] = current(t, r, i) * unscale;
            store(p, y, ((u64)(begin + t) * p.pixels + place[r]) * p.channels + channel, p.channels - channel);
          }
        }
#endif
  }
  // A block whose tiles are all silent reads no weights, but must not end while they are on their way.
  if (RESIDENT && thread == 0)
    for (int i = 0; i < early; ++i) barrier_wait(full + 8 * i, 0);
}
