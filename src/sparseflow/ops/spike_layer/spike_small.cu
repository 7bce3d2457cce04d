// One layer of a spiking network on packed spikes, for few pixels, for sm_90. See README.md.
//
// A block owns TILE pixels in all STEPS steps, 16*MT rows, by 8*NT*WN output channels. Its WK groups of warps divide
// the inputs, and so do the CL blocks of a cluster: every multiprocessor reads its share of the weights at once, each
// lane its fragments straight into registers. The sums meet in shared memory in a fixed order; then come the neurons.
//
// Compiled once for each set of defines; no header is needed.
//   MT          tiles of 16 rows; a row is one pixel in one time step
//   NT          tiles of 8 output channels of a warp
//   WN, WK      warps along the output channels, warps along the inputs
//   CL          blocks of a cluster, along the inputs
//   DEPTH       words of inputs whose weights are under way
//   BLOCKS      blocks that a multiprocessor should hold
//   VW          words of a source that are read at once: 1, 2, 4
//   SOURCES     1 or 2
//   COUNT0, KW0, COUNT1, KW1  words of one plane of a source, and the width of its window
//   TILE        pixels of a block
//   ACROSS      blocks along the output channels
//   AREA, WIDTH pixels of an output map, and of a row of it
//   PLANES      bit planes of the widest source
//   HALVES      1, or 2 for weights of a high and a low half
//   STEPS       time steps
//   OUT         0 words, 1 float16, 2 float32
//   SAME        planes of the identity
//   ADD, OUTP   planes added to the spikes, planes written
//   LEAK        the potential decays
//   RESET       0 subtracts the threshold, 1 sets to 0, 2 sets to the reset potential
//   V0 KEEPV    the potential comes in, goes out

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short u16;
typedef unsigned char u8;

struct Source {
  const u32* words;
  int height, width, count, pitch, planes;  // count: words of one plane; pitch: words of one pixel
  int kh, kw, sh, sw, ph, pw, dh, dw;
  int step;   // words of one time step
  int units;  // of VW words of one tap
};

struct Params {
  Source source[2];
  const u8* weights;       // float16 [channels/8][inputs/32][HALVES][32 lanes][8]
  const float* constants;  // keep, threshold, reset, scale, 1/scale, one of the identity, 0, 0, then every bias
  const float* v0;
  float* v;
  void* out;
  const u32* add;
  const u32* same;
  int units, words_in;  // of all sources
  int pixels;
  int channels, words;  // words: of one plane of the output
  int to_units, to_words, to_extra, to_sums, to_inbox, to_fixed;  // bytes
};

constexpr int WARPS = WN * WK;
constexpr int THREADS = 32 * WARPS;
constexpr int ROWS = 16 * MT;
constexpr int BN = 8 * NT * WN;
constexpr int WIDE = BN / 32;    // output words of a pixel
constexpr int PITCH = BN + 8;    // floats from row to row, so that stores of fragments meet no bank twice
constexpr int EXTRA = ADD + SAME;
constexpr int BATCH = 4;
constexpr int SIDE = TILE * WIDE > WARPS * CL ? 2 : 1;  // items of a warp side by side

__device__ __forceinline__ u32 shared(const void* p) { return (u32)__cvta_generic_to_shared(p); }

__device__ __forceinline__ uint4 fragment(const u8* at) {
  uint4 x;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
               : "l"(at));
  return x;
}

// What the kernel before wrote may not come from a cache that it did not write through.
__device__ __forceinline__ u32 fresh(const u32* at) {
  u32 x;
  asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(x) : "l"(at) : "memory");
  return x;
}

struct Few {
  u32 x[VW];
};

// The words there, or zeros.
__device__ __forceinline__ Few fresh_few(const u32* at, bool go) {
  Few w;
#if VW == 4
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.u32 p, %5, 0;\n"
      "mov.u32 %0, 0;\n"
      "mov.u32 %1, 0;\n"
      "mov.u32 %2, 0;\n"
      "mov.u32 %3, 0;\n"
      "@p ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];\n"
      "}\n"
      : "=&r"(w.x[0]), "=&r"(w.x[1]), "=&r"(w.x[2]), "=&r"(w.x[3])
      : "l"(at), "r"((u32)go)
      : "memory");
#elif VW == 2
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.u32 p, %3, 0;\n"
      "mov.u32 %0, 0;\n"
      "mov.u32 %1, 0;\n"
      "@p ld.global.cg.v2.u32 {%0, %1}, [%2];\n"
      "}\n"
      : "=&r"(w.x[0]), "=&r"(w.x[1])
      : "l"(at), "r"((u32)go)
      : "memory");
#else
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.u32 p, %2, 0;\n"
      "mov.u32 %0, 0;\n"
      "@p ld.global.cg.u32 %0, [%1];\n"
      "}\n"
      : "=&r"(w.x[0])
      : "l"(at), "r"((u32)go)
      : "memory");
