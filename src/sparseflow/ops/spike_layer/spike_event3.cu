// One layer of a spiking network on packed spikes with few ones: 3x3, stride 1, padding 1, for sm_90.
// See README.md.
//
// A warp owns 8 * NB neighbouring pixels (of the flat order of images, rows, columns) by 64 output channels, and
// walks over time with the potentials in registers. Those pixels see three runs of 8 * NB + 2 neighbouring input
// pixels. A lane reads some words of these, the same in every step, and lists their spikes: the row of weights, and for
// each of the three columns of the window a mask of the one pixel that sees the spike there. The list then is
// multiplied, four spikes at a time, by mma whose sums start from the decayed potentials. Warps wait for no other.
//
// Compiled once for each set of defines; no header is needed.
//   NB          eights of pixels of a warp: 1, 2
//   HELD        1: the block holds all its rows of weights in shared memory; 0: eight lanes read a row together from
//               global memory, and turn it
//   AHEAD       1: words of the next step are asked for before products, not after
//   WARPS       warps of a block
//   BLOCKS      blocks that a multiprocessor should hold
//   VW          words that a lane reads at once: 1, 2, 4
//   SLOTS       reads of a lane in one step
//   UNROLL      fours of spikes that are read together
//   CAP         spikes that a list holds; longer ones are multiplied in parts
//   FEW         the list is first tried to be made at once where the one before had no more spikes; 0: never
//   CALM        1: looks whether any neuron fires before it makes spikes
//   WHOLE       1: the pixels are whole groups, and the channels whole slices
//   COUNT       words of an input pixel
//   HALVES      1, or 2 for weights of a high and a low half
//   ADD, OUTP   planes added to the spikes, planes written
//   OUTW        words of a plane of an output pixel
//   RESET       0 subtracts the threshold, 1 sets to 0, 2 sets to the reset potential
//   V0 KEEPV    the potential comes in, goes out

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned char u8;

struct Params {
  const u32* words;
  const u8* weights;       // float16 [slices][HALVES][rows][ROW / 2], in the order of event3.pack
  const float* constants;  // keep, threshold, reset, scale, 1/scale, 0, 0, 0, then the bias of every column
  const float* v0;
  float* v;
  u8* out;
  const u8* add;
  const int* gate;  // null, or where `open` must stand for the kernel to run
  int open, height, width, step;  // step: words of one time step
  int pixels, steps, channels, rows;  // pixels: N * height * width; rows: 3 * 32 * COUNT
};

__device__ __forceinline__ uint4 row(const u8* at) {
  uint4 x;
  asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "l"(at));
  return x;
}

__device__ __forceinline__ void mma(float (&d)[4], u32 a0, u32 a1, u32 b) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(b));
}

// Leaves `x` where `at` is NOWHERE. By a predicate made here, since predicates that live on cost more.
__device__ __forceinline__ void read(u32 (&x)[VW], const u32* words, u32 at) {
#if VW == 4
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.u32 p, %5, 0xffffffff;\n@p ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];\n}\n"
      : "+r"(x[0]), "+r"(x[1]), "+r"(x[2]), "+r"(x[3])
      : "l"(words + at), "r"(at));
#elif VW == 2
  asm volatile("{\n.reg .pred p;\nsetp.ne.u32 p, %3, 0xffffffff;\n@p ld.global.nc.v2.u32 {%0, %1}, [%2];\n}\n"
               : "+r"(x[0]), "+r"(x[1])
               : "l"(words + at), "r"(at));
#else
  asm volatile("{\n.reg .pred p;\nsetp.ne.u32 p, %2, 0xffffffff;\n@p ld.global.nc.u32 %0, [%1];\n}\n"
               : "+r"(x[0])
               : "l"(words + at), "r"(at));
#endif
}

__device__ __forceinline__ void write(u8* at, u32 x, bool go) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.u32 p, %2, 0;\n@p st.global.u8 [%0], %1;\n}\n" ::"l"(at), "r"(x), "r"((u32)go)
               : "memory");
}

__device__ __forceinline__ void put(u32 at, uint2 x, bool go) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.u32 p, %3, 0;\n@p st.shared.v2.u32 [%0], {%1, %2};\n}\n" ::"r"(at), "r"(x.x),
               "r"(x.y), "r"((u32)go)
               : "memory");
}

