// One layer of a spiking network on packed spikes with few ones: 3x3, stride 1, padding 1, for sm_80 and later.
// See README.md.
//
// A warp owns 8 * NB neighbouring pixels (of the flat order of images, rows, columns) by 64 output channels, and walks
// over time with the potentials in registers. Those pixels see three runs of 8 * NB + 2 neighbouring input pixels. A
// lane reads some words of these, the same in every step, and lists their spikes: which channel, and for each of the
// three columns of the window a mask of the one pixel that sees the spike there. The list then is multiplied, four
// spikes at a time, by mma whose sums start from the decayed potentials. Warps share nothing, and wait for no other.
//
// Compiled once for each set of defines; no header is needed.
//   NB          eights of pixels of a warp: 1, 2
//   WARPS       warps of a block
//   BLOCKS      blocks that a multiprocessor should hold
//   VW          words that a lane reads at once: 1, 2, 4
//   SLOTS       reads of a lane in one step
//   UNROLL      fours of spikes that are read together
//   CAP         spikes that a list holds; longer ones are multiplied in parts
//   HALVES      1, or 2 for weights of a high and a low half
//   ADD, OUTP   planes added to the spikes, planes written
//   RESET       0 subtracts the threshold, 1 sets to 0, 2 sets to the reset potential
//   V0 KEEPV    the potential comes in, goes out

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned char u8;

struct Params {
  const u32* words;
  const u8* weights;       // float16 [slices][HALVES][rows][192]
  const float* constants;  // keep, threshold, reset, scale, 1/scale, 0, 0, 0, then the bias of every column
  const float* v0;
  float* v;
  u8* out;
  const u8* add;
  const int* gate;  // null, or where `open` must stand for the kernel to run
  int open, height, width, count, step;  // count: words of a pixel; step: words of one time step
  int pixels, steps, channels, words_out, rows, slices;  // pixels: N * height * width; rows: 3 * 32 * count
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

// Zeros unless `go`. By a predicate, since a branch would have to be joined again.
__device__ __forceinline__ void read(u32 (&x)[VW], const u32* at, bool go) {
#if VW == 4
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.u32 p, %5, 0;\nmov.u32 %0, 0;\nmov.u32 %1, 0;\nmov.u32 %2, 0;\nmov.u32 %3, 0;\n"
      "@p ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];\n}\n"
      : "=&r"(x[0]), "=&r"(x[1]), "=&r"(x[2]), "=&r"(x[3])
      : "l"(at), "r"((u32)go));
#elif VW == 2
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.u32 p, %3, 0;\nmov.u32 %0, 0;\nmov.u32 %1, 0;\n"
      "@p ld.global.nc.v2.u32 {%0, %1}, [%2];\n}\n"
      : "=&r"(x[0]), "=&r"(x[1])
      : "l"(at), "r"((u32)go));
#else
  asm volatile("{\n.reg .pred p;\nsetp.ne.u32 p, %2, 0;\nmov.u32 %0, 0;\n@p ld.global.nc.u32 %0, [%1];\n}\n"
               : "=&r"(x[0])
               : "l"(at), "r"((u32)go));
#endif
}

__device__ __forceinline__ void write(u8* at, u32 x, bool go) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.u32 p, %2, 0;\n@p st.global.u8 [%0], %1;\n}\n" ::"l"(at), "r"(x), "r"((u32)go)
               : "memory");
}

__device__ __forceinline__ void put(u32 at, u32 x, u32 y, bool go) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.u32 p, %3, 0;\n@p st.shared.v2.u32 [%0], {%1, %2};\n}\n" ::"r"(at), "r"(x),
               "r"(y), "r"((u32)go)
               : "memory");
}

__device__ __forceinline__ uint2 take(u32 at) {
  uint2 x;
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(x.x), "=r"(x.y) : "r"(at));
  return x;
}

__device__ __forceinline__ u32 row_of(u32 at) {
  u32 x;
  asm volatile("ld.shared.u32 %0, [%1+4];" : "=r"(x) : "r"(at));
  return x >> 16;
}