#endif
  return w;
}

__device__ __forceinline__ void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Both halves, with subnormal ones as they are.
__device__ __forceinline__ u32 times(u32 x, u32 y) {
  u32 z;
  asm("mul.f16x2 %0, %1, %2;" : "=r"(z) : "r"(x), "r"(y));
  return z;
}

__device__ __forceinline__ u16 half(float x) {
  u16 y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
  return y;
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) spike_small(const __grid_constant__ Params p) {
  extern __shared__ __align__(16) u8 memory[];
  int4* rows = (int4*)memory;                     // of each source and row: top, left, origin
  int4* units = (int4*)(memory + p.to_units);     // dy, dx, offset, source
  u32* words = (u32*)(memory + p.to_words);       // [PLANES][inputs][ROWS]
  u32* extra = (u32*)(memory + p.to_extra);       // [row][EXTRA][WIDE]
  float* sums = (float*)(memory + p.to_sums);     // [WK][ROWS][PITCH]
  [[maybe_unused]] float* inbox = (float*)(memory + p.to_inbox);  // [own][CL][STEPS][32]

  float* fixed = (float*)(memory + p.to_fixed);   // constants and biases of these columns

  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32, g = lane / 4, c = lane % 4;
  const int wn = warp % WN, wk = warp / WN;
  const int rank = blockIdx.x % CL, place = blockIdx.x / CL, column = place % ACROSS, tile = place / ACROSS;
#if CL > 1
  asm volatile("barrier.cluster.arrive.relaxed.aligned;");
#endif

  // The inputs of this block and of this warp, in words.
  const int unit = rank * p.units / CL, mine = (rank + 1) * p.units / CL - unit, held = mine * VW;
  const int from = wk * held / WK, to = (wk + 1) * held / WK;
  const u8* at[NT];
#pragma unroll
  for (int n = 0; n < NT; ++n)
    at[n] = p.weights + ((u64)((column * WN + wn) * NT + n) * p.words_in + unit * VW + from) * (HALVES * 512) + lane * 16;
  uint4 b[DEPTH][NT][HALVES];
  auto take = [&](int d, int k) {
#pragma unroll
    for (int n = 0; n < NT; ++n)
#pragma unroll
      for (int h = 0; h < HALVES; ++h) b[d][n][h] = fragment(at[n] + ((k - from) * HALVES + h) * 512);
  };
#pragma unroll
  for (int d = 0; d < DEPTH; ++d)
    if (from + d < to) take(d, from + d);

  for (int i = thread; i < 8 + BN; i += THREADS) fixed[i] = p.constants[i < 8 ? i : column * BN + i];
#pragma unroll 1
  for (int i = thread; i < SOURCES * ROWS; i += THREADS) {
    const Source& s = p.source[SOURCES > 1 && i >= ROWS];
    const int row = i % ROWS, t = row / TILE, pixel = tile * TILE + row - t * TILE;
    const int n = pixel / AREA, rest = pixel - n * AREA, y = rest / WIDTH;
    int4 e;
    e.x = y * s.sh - s.ph;
    e.y = (rest - y * WIDTH) * s.sw - s.pw;
    e.z = t * s.step + ((n * s.height + e.x) * s.width + e.y) * s.pitch;
    e.w = 0;
    if (t >= STEPS || pixel >= p.pixels) e.x = -(1 << 30);
    rows[i] = e;
  }
#pragma unroll 1
  for (int i = thread; i < mine; i += THREADS) {
    const bool second = SOURCES > 1 && unit + i >= p.source[0].units;
    const Source& s = p.source[second];
    const int j = unit + i - (second ? p.source[0].units : 0), per = second ? COUNT1 / VW : COUNT0 / VW;
    const int tap = second ? j / (COUNT1 / VW) : j / (COUNT0 / VW), ky = second ? tap / KW1 : tap / KW0;
    int4 e;
    e.x = ky * s.dh;
    e.y = (tap - ky * (second ? KW1 : KW0)) * s.dw;
    e.z = (e.x * s.width + e.y) * s.pitch + (j - tap * per) * VW;
    e.w = second;
    units[i] = e;
  }
  __syncthreads();
  asm volatile("griddepcontrol.wait;" ::: "memory");

#pragma unroll 1
  for (int i = thread; i < mine * ROWS; i += THREADS * BATCH) {
    Few found[BATCH][PLANES];
#pragma unroll
    for (int k = 0; k < BATCH; ++k) {
      const int at_k = i + k * THREADS, u = at_k / ROWS, r = at_k - u * ROWS;
      const bool inside = u < mine;
      const int4 e = units[inside ? u : 0], f = rows[e.w * ROWS + r];
      const Source& s = p.source[SOURCES > 1 && e.w];
      const bool ok = inside && (u32)(f.x + e.x) < (u32)s.height && (u32)(f.y + e.y) < (u32)s.width;
#pragma unroll
      for (int plane = 0; plane < PLANES; ++plane)
        found[k][plane] =
            fresh_few(s.words + (f.z + e.z + plane * s.count), ok && (PLANES == 1 || plane < s.planes));
    }
#pragma unroll
    for (int k = 0; k < BATCH; ++k) {
      const int at_k = i + k * THREADS, u = at_k / ROWS, r = at_k - u * ROWS;
      // Rows g and g + 8 of a tile lie side by side.
      const int spot = r / 16 * 16 + r % 8 * 2 + r % 16 / 8;
      if (u < mine) {
#pragma unroll
        for (int plane = 0; plane < PLANES; ++plane)
#pragma unroll
          for (int v = 0; v < VW; ++v) words[(plane * held + u * VW + v) * ROWS + spot] = found[k][plane].x[v];
      }
    }
  }
  if (EXTRA) {
#pragma unroll 1
    for (int i = thread; i < STEPS * TILE * EXTRA * WIDE; i += THREADS) {
      const int w = column * WIDE + i % WIDE, plane = i / WIDE % (EXTRA ? EXTRA : 1), row = i / (WIDE * (EXTRA ? EXTRA : 1));
      const int t = row / TILE, pixel = tile * TILE + row - t * TILE;
      u32 x = 0;
      if (pixel < p.pixels && w < p.words) {
        const u64 m = (u64)t * p.pixels + pixel;
        x = plane < ADD ? fresh(p.add + (m * ADD + plane) * p.words + w)
                        : fresh(p.same + (m * SAME + plane - ADD) * p.words + w);
      }
      extra[i] = x;
    }
  }
  __syncthreads();
  asm volatile("griddepcontrol.launch_dependents;");

  float acc[MT][NT][4];
#pragma unroll
  for (int m = 0; m < MT; ++m)
#pragma unroll
    for (int n = 0; n < NT; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) acc[m][n][i] = 0.0f;

  const int fours = 4 * c;
#pragma unroll 1
  for (int first = from; first < to; first += DEPTH) {
#pragma unroll
    for (int d = 0; d < DEPTH; ++d) {
      const int k = first + d;
      if (k >= to) break;
      // All tiles between two products of one sum: a product takes long to come back.
#pragma unroll
      for (int step = 0; step < 2; ++step)
#pragma unroll
        for (int m = 0; m < MT; ++m) {
          u32 a[4] = {};
#pragma unroll
          for (int plane = 0; plane < PLANES; ++plane) {
            const uint2 w = *(const uint2*)(words + (plane * held + k) * ROWS + 16 * m + 2 * g);
            const u32 x = plane == 0 ? w.x >> fours : __funnelshift_r(w.x, w.x, fours - plane);
            const u32 y = plane == 0 ? w.y >> fours : __funnelshift_r(w.y, w.y, fours - plane);
            // Bit j of a half reads as the subnormal 2^(j - 24), which the constants know.
#pragma unroll
            for (int q = 0; q < 2; ++q) {
              a[2 * q] |= x & (0x00010001u << (2 * step + q + plane));
              a[2 * q + 1] |= y & (0x00010001u << (2 * step + q + plane));
            }
          }
          // The tensor cores do not normalise: a subnormal would cost ten places of the sum. Now it is 2^(j - 9).
          if (HALVES == 2)
#pragma unroll
            for (int i = 0; i < 4; ++i) a[i] = times(a[i], 0x78007800);
#pragma unroll
          for (int n = 0; n < NT; ++n) {
            // And they cut sums off; in two halves a sum of 16 inputs is made apart and added with rounding.
            float apart[4] = {};
            float(&to_sum)[4] = HALVES == 2 ? apart : acc[m][n];
#pragma unroll
            for (int h = HALVES - 1; h >= 0; --h)
              mma(to_sum, a, step ? b[d][n][h].z : b[d][n][h].x, step ? b[d][n][h].w : b[d][n][h].y);
            if (HALVES == 2)
#pragma unroll
              for (int i = 0; i < 4; ++i) acc[m][n][i] += apart[i];
          }
        }
      if (k + DEPTH < to) take(d, k + DEPTH);
    }
  }

  float* partial = sums + wk * (ROWS * PITCH) + wn * (8 * NT) + 2 * c;
#pragma unroll
  for (int m = 0; m < MT; ++m)
#pragma unroll
    for (int n = 0; n < NT; ++n)
#pragma unroll
      for (int r = 0; r < 2; ++r)
        *(float2*)(partial + (16 * m + g + 8 * r) * PITCH + 8 * n) = make_float2(acc[m][n][2 * r], acc[m][n][2 * r + 1]);
  __syncthreads();

  const int items = TILE * WIDE;
  auto gathered = [&](int item, float (&x)[STEPS]) {
    const int q = item / WIDE;
#pragma unroll
    for (int t = 0; t < STEPS; ++t) {
      const float* s = sums + (t * TILE + q) * PITCH + item % WIDE * 32 + lane;
      x[t] = s[0];
#pragma unroll
      for (int k = 1; k < WK; ++k) x[t] += s[k * (ROWS * PITCH)];
    }
  };
#if CL > 1
  asm volatile("barrier.cluster.wait.aligned;");
#pragma unroll 1
  for (int item = warp; item < items; item += WARPS) {
    float x[STEPS];
    gathered(item, x);
    const int owner = item % CL, own = item / CL;
    u32 there;
    asm("mapa.shared::cluster.u32 %0, %1, %2;"
        : "=r"(there)
        : "r"(shared(inbox + (own * CL + rank) * STEPS * 32 + lane)), "r"(owner));
#pragma unroll
    for (int t = 0; t < STEPS; ++t)
      asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(there + t * 128), "f"(x[t]) : "memory");
  }
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif

  [[maybe_unused]] const float keep = fixed[0], threshold = fixed[1], reset = fixed[2];
  [[maybe_unused]] const float scale = fixed[3], unscale = fixed[4], one = fixed[5];
