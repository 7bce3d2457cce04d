// What sums become: a neuron's potential, spike and reset, or currents that are written as they are.

constexpr float NO_SPIKES = 8388608.0f;  // spikes add up in the mantissa of 2^23

struct Neuron {
  float keep, threshold, reset;

  __device__ __forceinline__ float rest() const { return RESET == 2 ? reset : 0.0f; }

  // Takes a charged potential, adds spike `i` to `sum`, and returns what is left.
  __device__ __forceinline__ float discharge(float h, float& sum, int i) const {
    const float s = reaches(h, threshold);
    sum = __fmaf_rn(s, (float)(1 << i), sum);
    return RESET == 0 ? __fmaf_rn(-s, threshold, h) : RESET == 1 ? __fmaf_rn(-s, h, h) : s != 0 ? reset : h;
  }

  // Takes a current.
  __device__ __forceinline__ void fire(float& v, float x, float& sum, int i) const {
    v = discharge(LEAK ? __fmaf_rn(keep, v, x) : v + x, sum, i);
  }
};

#if OUT
// Writes the currents of a lane's channels, of which `rest` are left, from place `m` on.
__device__ __forceinline__ void store(const Params& p, const float (&y)[PER], u64 m, int rest) {
#if OUT == 1
  u16* to = (u16*)p.out + m;
#pragma unroll
  for (int i = 0; i < PER; i += 8) {
    const uint4 q = make_uint4(half2(y[i], y[i + 1]), half2(y[i + 2], y[i + 3]), half2(y[i + 4], y[i + 5]),
                               half2(y[i + 6], y[i + 7]));
    if (p.channels % 8 == 0) {
      if (i < rest) *(uint4*)(to + i) = q;
    } else {
      const u32 z[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
      for (int j = 0; j < 8; ++j)
        if (i + j < rest) to[i + j] = (u16)(z[j / 2] >> (j % 2 * 16));
    }
  }
#else
  float* to = (float*)p.out + m;
#pragma unroll
  for (int i = 0; i < PER; i += 4) {
    if (p.channels % 4 == 0) {
      if (i < rest) *(float4*)(to + i) = make_float4(y[i], y[i + 1], y[i + 2], y[i + 3]);
    } else {
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if (i + j < rest) to[i + j] = y[i + j];
    }
  }
#endif
}
#endif