// Of a matrix of 8 by 8 halves, of which lane 4r + i holds places 2i and 2i + 1 of row r, the transpose.
__device__ __forceinline__ u32 turned(u32 x) {
  u32 y;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}

// 1 where x >= y, else 0.
__device__ __forceinline__ float reaches(float x, float y) {
  float s;
  asm("set.ge.f32.f32 %0, %1, %2;" : "=f"(s) : "f"(x), "f"(y));
  return s;
}

extern "C" __global__ void __launch_bounds__(32 * WARPS, BLOCKS) spike_event3(const __grid_constant__ Params p) {
  constexpr int PIXELS = 8 * NB, TOGETHER = UNROLL;
  constexpr u32 ALL = 0xffffffffu, NOWHERE = ALL;
  __shared__ __align__(16) uint2 lists[WARPS][CAP];
  if (p.gate && *p.gate != p.open) return;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, c = lane % 4;
  const int block = blockIdx.x / p.slices, slice = blockIdx.x - block * p.slices;
  const int start = (block * WARPS + warp) * PIXELS;
  if (start >= p.pixels) return;
  u32 list = (u32)__cvta_generic_to_shared(lists[warp]);

  // Of the pixels, those that have a neighbour on each side.
  u32 here, left, right, above, under;
  {
    const int pixel = start + lane, line = pixel / p.width, x = pixel - line * p.width, y = line % p.height;
    const bool ok = lane < PIXELS && pixel < p.pixels;
    here = __ballot_sync(ALL, ok);
    left = __ballot_sync(ALL, ok && x > 0);
    right = __ballot_sync(ALL, ok && x + 1 < p.width);
    above = __ballot_sync(ALL, ok && y > 0);
    under = __ballot_sync(ALL, ok && y + 1 < p.height);
  }

  // Of each read: where in a step it is, or NOWHERE, and what its spikes put on the list, but for the channel.
  u32 at[SLOTS];
  u32 two[SLOTS], last[SLOTS];
  const int reads = p.count / VW;
#pragma unroll
  for (int s = 0; s < SLOTS; ++s) {
    const int which = 32 * s + lane, place = which / reads, part = which - place * reads;
    const int ky = place / (PIXELS + 2), j = place - ky * (PIXELS + 2);
    const u32 seen = ky == 0 ? above : ky == 1 ? here : ky == 2 ? under : 0;
    const u32 m0 = 1u << j & left & seen, m1 = 1u << j >> 1 & seen, m2 = 1u << j >> 2 & right & seen;
    // Wherever a pixel sees this input, the input is in the image.
    at[s] = m0 | m1 | m2 ? (u32)(((start - 1 + j + (ky - 1) * p.width) * reads + part) * VW) : NOWHERE;
    two[s] = m0 | m1 << 16;
    last[s] = m2 | (u32)(32 * (ky * p.count + part * VW)) << 16;
  }

  u32 x[SLOTS][VW];
  const u32* words = p.words;
  auto load = [&] {
#pragma unroll
    for (int s = 0; s < SLOTS; ++s)
      read(x[s], words + at[s], at[s] != NOWHERE);
    words += p.step;
  };
  load();

  const float keep = p.constants[0], threshold = p.constants[1];
  [[maybe_unused]] const float reset = p.constants[2], scale = p.constants[3], unscale = p.constants[4];
  // A lane holds channels 8g..8g+7 of the slice, of pixels 2c and 2c + 1 of each eight.
  const int channel = 64 * slice + 8 * g;
  const float* bias = p.constants + 8 + channel;
  const u8* weights = p.weights + (u64)slice * HALVES * p.rows * 384 + lane % 8 * 16;
  const u32 below = (1u << lane) - 1;
  // Opaque, so that they stay in registers; the compiler would make them again for every spike.
  asm volatile("" : "+r"(list), "+l"(weights));

  // Block b, eight n, place e + 2r: channel 2b + r of pixel 8n + 2c + e.
  float v[4][NB][4];
#pragma unroll
  for (int b = 0; b < 4; ++b)
#pragma unroll
    for (int n = 0; n < NB; ++n)
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        v[b][n][k] = RESET == 2 ? reset : 0.0f;
        if (V0) {
          const int pixel = start + 8 * n + 2 * c + k % 2, which = channel + 2 * b + k / 2;
          if (pixel < p.pixels && which < p.channels) v[b][n][k] = p.v0[(u64)pixel * p.channels + which] * scale;
        }
      }

  // Spikes add up in the mantissa of 2^23.
  auto fire = [&](float& x, float& sum, int i) {
    const float h = x, s = reaches(h, threshold);
    sum = __fmaf_rn(s, (float)(1 << i), sum);
    x = RESET == 0 ? __fmaf_rn(-s, threshold, h) : RESET == 1 ? __fmaf_rn(-s, h, h) : s != 0 ? reset : h;
  };
  const int pitch = 4 * p.words_out;
  bool stores[NB][2];
