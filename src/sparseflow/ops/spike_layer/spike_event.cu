// One layer of a spiking network on packed spikes with few ones, for sm_80 and later. See README.md.
//
// A group of WS warps owns 16 neighbouring pixels, warp w their output channels 64w..64w+63, and walks over time with
// the potentials in registers. Each step lists the inputs (channel of a tap) that any of the 16 pixels sees as one,
// with a mask of those pixels, and multiplies the listed rows of weights alone by the masks: mma m16n8k16, whose
// sums start from the decayed potentials, so that what comes out is the charged potential of the neurons.
//
// Compiled once for each set of defines; no header is needed.
//   WS          warps of a group, one for each 64 output channels
//   GROUPS      groups of a block
//   BLOCKS      blocks that a multiprocessor should hold
//   NU          pairs of units that one warp lists; a unit is 64 channels of one tap
//   BATCH       pairs loaded together; NU == BATCH loads those of the next step ahead
//   HALVES      1, or 2 for weights of a high and a low half
//   VEC         words can be read in aligned pairs
//   ADD, OUTP   planes added to the spikes, planes written
//   RESET       0 subtracts the threshold, 1 sets to 0, 2 sets to the reset potential
//   V0 KEEPV    the potential comes in, goes out

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short u16;
typedef unsigned char u8;

struct Params {
  const u32* words;
  const u8* weights;       // float16 [WS][HALVES][rows][64]
  const float* constants;  // keep, threshold, reset, scale, 1/scale, 0, 0, 0, then the bias of every column
  const float* v0;
  float* v;
  u16* out;
  const u16* add;
  const int* gate;  // null, or where `open` must stand for the kernel to run
  int open, in_height, in_width, count, step;  // count: words of a pixel; step: words of one time step
  int kh, kw, sh, sw, ph, pw, dh, dw;
  int pixels, height, width;  // pixels: N * height * width
  int steps, channels, words_out;
  int units, rows;  // rows = 64 * units
};

__device__ __forceinline__ uint4 row(const u8* at) {
  uint4 x;
  asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "l"(at));
  return x;
}

