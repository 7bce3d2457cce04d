// How spike_layer.cu makes operands of products from the words of a chunk.

// Expands the two words of two pixels, as lane c of four; `_pack.py` has the order.
__device__ __forceinline__ void expand(const u32 (&words)[PLANES][2][2], u32 (&a)[STEPS][4], int c) {
  [[maybe_unused]] const int fours = 4 * c;
  [[maybe_unused]] const u32 lift = 128u >> (2 * c);
#pragma unroll
  for (int r = 0; r < 2; ++r)
#pragma unroll
    for (int w = 0; w < 2; ++w) {
#if INT8
      // Multiplying shifts too, and leaves the shifter's pipe to the masks.
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        u32 x = 0;
#pragma unroll
        for (int plane = 0; plane < PLANES; ++plane) {
          const u32 y = words[plane][r][w];
          const u32 turned = PLANES == 1 ? y * (lift >> j) : __funnelshift_r(y, y, 2 * c + j - TOP - plane);
          x |= turned & (0x01010101u << (TOP + plane));
        }
        a[w][r + 2 * j] = x;
      }
#else
      u32 u[PLANES];
#pragma unroll
      for (int plane = 0; plane < PLANES; ++plane) {
        const u32 x = words[plane][r][w];
        u[plane] = plane == 0 ? x >> fours : __funnelshift_r(x, x, fours - plane);
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        u32 x = 0;
#pragma unroll
        for (int plane = 0; plane < PLANES; ++plane) x |= u[plane] & (0x00010001u << (j + plane));
        // Tensor cores do not normalise a subnormal, and cut off ten places more: two halves need them, so 2^15 more.
        if (HALVES == 2) asm("mul.f16x2 %0, %0, %1;" : "+r"(x) : "r"(0x78007800u));
        a[2 * w + j / 2][r + 2 * (j % 2)] = x;
      }
#endif
    }
  // Keeps the compiler from sinking the expansion between the products, which would serialise them.
#pragma unroll
  for (int s = 0; s < STEPS; ++s)
#pragma unroll
    for (int j = 0; j < 4; ++j) asm volatile("" : "+r"(a[s][j])::"memory");
}