#pragma unroll
  for (int n = 0; n < NB; ++n)
#pragma unroll
    for (int e = 0; e < 2; ++e) stores[n][e] = 8 * slice + g < pitch && start + 8 * n + 2 * c + e < p.pixels;
  u8* to = p.out + (u64)(start + 2 * c) * (OUTP * pitch) + 8 * slice + g;
  const u8* from = p.add + (u64)(start + 2 * c) * (ADD * pitch) + 8 * slice + g;
  auto emit = [&](int n, int e, u32 carry) {
#pragma unroll
    for (int plane = 0; plane < OUTP; ++plane) {
      const u32 a = plane < ADD && stores[n][e] ? from[((8 * n + e) * ADD + plane) * pitch] : 0;
      write(to + ((8 * n + e) * OUTP + plane) * pitch, a ^ carry, stores[n][e]);
      carry &= a;
    }
  };
  auto advance = [&] {
    to += (u64)p.pixels * (OUTP * pitch);
    from += (u64)p.pixels * (ADD * pitch);
  };

  auto biases = [&](float (&mean)[8]) {
    const float4 low = *(const float4*)bias, high = *(const float4*)(bias + 4);
    mean[0] = low.x, mean[1] = low.y, mean[2] = low.z, mean[3] = low.w;
    mean[4] = high.x, mean[5] = high.y, mean[6] = high.z, mean[7] = high.w;
  };

  int t = 0;
  if (!V0) {
    // Until the first spike all pixels are alike, and the first one stands for all.
    auto silent = [&] {
      u32 some = 0;
#pragma unroll
      for (int s = 0; s < SLOTS; ++s)
#pragma unroll
        for (int w = 0; w < VW; ++w) some |= x[s][w];
      return !__any_sync(ALL, some != 0);
    };
#pragma unroll 1
    for (; t < p.steps && silent(); ++t) {
      if (t + 1 < p.steps) load();
      float mean[8], sum = 8388608.0f;
      biases(mean);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        float& first = v[i / 2][0][2 * (i % 2)];
        first = __fmaf_rn(keep, first, mean[i]);
        fire(first, sum, i);
      }
#pragma unroll
      for (int n = 0; n < NB; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) emit(n, e, __float_as_uint(sum));
      advance();
    }
#pragma unroll
    for (int b = 0; b < 4; ++b)
#pragma unroll
      for (int n = NB - 1; n >= 0; --n)
#pragma unroll
        for (int k = 3; k >= 0; --k) v[b][n][k] = v[b][0][k & 2];
  }