__device__ __forceinline__ void mma(float (&d)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void meet(int group) {
  if (WS == 1)
    __syncwarp();
  else
    asm volatile("bar.sync %0, %1;" ::"r"(group + 1), "n"(32 * WS) : "memory");
}

extern "C" __global__ void __launch_bounds__(32 * WS * GROUPS, BLOCKS) spike_event(const __grid_constant__ Params p) {
  extern __shared__ __align__(16) u8 memory[];
  if (p.gate && *p.gate != p.open) return;
  constexpr int SEGMENT = NU * 128;  // entries that one warp can list
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32 % WS, group = thread / 32 / WS;
  const int g = lane / 4, c = lane % 4;
  // Of each group: offsets of rows, masks of pixels, and the length of each warp's list.
  u8* mine = memory + group * (WS * SEGMENT * 6 + 64);
  u32* offsets = (u32*)mine;
  u16* masks = (u16*)(mine + WS * SEGMENT * 4);
  int* lengths = (int*)(mine + WS * SEGMENT * 6);

  const int item = blockIdx.x * GROUPS + group;
  if (item * 16 >= p.pixels) return;

  // Lane 16h + r reads for pixel r the unit 2i + h.
  const int reads = item * 16 + lane % 16, h = lane / 16;
  const int area = p.height * p.width, image = reads / area, rest = reads - image * area, y = rest / p.width;
  const int top = y * p.sh - p.ph, left = (rest - y * p.width) * p.sw - p.pw;
  const int pairs = (p.count + 1) / 2;
  // Where in a time step the words of a unit are, or -1.
  auto locate = [&](int i) {
    const int unit = 2 * i + h, tap = unit / pairs, ky = tap / p.kw;
    const int at_y = top + ky * p.dh, at_x = left + (tap - ky * p.kw) * p.dw;
    const bool ok = unit < p.units && reads < p.pixels && (u32)at_y < (u32)p.in_height && (u32)at_x < (u32)p.in_width;
    return ok ? ((image * p.in_height + at_y) * p.in_width + at_x) * p.count + 2 * (unit - tap * pairs) : -1;
  };
  // Whether the second word of the unit is there; only an odd count lacks it, and then words are read one by one.
  [[maybe_unused]] auto second = [&](int i) {
    const int unit = 2 * i + h;
    return 2 * (unit - unit / pairs * pairs) + 1 < p.count;
  };
  auto load = [&](u32& x, u32& z, const u32* step, int at, [[maybe_unused]] int i) {
    x = z = 0;
    if (at >= 0) {
#if VEC
      const uint2 both = __ldg((const uint2*)(step + at));
      x = both.x;
      z = both.y;
#else
      x = __ldg(step + at);
      if (second(i)) z = __ldg(step + at + 1);
#endif
    }
  };

  // Of a 32 by 32 bit transpose: the bits kept in each of five exchanges, and how far the others turn.
  u32 kept[5], turn[5];
#pragma unroll
  for (int s = 0; s < 5; ++s) {
    const int j = 16 >> s;
    const u32 low = 0xffffffffu / ((1u << j) + 1);
    kept[s] = lane & j ? ~low : low;
    turn[s] = lane & j ? 32 - j : j;
    // Opaque, so that they stay in registers; made again, they would cost more than the exchanges.
    asm volatile("" : "+r"(kept[s]), "+r"(turn[s]));
  }
  const u32 below = (1u << lane) - 1;

  u32 x[BATCH][2];
  int at[BATCH];
  const u32* words = p.words;
  if (NU == BATCH) {
#pragma unroll
    for (int i = 0; i < BATCH; ++i) {
      at[i] = locate(i * WS + warp);
      load(x[i][0], x[i][1], words, at[i], i * WS + warp);
    }
  }

  const float keep = p.constants[0], threshold = p.constants[1];
  [[maybe_unused]] const float reset = p.constants[2], scale = p.constants[3], unscale = p.constants[4];
  // Lane 4g + c holds channels 16c..16c+15 of pixels g and g + 8.
  const int channel = 64 * warp + 16 * c;
  const float* bias = p.constants + 8 + channel;
  const u8* rows = p.weights + (u64)warp * HALVES * p.rows * 128 + 16 * g;
  const int pixel[2] = {item * 16 + g, item * 16 + g + 8};

  // Block j, place e + 2r: channel 16c + 8e + j of pixel g + 8r.
  float v[8][4];
#pragma unroll
  for (int j = 0; j < 8; ++j)
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      v[j][k] = RESET == 2 ? reset : 0.0f;
      if (V0) {
        const int which = channel + 8 * (k % 2) + j;
        v[j][k] = 0.0f;
        if (pixel[k / 2] < p.pixels && which < p.channels)
          v[j][k] = p.v0[(u64)pixel[k / 2] * p.channels + which] * scale;
      }
    }

  for (int t = 0; t < p.steps; ++t) {
    int n = 0;
    u32* to_offset = offsets + warp * SEGMENT;
    u16* to_mask = masks + warp * SEGMENT;
    // Adds the channels of a transposed word of both units that are one anywhere.
    auto list = [&](u32 w, int i, int word) {
      // Now bits 0..15 are the pixels of unit 2i at channel `lane`, bits 16..31 those of unit 2i + 1.
      const u32 offset = (u32)((4 * i + word) * 32 + lane) * 128;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const u32 mask = half ? w >> 16 : w & 0xffff;
        const u32 some = __ballot_sync(0xffffffffu, mask != 0);
        const int place = n + __popc(some & below);
        if (mask) {
          to_offset[place] = offset + half * (64 * 128);
          to_mask[place] = (u16)mask;
        }
        n += __popc(some);
      }
    };
#pragma unroll 1
    for (int b = 0; b < NU; b += BATCH) {
      if (NU != BATCH) {
#pragma unroll
        for (int i = 0; i < BATCH; ++i) {
          const int which = (b + i) * WS + warp;
          at[i] = b + i < NU ? locate(which) : -1;
          load(x[i][0], x[i][1], words, at[i], which);
        }
      }
#pragma unroll
      for (int i = 0; i < BATCH; ++i) {
        if (__any_sync(0xffffffffu, (x[i][0] | x[i][1]) != 0)) {
          u32 w[2] = {x[i][0], x[i][1]};
          // Both words side by side: an exchange takes long to come back.
#pragma unroll
          for (int s = 0; s < 5; ++s)
#pragma unroll
            for (int word = 0; word < 2; ++word) {
              const u32 other = __shfl_xor_sync(0xffffffffu, w[word], 16 >> s);
              w[word] = (w[word] & kept[s]) | (__funnelshift_l(other, other, turn[s]) & ~kept[s]);
            }
#pragma unroll
          for (int word = 0; word < 2; ++word)
            if (__any_sync(0xffffffffu, w[word] != 0)) list(w[word], (b + i) * WS + warp, word);
        }
      }
    }
    words += p.step;
    // Up to whole blocks of 16 inputs: the first row, seen by no pixel.
    if (n % 16 && lane < 16 - n % 16) {
      to_offset[n + lane] = 0;
      to_mask[n + lane] = 0;
    }
    if (WS > 1 && lane == 0) lengths[warp] = n;
    meet(group);

    if (NU == BATCH && t + 1 < p.steps) {
#pragma unroll
      for (int i = 0; i < BATCH; ++i) load(x[i][0], x[i][1], words, at[i], i * WS + warp);
    }
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      const float4 mean = *(const float4*)(bias + 4 * q);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float* low = &v[q % 2 * 4][0] + q / 2 + 2 * r;
        low[0] = keep * low[0] + mean.x;
        low[4] = keep * low[4] + mean.y;
        low[8] = keep * low[8] + mean.z;
        low[12] = keep * low[12] + mean.w;
      }
    }

    // What a step brings is added to the potential once, as a neuron would.
    [[maybe_unused]] float gathered[8][4];
    if (HALVES == 2) {
#pragma unroll
      for (int j = 0; j < 8; ++j)
#pragma unroll
        for (int k = 0; k < 4; ++k) gathered[j][k] = 0.0f;
    }