__device__ __forceinline__ uint4 take(u32 at) {
  uint4 x;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "r"(at));
  return x;
}

__device__ __forceinline__ uint2 take_two(u32 at) {
  uint2 x;
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(x.x), "=r"(x.y) : "r"(at));
  return x;
}

__device__ __forceinline__ u32 take_one(u32 at) {
  u32 x;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(x) : "r"(at));
  return x;
}

// All of a slice's weights to shared memory, by one thread; `arrived` tells when.
__device__ __forceinline__ void hold(u32 to, const u8* from, u32 bytes, u32 arrived) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(arrived), "r"(bytes) : "memory");
  for (u32 i = 0; i < bytes; i += 16384)
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to + i),
                 "l"(from + i), "r"(min(bytes - i, 16384)), "r"(arrived)
                 : "memory");
}

__device__ __forceinline__ void wait(u32 arrived) {
  asm volatile(
      "{\n.reg .pred p;\nW: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], 0;\n@p bra D;\nbra W;\nD:\n}\n" ::"r"(arrived)
      : "memory");
}

// Of a matrix of 8 by 8 halves, of which lane 4r + i holds places 2i and 2i + 1 of row r, the transpose.
__device__ __forceinline__ u32 turned(u32 x) {
  u32 y;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}

// The place of the highest bit.
__device__ __forceinline__ u32 highest(u32 x) {
  u32 y;
  asm("bfind.u32 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}

__device__ __forceinline__ int larger(int x, int y) { return x > y ? x : y; }

// 1 where x >= y, else 0.
__device__ __forceinline__ float reaches(float x, float y) {
  float s;
  asm("set.ge.f32.f32 %0, %1, %2;" : "=f"(s) : "f"(x), "f"(y));
  return s;
}

constexpr int PIXELS = 8 * NB, PAIR = HALVES == 2 ? 1 : 2;
constexpr u32 ALL = 0xffffffffu, NOWHERE = ALL;

// What a lane reads of one group of pixels, the same in every step, and what it has read.
struct Reads {
  u32 at[SLOTS], two[SLOTS], last[SLOTS];  // where in a step, or NOWHERE; what its spikes put on a list, but for the channel
  u32 x[SLOTS][VW];

  __device__ __forceinline__ void find(const Params& p, int start, int lane) {
    // Of the pixels, those that have a neighbour on each side.
    const int pixel = start + lane, line = (u32)pixel / (u32)p.width, column = pixel - line * p.width;
    const int y = (u32)line % (u32)p.height;
    const bool ok = lane < PIXELS && pixel < p.pixels;
    const u32 here = __ballot_sync(ALL, ok);
    const u32 left = __ballot_sync(ALL, ok && column > 0), right = __ballot_sync(ALL, ok && column + 1 < p.width);
    const u32 above = __ballot_sync(ALL, ok && y > 0), under = __ballot_sync(ALL, ok && y + 1 < p.height);
    constexpr int reads = COUNT / VW;
#pragma unroll
    for (int s = 0; s < SLOTS; ++s) {
      const int which = 32 * s + lane, place = which / reads, part = which - place * reads;
      const int ky = place / (PIXELS + 2), j = place - ky * (PIXELS + 2);
      const u32 seen = ky == 0 ? above : ky == 1 ? here : ky == 2 ? under : 0;
      const u32 m0 = 1u << j & left & seen, m1 = 1u << j >> 1 & seen, m2 = 1u << j >> 2 & right & seen;
      // Wherever a pixel sees this input, the input is in the image.
      at[s] = m0 | m1 | m2 ? (u32)(((start - 1 + j + (ky - 1) * p.width) * reads + part) * VW) : NOWHERE;
      two[s] = m0 | m1 << 16;
#pragma unroll
      for (int w = 0; w < VW; ++w) x[s][w] = 0;
      last[s] = m2 | (u32)(32 * (ky * COUNT + part * VW)) << 16;
    }
  }

  __device__ __forceinline__ void load(const u32* words) {
#pragma unroll
    for (int s = 0; s < SLOTS; ++s) read(x[s], words, at[s]);
  }

  __device__ __forceinline__ bool silent() const {
    u32 some = 0;
#pragma unroll
    for (int s = 0; s < SLOTS; ++s)
#pragma unroll
      for (int w = 0; w < VW; ++w) some |= x[s][w];
    return !__any_sync(ALL, some != 0);
  }

  __device__ __forceinline__ u32 left_over(int s) const {
    u32 any = 0;
#pragma unroll
    for (int w = 0; w < VW; ++w) any |= x[s][w];
    return __ballot_sync(ALL, any != 0);
  }

  // Puts all spikes where no lane has two in one read; tells whether it did.
  template <class Put>
  __device__ __forceinline__ bool few(int& n, u32 below, Put put) const {
    u32 any[SLOTS], odd = 0;
#pragma unroll
    for (int s = 0; s < SLOTS; ++s) {
      u32 sum = any[s] = x[s][0];
#pragma unroll
      for (int w = 1; w < VW; ++w) any[s] |= x[s][w], sum += x[s][w];
      // One bit in one word, or none: then the sum is the bit.
      odd |= sum & sum - 1 | sum ^ any[s];
    }
    if (__any_sync(ALL, odd != 0)) return false;
#pragma unroll
    for (int s = 0; s < SLOTS; ++s) {
      const u32 lanes = __ballot_sync(ALL, any[s] != 0);
      u32 row = last[s] + (highest(any[s]) << 16);
      if (VW == 2 ? x[s][1 % VW] : VW == 4 ? x[s][1 % VW] | x[s][3 % VW] : 0) row += 32 << 16;
      if (VW == 4 ? x[s][2 % VW] | x[s][3 % VW] : 0) row += 64 << 16;
      put(n + __popc(lanes & below), make_uint2(two[s], row), any[s] != 0);
      n += __popc(lanes);
    }
    return true;
  }

  // Puts spikes at places n and behind while n <= most; tells whether some are left.
  template <class Put>
  __device__ __forceinline__ bool list(int& n, int most, u32 below, Put put) {
    bool more = false;
#pragma unroll
    for (int from = 0; from < SLOTS; from += PAIR) {
      u32 lanes[PAIR], all = 0;
#pragma unroll
      for (int i = 0; i < PAIR; ++i) all |= lanes[i] = from + i < SLOTS ? left_over(from + i) : 0;
#pragma unroll 1
      while (all && n <= most) {
        // Every lane lists the first spike of its words, and forgets it; two reads at once, which hide each other's time.
        all = 0;
#pragma unroll
        for (int i = 0; i < PAIR; ++i) {
          if (from + i >= SLOTS) continue;
          u32(&words)[VW] = x[from + i];
          bool first[VW], none = true;
          u32 bits = 0, row = last[from + i];
#pragma unroll
          for (int w = 0; w < VW; ++w) {
            first[w] = none && words[w] != 0;
            none = none && words[w] == 0;
          }
#pragma unroll
          for (int w = 0; w < VW; ++w)
            if (first[w]) bits = words[w], row = last[from + i] + (32 * w << 16);
#pragma unroll
          for (int w = 0; w < VW; ++w)
            if (first[w]) words[w] = bits & (bits - 1);
          put(n + __popc(lanes[i] & below), make_uint2(two[from + i], row + (__ffs(bits) - 1 << 16)), !none);
          n += __popc(lanes[i]);
          all |= lanes[i] = left_over(from + i);
        }
      }
      more |= all != 0;
    }
    return more;
  }
};

template <class Act>
__device__ __forceinline__ void each(float (&v)[4][NB][4], Act act) {
#pragma unroll
  for (int b = 0; b < 4; ++b)
#pragma unroll
    for (int n = 0; n < NB; ++n)
#pragma unroll
      for (int k = 0; k < 4; ++k) act(v[b][n][k], b, n, k);
}

extern "C" __global__ void __launch_bounds__(32 * WARPS, BLOCKS) spike_event3(const __grid_constant__ Params p) {
  constexpr int TOGETHER = UNROLL, OWN = 8, ITEMS = 2 * NB, PITCH = 4 * OUTW;
  // Held rows are 32 bytes longer than their weights, so that four rows meet in few banks.
  constexpr u32 ROW = HELD ? 416 : 384;
  __shared__ __align__(16) uint2 lists[WARPS][CAP];
  __shared__ __align__(16) float means[64];
  __shared__ u64 arrived_at;
  extern __shared__ __align__(128) u8 held[];
  if (p.gate && *p.gate != p.open) return;
  const int lane = threadIdx.x % 32, g = lane / 4, c = lane % 4;
  // By a shuffle, which shows the compiler that all lanes agree.
  const int warp = __shfl_sync(ALL, threadIdx.x / 32, 0);
  constexpr int SLICES = (OUTW + 1) / 2;
  const int block = blockIdx.x / SLICES, slice = blockIdx.x - block * SLICES;
  const u32 list = (u32)__cvta_generic_to_shared(lists[warp]);
  const u32 base = HELD ? (u32)__cvta_generic_to_shared(held) : 0, arrived = (u32)__cvta_generic_to_shared(&arrived_at);
  const u32 far = p.rows * ROW;
  const u8* weights = p.weights + (u64)slice * HALVES * far;
  if (HELD && threadIdx.x == 0) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(arrived) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    hold(base, weights, HALVES * far, arrived);
  }
  const float keep = p.constants[0], threshold = p.constants[1];
  [[maybe_unused]] const float reset = p.constants[2], scale = p.constants[3], unscale = p.constants[4];
#pragma unroll 1
  for (int i = threadIdx.x; i < 64; i += 32 * WARPS) means[i] = p.constants[8 + 64 * slice + i];
  // The first words come while the others of the block are awaited.
  int start = (block * WARPS + warp) * PIXELS;
  Reads reads;
  const u32* words = p.words;
  auto load = [&] {
    reads.load(words);
    words += p.step;
  };
  auto begin = [&] {
    words = p.words;
    reads.find(p, start, lane);
    load();
  };
  if (start < p.pixels) begin();
  __syncthreads();
  if (!HELD) weights += lane % 8 * 16;
  // A lane holds OWN neighbouring channels, of pixels 2c and 2c + 1 of each eight.
  const int channel = 64 * slice + OWN * g;
  u32 below = (1u << lane) - 1, list_at = list + 8 * c, part_at = base + 16 * g;
  // Opaque, so that they stay in registers; the compiler would make them again for every spike.
  asm volatile("" : "+r"(below), "+r"(list_at), "+r"(part_at), "+l"(weights));
  // Of the bytes of 8 channels that a lane writes: which pixel of the warp the first one is of, and which of its bytes.
  const int first = 2 * c, byte = 8 * slice + g;

  u32 mean_at = (u32)__cvta_generic_to_shared(means + OWN * g);
  asm volatile("" : "+r"(mean_at));
  // The least potential that may fire, as a whole number: floats above 0 have the same order as whole numbers.
  int least = threshold > 0 ? (int)__float_as_uint(threshold) : (int)0x80000000;
  asm volatile("" : "+r"(least));
  auto biases = [&](float (&mean)[OWN]) {
    const uint4 x = take(mean_at), y = take(mean_at + 16);
    const u32 bits[OWN] = {x.x, x.y, x.z, x.w, y.x, y.y, y.z, y.w};
#pragma unroll
    for (int i = 0; i < OWN; ++i) mean[i] = __uint_as_float(bits[i]);
  };
  // Spikes add up in the mantissa of 2^23.
  auto fire = [&](float& x, float& sum, int i) {
    const float h = x, s = reaches(h, threshold);
    sum = __fmaf_rn(s, (float)(1 << i), sum);
    x = RESET == 0 ? __fmaf_rn(-s, threshold, h) : RESET == 1 ? __fmaf_rn(-s, h, h) : s != 0 ? reset : h;
  };
  const int step = gridDim.x / SLICES * (WARPS * PIXELS);
#pragma unroll 1
  while (start < p.pixels) {
    // Block b, eight n, place e + 2r: channel 2b + r of the lane's, of pixel 8n + 2c + e.
    float v[4][NB][4];
    each(v, [&](float& x, int b, int n, int k) {
      x = RESET == 2 ? reset : 0.0f;
      if (V0) {
        const int pixel = start + 8 * n + 2 * c + k % 2, which = channel + 2 * b + k / 2;
        if (pixel < p.pixels && which < p.channels) x = p.v0[(u64)pixel * p.channels + which] * scale;
      }
    });
    auto decay = [&] {
      float mean[OWN];
      biases(mean);
      each(v, [&](float& x, int b, int n, int k) { x = __fmaf_rn(keep, x, mean[2 * b + k / 2]); });
    };

    const bool whole = start + PIXELS <= p.pixels && 64 * (slice + 1) <= 32 * OUTW;
    u8* to = p.out + (u64)(start + first) * (OUTP * PITCH) + byte;
    const u8* from = p.add + (u64)(start + first) * (ADD * PITCH) + byte;
    auto emit = [&](const u32 (&bytes)[ITEMS]) {
      auto item = [&](int i, bool go) {
        const int pixel = 8 * (i / 2) + i % 2;
        u32 carry = bytes[i];
#pragma unroll
        for (int plane = 0; plane < OUTP; ++plane) {
          const u32 a = plane < ADD && go ? from[(pixel * ADD + plane) * PITCH] : 0;
          write(to + (pixel * OUTP + plane) * PITCH, a ^ carry, go);
          carry &= a;
        }
      };
      if (WHOLE || whole) {
#pragma unroll
        for (int i = 0; i < ITEMS; ++i) item(i, true);
      } else {
#pragma unroll
        for (int i = 0; i < ITEMS; ++i)
          item(i, byte < PITCH && start + first + 8 * (i / 2) + i % 2 < p.pixels);
      }
      to += (u64)p.pixels * (OUTP * PITCH);
      from += (u64)p.pixels * (ADD * PITCH);
    };

    int t = 0;
    if (!V0) {
      // Until the first spike all pixels are alike, and the first one stands for all.
#pragma unroll 1
      for (; t < p.steps && reads.silent(); ++t) {
        if (t + 1 < p.steps) load();
        float sum = 8388608.0f, mean[OWN];
        biases(mean);
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
          float& x = v[i / 2][0][2 * (i % 2)];
          x = __fmaf_rn(keep, x, mean[i]);
          fire(x, sum, i);
        }
        u32 bytes[ITEMS], same = __float_as_uint(sum);
#pragma unroll
        for (int i = 0; i < ITEMS; ++i) bytes[i] = same;
        emit(bytes);
      }
#pragma unroll
      for (int b = 0; b < 4; ++b)
#pragma unroll
        for (int n = NB - 1; n >= 0; --n)
#pragma unroll
          for (int k = 3; k >= 0; --k) v[b][n][k] = v[b][0][k & 2];
    }
    if (t < p.steps) {
      if (HELD) wait(arrived);
      decay();
    }
    // A bit reads as the subnormal float16 2^-24, which the constants know. Tensor cores do not normalise it, and cut
    // off ten places more: with two halves it is a one.
    constexpr u32 ONE = HALVES == 2 ? 0x3c00 : 1;
    int n = 0;
    bool calm = true;
#pragma unroll 1
    for (; t < p.steps; ++t) {
      bool more;
      // What a step brings is added to the potential once, as a neuron would.
      [[maybe_unused]] float gathered[4][NB][4];
      if (HALVES == 2) each(gathered, [](float& x, int, int, int) { x = 0; });
#pragma unroll 1
      do {
        {
          auto at_list = [&](int at, uint2 x, bool go) { put(list + 8 * at, x, go); };
          const bool tried = FEW && CAP > 32 * SLOTS && n <= FEW;
          n = 0;
          if (tried && reads.few(n, below, at_list))
            more = false;
          else
            more = reads.list(n, CAP - 32 * PAIR, below, at_list);
          if (AHEAD && !more && t + 1 < p.steps) load();
          // Up to whole fours: the first row, seen by no pixel.
          at_list(n + lane, make_uint2(0, 0), lane < (-n & 3));
        }
        __syncwarp();
        // Tensor cores cut off what does not fit below the largest number of a sum: each half has sums of its own.
        [[maybe_unused]] float part[HALVES][4][NB][4];
        if (HALVES == 2) {
#pragma unroll
          for (int half = 0; half < HALVES; ++half) each(part[half], [](float& x, int, int, int) { x = 0; });
        }
#pragma unroll TOGETHER
        for (int k = 0; k < n; k += 4) {
          const uint2 spike = take_two(list_at + 8 * k);
          const u32 pair = spike.x >> g, single = spike.y >> g, row_at = spike.y >> 16;
#pragma unroll
          for (int half = 0; half < HALVES; ++half) {
            float (&sums)[4][NB][4] = HALVES == 2 ? part[half] : v;
            u32 two_masks[NB], low[NB];
#pragma unroll
            for (int e = 0; e < NB; ++e)
              two_masks[e] = (pair >> 8 * e & 0x00010001) * ONE, low[e] = (single >> 8 * e & 1) * ONE;
            u32 w[12];
            if (HELD) {
              const u32 at = row_at * ROW + part_at + half * far;
#pragma unroll
              for (int i = 0; i < 3; ++i) {
                const uint4 x = take(at + 128 * i);
                w[4 * i] = x.x, w[4 * i + 1] = x.y, w[4 * i + 2] = x.z, w[4 * i + 3] = x.w;
              }
            } else {
              // Eight lanes read one row together; turned, each lane has some of its own spike's.
              const u8* at = weights + (take_one(list + 8 * k + lane / 8 * 8 + 4) >> 16) * ROW + half * (u64)far;
#pragma unroll
              for (int i = 0; i < 3; ++i) {
                const uint4 x = row(at + 128 * i);
                w[4 * i] = turned(x.x), w[4 * i + 1] = turned(x.y), w[4 * i + 2] = turned(x.z), w[4 * i + 3] = turned(x.w);
              }
            }
#pragma unroll
            for (int e = 0; e < NB; ++e)
#pragma unroll
              for (int b = 0; b < 4; ++b) {
                mma(sums[b][e], w[2 * b], w[2 * b + 1], two_masks[e]);
                mma(sums[b][e], w[8 + b / 2 * 2], w[9 + b / 2 * 2], b % 2 ? low[e] << 16 : low[e]);
              }
          }
        }
        if (HALVES == 2)
          each(gathered, [&](float& x, int b, int n, int k) { x += part[0][b][n][k] + part[HALVES - 1][b][n][k]; });
        __syncwarp();
      } while (more);
      if (HALVES == 2)
        each(v, [&](float& x, int b, int n, int k) { x = __fmaf_rn(gathered[b][n][k], 0x1p-24f, x); });
      // The next step's words come while the neurons are at work.
      if (!AHEAD && t + 1 < p.steps) load();

      u32 bytes[ITEMS];
      // After a step in which some neuron fired, every fourth one asks again.
      calm = CALM && (calm || t % 4 == 0);
      if (calm) {
        int most[ITEMS];
#pragma unroll
        for (int i = 0; i < ITEMS; ++i) {
          auto bits = [&](int j) { return (int)__float_as_uint(v[j / 2][i / 2][i % 2 + 2 * (j % 2)]); };
          most[i] = larger(larger(bits(0), bits(1)), bits(2));
          most[i] = larger(larger(most[i], bits(3)), bits(4));
          most[i] = larger(larger(most[i], bits(5)), larger(bits(6), bits(7)));
        }
        int all = larger(most[0], most[1]);
        if (NB == 2) all = larger(larger(all, most[ITEMS - 2]), most[ITEMS - 1]);
        calm = !__any_sync(ALL, all >= least);
      }
      if (calm) {
#pragma unroll
        for (int i = 0; i < ITEMS; ++i) bytes[i] = 0;
      } else {
#pragma unroll
        for (int i = 0; i < ITEMS; ++i) {
          float sum = 8388608.0f;
#pragma unroll
          for (int j = 0; j < OWN; ++j) fire(v[j / 2][i / 2][i % 2 + 2 * (j % 2)], sum, j);
          bytes[i] = __float_as_uint(sum);
        }
      }
      emit(bytes);
      if (t + 1 < p.steps) decay();
    }
    if (KEEPV) {
      each(v, [&](float& x, int b, int n, int k) {
        const int pixel = start + 8 * n + 2 * c + k % 2, which = channel + 2 * b + k / 2;
        if (pixel < p.pixels && which < p.channels) p.v[(u64)pixel * p.channels + which] = x * unscale;
      });
    }
    start += step;
    if (HELD && start < p.pixels) begin();
  }
  // Copies must have come before the block ends.
  if (HELD && threadIdx.x == 0) wait(arrived);
}
