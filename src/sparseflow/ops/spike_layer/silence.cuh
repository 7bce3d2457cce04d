// How spike_layer.cu finds tiles that no spike reaches.

// Where a pixel's window begins, counted in pixels of the source's maps of one step.
__device__ __forceinline__ int window(const Params& p, const Source& s, int m) {
  const int area = p.height * p.width, n = m / area, y = (m - n * area) / p.width, x = m - n * area - y * p.width;
  return (n * s.height + y * s.sh - s.ph) * s.width + x * s.sw - s.pw;
}

// Whether any source spikes near the tile, in TC steps from `at_step`: in a run of pixels from the first of the first
// pixel's window to the last of the last's. Such a run has every window in it, and some pixels more.
__device__ __forceinline__ bool spikes_near(const Params& p, int tile, int at_step) {
  const int first_pixel = tile * 64, last_pixel = first_pixel + 63 < p.pixels ? first_pixel + 63 : p.pixels - 1;
  const int thread = threadIdx.x;
  u32 seen = 0;
  for (int i = 0; i < p.sources + (IDENT > 0); ++i) {
    const Source& s = p.source[i];
    int begin = first_pixel, end = last_pixel + 1;
    if (!s.linear) {
      // Windows of later pixels must not begin before; wide paddings can do that.
      const int right = (p.width - 1) * s.sw, area = s.height * s.width;
      const bool forward = right <= s.sh * s.width && (p.height - 1) * s.sh * s.width + right <= area;
      begin = forward ? window(p, s, first_pixel) : 0;
      end = window(p, s, last_pixel) + (s.kh - 1) * s.dh * s.width + (s.kw - 1) * s.dw + 1;
      if (!forward) end = s.step / s.pitch;
    }
    const int all = s.step;
    int from = begin * s.pitch, to = end * s.pitch;
    from = from < 0 ? 0 : from / 4 * 4;
    to = to < all ? to : all;
    const int t = thread % TC, step = (s.step & 3) == 0 && ((u64)s.words & 15) == 0 ? 4 : 1;
    if (TAIL && at_step + t >= p.steps) continue;
    const u32* words = s.words + (u64)(at_step + t) * s.step;
    for (int j = from + step * (thread % 128 / TC); j < to; j += step * (NEAR * 128 / TC)) {
      uint4 x[NEAR];
#pragma unroll
      for (int k = 0; k < NEAR; ++k) {
        const int at = j + k * step * (128 / TC);
        x[k] = make_uint4(0, 0, 0, 0);
        if (at < to) {
          if (step == 4)
            x[k] = *(const uint4*)(words + at);
          else
            x[k].x = words[at];
        }
      }
#pragma unroll
      for (int k = 0; k < NEAR; ++k) seen |= x[k].x | x[k].y | x[k].z | x[k].w;
    }
  }
  return seen != 0;
}