#pragma unroll 1
    for (int from = 0; from < WS; ++from) {
      const int length = WS == 1 ? n : lengths[from];
      const u32* masked = (const u32*)(masks + from * SEGMENT) + c;
      const uint2* listed = (const uint2*)(offsets + from * SEGMENT) + c;
#pragma unroll 1
      for (int k = 0; k < length; k += 16) {
        const u32 m0 = masked[k / 2] >> g, m1 = masked[k / 2 + 4] >> g;
        const uint2 o0 = listed[k / 2], o1 = listed[k / 2 + 4];
        // A bit reads as the subnormal float16 2^-24, which the constants know.
        // Tensor cores do not normalise it, and cut off ten places more: with two halves it is a one.
        constexpr u32 ONE = HALVES == 2 ? 0x3c00 : 1;
        const u32 a0 = (m0 & 0x00010001) * ONE, a1 = (m0 >> 8 & 0x00010001) * ONE;
        const u32 a2 = (m1 & 0x00010001) * ONE, a3 = (m1 >> 8 & 0x00010001) * ONE;
        u32 r[HALVES][4][4];
#pragma unroll
        for (int half = 0; half < HALVES; ++half) {
          const u8* base = rows + (half ? (u64)p.rows * 128 : 0);
          const uint4 w[4] = {row(base + o0.x), row(base + o0.y), row(base + o1.x), row(base + o1.y)};
#pragma unroll
          for (int i = 0; i < 4; ++i) r[half][i][0] = w[i].x, r[half][i][1] = w[i].y, r[half][i][2] = w[i].z, r[half][i][3] = w[i].w;
        }
        // Tensor cores cut off what does not fit below the largest number of a sum; so halves are added up by themselves.
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          const u32 pick = j % 2 ? 0x7632 : 0x5410;
          float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
          float (&sum)[4] = HALVES == 2 ? part : v[j];
#pragma unroll
          for (int half = HALVES - 1; half >= 0; --half) {
            const u32(&x)[4][4] = r[half];
            mma(sum, a0, a1, a2, a3, __byte_perm(x[0][j / 2], x[1][j / 2], pick),
                __byte_perm(x[2][j / 2], x[3][j / 2], pick));
          }
          if (HALVES == 2) {
#pragma unroll
            for (int i = 0; i < 4; ++i) gathered[j][i] += part[i];
          }
        }
      }
    }
    meet(group);
    if (HALVES == 2) {
#pragma unroll
      for (int j = 0; j < 8; ++j)
#pragma unroll
        for (int k = 0; k < 4; ++k) v[j][k] = __fmaf_rn(gathered[j][k], 0x1p-24f, v[j][k]);
    }

    u32 bits[2] = {0, 0};
#pragma unroll
    for (int j = 0; j < 8; ++j)
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const bool fires = v[j][k] >= threshold;
        if (fires) bits[k / 2] |= 1u << (8 * (k % 2) + j);
        if (RESET == 0) {
          if (fires) v[j][k] -= threshold;
        } else if (fires) {
          v[j][k] = RESET == 2 ? reset : 0.0f;
        }
      }
    const int half = 4 * warp + c;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (pixel[r] >= p.pixels || half >= 2 * p.words_out) continue;
      const u64 place = (u64)t * p.pixels + pixel[r];
      u32 carry = bits[r];
#pragma unroll
      for (int plane = 0; plane < OUTP; ++plane) {
        const u32 a = plane < ADD ? p.add[(place * ADD + plane) * (2 * p.words_out) + half] : 0;
        p.out[(place * OUTP + plane) * (2 * p.words_out) + half] = (u16)(a ^ carry);
        carry &= a;
      }
    }
  }
  if (KEEPV) {
#pragma unroll
    for (int j = 0; j < 8; ++j)
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const int which = channel + 8 * (k % 2) + j;
        if (pixel[k / 2] < p.pixels && which < p.channels)
          p.v[(u64)pixel[k / 2] * p.channels + which] = v[j][k] * unscale;
      }
  }
}