#if CL > 1
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
  // Some items side by side, since each is a chain of steps.
#pragma unroll 1
  for (int first = (CL > 1 ? warp * CL + rank : warp); first < items; first += WARPS * CL * SIDE) {
    float x[SIDE][STEPS];
    [[maybe_unused]] float v[SIDE];
    bool valid[SIDE];
#pragma unroll
    for (int i = 0; i < SIDE; ++i) {
      const int item = first + i * (WARPS * CL);
      const int pixel = tile * TILE + item / WIDE, w = column * WIDE + item % WIDE, channel = 32 * w + lane;
      valid[i] = item < items && pixel < p.pixels && w < p.words;
      v[i] = RESET == 2 ? reset : 0.0f;
      if (V0) v[i] = valid[i] && channel < p.channels ? __ldcg(p.v0 + (u64)pixel * p.channels + channel) * scale : 0.0f;
      if (item < items) {
#if CL > 1
        const float* s = inbox + item / CL * (CL * STEPS * 32) + lane;
#pragma unroll
        for (int t = 0; t < STEPS; ++t) {
          x[i][t] = s[t * 32];
#pragma unroll
          for (int k = 1; k < CL; ++k) x[i][t] += s[(k * STEPS + t) * 32];
        }
#else
        gathered(item, x[i]);
#endif
      } else {
#pragma unroll
        for (int t = 0; t < STEPS; ++t) x[i][t] = 0.0f;
      }
    }
#pragma unroll
    for (int t = 0; t < STEPS; ++t)
#pragma unroll
      for (int i = 0; i < SIDE; ++i) {
        const int item = first + i * (WARPS * CL), q = item / WIDE, column_word = item % WIDE;
        const int w = column * WIDE + column_word, pixel = tile * TILE + q, channel = 32 * w + lane;
        [[maybe_unused]] const u32* more = extra + ((t * TILE + q) * EXTRA) * WIDE + column_word;
        float current = x[i][t] + fixed[8 + 32 * column_word + lane];
        if (SAME && valid[i]) {
          u32 count = 0;
#pragma unroll
          for (int plane = 0; plane < SAME; ++plane) count |= (more[(ADD + plane) * WIDE] >> lane & 1) << plane;
          current = __fmaf_rn((float)count, one, current);
        }
        [[maybe_unused]] const u64 m = (u64)t * p.pixels + pixel;
#if OUT == 0
        const float h = LEAK ? __fmaf_rn(keep, v[i], current) : v[i] + current;
        const bool fires = h >= threshold;
        v[i] = !fires ? h : RESET == 0 ? h - threshold : RESET == 1 ? 0.0f : reset;
        u32 carry = __ballot_sync(0xffffffffu, fires);
        u32* y = (u32*)p.out + m * OUTP * p.words + w;
#pragma unroll
        for (int plane = 0; plane < OUTP; ++plane) {
          const u32 a = plane < ADD && valid[i] ? more[plane * WIDE] : 0;
          if (lane == 0 && valid[i]) y[plane * p.words] = a ^ carry;
          carry &= a;
        }
#elif OUT == 1
        if (valid[i] && channel < p.channels) ((u16*)p.out)[m * p.channels + channel] = half(current * unscale);
#else
        if (valid[i] && channel < p.channels) ((float*)p.out)[m * p.channels + channel] = current * unscale;
#endif
        if (KEEPV && t == STEPS - 1 && valid[i] && channel < p.channels)
          p.v[(u64)pixel * p.channels + channel] = v[i] * unscale;
      }
  }
}