#pragma unroll 1
  for (; t < p.steps; ++t) {
    float mean[8];
    biases(mean);
#pragma unroll
    for (int b = 0; b < 4; ++b)
#pragma unroll
      for (int n = 0; n < NB; ++n)
#pragma unroll
        for (int k = 0; k < 4; ++k) v[b][n][k] = __fmaf_rn(keep, v[b][n][k], mean[2 * b + k / 2]);

    bool more;
#pragma unroll 1
    do {
      int n = 0;
      more = false;
#pragma unroll
      for (int s = 0; s < SLOTS; ++s) {
        auto left_over = [&] {
          u32 any = 0;
#pragma unroll
          for (int w = 0; w < VW; ++w) any |= x[s][w];
          return __ballot_sync(ALL, any != 0);
        };
        u32 lanes = left_over();
#pragma unroll 1
        while (lanes && n <= CAP - 32) {
          // Every lane lists the first spike of its words, and forgets it.
          u32 bits = x[s][VW - 1], at_word = VW - 1;
#pragma unroll
          for (int w = VW - 2; w >= 0; --w)
            if (x[s][w]) bits = x[s][w], at_word = w;
#pragma unroll
          for (int w = 0; w < VW; ++w)
            if (at_word == w) x[s][w] = bits & (bits - 1);
          const u32 bit = 32 * at_word + __ffs(bits) - 1;
          put(list + 8 * (n + __popc(lanes & below)), two[s], last[s] + (bit << 16), bits != 0);
          n += __popc(lanes);
          lanes = left_over();
        }
        more |= lanes != 0;
      }
      // Up to whole fours: the first row, seen by no pixel.
      put(list + 8 * (n + lane), 0, 0, lane < (-n & 3));
      __syncwarp();
      // Tensor cores cut off what does not fit below the largest number of a sum; halves keep what potentials would cut.
      [[maybe_unused]] float part[4][NB][4];
      float (&to_sum)[4][NB][4] = HALVES == 2 ? part : v;
      if (HALVES == 2) {
#pragma unroll
        for (int b = 0; b < 4; ++b)
#pragma unroll
          for (int e = 0; e < NB; ++e)
#pragma unroll
            for (int i = 0; i < 4; ++i) part[b][e][i] = 0.0f;
      }
#pragma unroll TOGETHER
      for (int k = 0; k < n; k += 4) {
        // A bit reads as the subnormal float16 2^-24, which the constants know.
        const uint2 spike = take(list + 8 * k + 8 * c);
        const u32 pair = spike.x >> g, single = spike.y >> g;
        // Eight lanes read one row together, which the caches like; turned, each lane has some of its own spike's.
        const u8* at = weights + (u64)row_of(list + 8 * k + lane / 8 * 8) * 384;
#pragma unroll
        for (int half = 0; half < HALVES; ++half) {
          const u64 far = half ? (u64)p.rows * 384 : 0;
          const uint4 x0 = row(at + far), x1 = row(at + far + 128), x2 = row(at + far + 256);
          u32 w[12] = {x0.x, x0.y, x0.z, x0.w, x1.x, x1.y, x1.z, x1.w, x2.x, x2.y, x2.z, x2.w};
#pragma unroll
          for (int i = 0; i < 12; ++i) w[i] = turned(w[i]);
#pragma unroll
          for (int e = 0; e < NB; ++e) {
            const u32 two_masks = pair >> 8 * e & 0x00010001, low = single >> 8 * e & 1, high = low << 16;
#pragma unroll
            for (int b = 0; b < 4; ++b) {
              mma(to_sum[b][e], w[2 * b], w[2 * b + 1], two_masks);
              mma(to_sum[b][e], w[8 + b / 2 * 2], w[9 + b / 2 * 2], b % 2 ? high : low);
            }
          }
        }
      }
      if (HALVES == 2) {
#pragma unroll
        for (int b = 0; b < 4; ++b)
#pragma unroll
          for (int e = 0; e < NB; ++e)
#pragma unroll
            for (int i = 0; i < 4; ++i) v[b][e][i] += part[b][e][i];
      }
      __syncwarp();
    } while (more);
    // The next step's words come while the neurons are at work.
    if (t + 1 < p.steps) load();

#pragma unroll
    for (int n = 0; n < NB; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float sum = 8388608.0f;
#pragma unroll
        for (int i = 0; i < 8; ++i) fire(v[i / 2][n][e + 2 * (i % 2)], sum, i);
        emit(n, e, __float_as_uint(sum));
      }
    advance();
  }
  if (KEEPV) {
#pragma unroll
    for (int b = 0; b < 4; ++b)
#pragma unroll
      for (int n = 0; n < NB; ++n)
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const int pixel = start + 8 * n + 2 * c + k % 2, which = channel + 2 * b + k / 2;
          if (pixel < p.pixels && which < p.channels)
            p.v[(u64)pixel * p.channels + which] = v[b][n][k] * unscale;
        }
  }
}
