/* Steps of an integer network, in portable C99. Rounding is to nearest even, which is every machine's default. */

typedef struct {
  int c, h, w, zero; /* channels last: code of channel c at (y, x) is at[(y * w + x) * c_total + c] */
} map_t;

typedef struct {
  float low, high; /* codes without the zero point; of real numbers the ends of their clamp */
  int zero, clamp;
  const uint8_t *table; /* 256 codes, or NULL */
} finish_t;

typedef struct {
  int kh, kw, sh, sw, ph, pw, dh, dw, groups, whole_bias;
  const int8_t *weight; /* [kh][kw][c_in / groups][c_out] */
  const float *bias, *multiplier;
} layer_t;

typedef struct {
  int kh, kw, sh, sw, ph, pw, dh, dw, count_padding, divisor;
  float ratio;
} window_t;

static uint8_t finished(float steps, const finish_t *f) {
  float inside = steps > f->low ? steps : f->low;
  int code;
  if (inside > f->high) inside = f->high;
  code = (int)rintf(inside) + f->zero;
  return f->table ? f->table[code] : (uint8_t)code;
}

static int quantize(const float *image, float ratio, map_t o, const finish_t *f, uint8_t *out) {
  int c, p, bad = 0;
  for (c = 0; c < o.c; ++c) {
    for (p = 0; p < o.h * o.w; ++p) {
      const float x = image[c * o.h * o.w + p];
      bad |= x != x;
      out[p * o.c + c] = finished(x * ratio, f);
    }
  }
  return bad;
}

/* One pixel's sums; codes that stand for 0 cost nothing. */
static void sums(const uint8_t *in, map_t i, const layer_t *l, map_t o, int y, int x, int32_t *acc) {
  const int per_in = i.c / l->groups, per_out = o.c / l->groups;
  int ky, kx, c, m;
  for (m = 0; m < o.c; ++m) acc[m] = l->whole_bias ? (int32_t)l->bias[m] : 0;
  for (ky = 0; ky < l->kh; ++ky) {
    const int iy = y * l->sh - l->ph + ky * l->dh;
    if (iy < 0 || iy >= i.h) continue;
    for (kx = 0; kx < l->kw; ++kx) {
      const int ix = x * l->sw - l->pw + kx * l->dw;
      const int8_t *w = l->weight + (size_t)(ky * l->kw + kx) * per_in * o.c;
      const uint8_t *const pixel = in + (size_t)(iy * i.w + ix) * i.c;
      if (ix < 0 || ix >= i.w) continue;
      for (c = 0; c < i.c; ++c) {
        const int32_t code = (int32_t)pixel[c] - i.zero;
        const int from = c / per_in * per_out;
        const int8_t *const row = w + (size_t)(c % per_in) * o.c + from;
        if (code == 0) continue;
        for (m = 0; m < per_out; ++m) acc[from + m] += code * row[m];
      }
    }
  }
}

static float scaled(const layer_t *l, int m, int32_t sum) {
  const float total = l->whole_bias ? (float)sum : (float)sum + l->bias[m];
  return total * l->multiplier[m];
}

static void layer(const uint8_t *in, map_t i, const layer_t *l, const finish_t *f, map_t o, uint8_t *out) {
  int32_t acc[MOST_CHANNELS];
  int y, x, m;
  for (y = 0; y < o.h; ++y) {
    for (x = 0; x < o.w; ++x) {
      sums(in, i, l, o, y, x, acc);
      for (m = 0; m < o.c; ++m) out[(size_t)(y * o.w + x) * o.c + m] = finished(scaled(l, m, acc[m]), f);
    }
  }
}

static void real_layer(const uint8_t *in, map_t i, const layer_t *l, const finish_t *f, map_t o, float *out) {
  int32_t acc[MOST_CHANNELS];
  int y, x, m;
  for (y = 0; y < o.h; ++y) {
    for (x = 0; x < o.w; ++x) {
      sums(in, i, l, o, y, x, acc);
      for (m = 0; m < o.c; ++m) {
        float real = scaled(l, m, acc[m]);
        if (f->clamp && real < f->low) real = f->low;
        if (f->clamp && real > f->high) real = f->high;
        out[(size_t)(y * o.w + x) * o.c + m] = real;
      }
    }
  }
}

static void max_pool(const uint8_t *in, map_t i, const window_t *p, map_t o, uint8_t *out) {
  int y, x, c, ky, kx;
  for (y = 0; y < o.h; ++y) {
    for (x = 0; x < o.w; ++x) {
      for (c = 0; c < o.c; ++c) {
        int best = 0;
        for (ky = 0; ky < p->kh; ++ky) {
          const int iy = y * p->sh - p->ph + ky * p->dh;
          if (iy < 0 || iy >= i.h) continue;
          for (kx = 0; kx < p->kw; ++kx) {
            const int ix = x * p->sw - p->pw + kx * p->dw;
            if (ix < 0 || ix >= i.w) continue;
            if (in[(size_t)(iy * i.w + ix) * i.c + c] > best) best = in[(size_t)(iy * i.w + ix) * i.c + c];
          }
        }
        out[(size_t)(y * o.w + x) * o.c + c] = (uint8_t)best;
      }
    }
  }
}

static int smaller(int a, int b) { return a < b ? a : b; }

static int larger(int a, int b) { return a > b ? a : b; }

static void average_pool(const uint8_t *in, map_t i, const window_t *p, const finish_t *f, map_t o, uint8_t *out) {
  int y, x, c, iy, ix;
  for (y = 0; y < o.h; ++y) {
    for (x = 0; x < o.w; ++x) {
      const int y0 = y * p->sh - p->ph, x0 = x * p->sw - p->pw;
      const int y1 = smaller(y0 + p->kh, i.h + p->ph), x1 = smaller(x0 + p->kw, i.w + p->pw);
      const int top = larger(y0, 0), left = larger(x0, 0), bottom = smaller(y1, i.h), right = smaller(x1, i.w);
      const int inside = larger(bottom - top, 0) * larger(right - left, 0);
      const int by = p->divisor ? p->divisor : p->count_padding ? (y1 - y0) * (x1 - x0) : inside;
      for (c = 0; c < o.c; ++c) {
        int32_t sum = 0;
        float mean;
        for (iy = top; iy < bottom; ++iy) {
          for (ix = left; ix < right; ++ix) sum += in[(size_t)(iy * i.w + ix) * i.c + c] - i.zero;
        }
        mean = (float)sum / (float)by;
        out[(size_t)(y * o.w + x) * o.c + c] = finished(mean * p->ratio, f);
      }
    }
  }
}

static void mean(const uint8_t *in, map_t i, float ratio, const finish_t *f, uint8_t *out) {
  int c, p;
  for (c = 0; c < i.c; ++c) {
    int32_t sum = 0;
    for (p = 0; p < i.h * i.w; ++p) sum += in[(size_t)p * i.c + c] - i.zero;
    out[c] = finished((float)sum * ratio, f);
  }
}

static void sum(int count, const uint8_t *const *in, const int *zeros, const float *ratios, const finish_t *f, map_t o,
                uint8_t *out) {
  int p, j;
  for (p = 0; p < o.h * o.w * o.c; ++p) {
    float total = 0.0f;
    for (j = 0; j < count; ++j) {
      /* Rounded before it is added, also where the compiler would fuse both. */
      const volatile float term = (float)(in[j][p] - zeros[j]) * ratios[j];
      total += term;
    }
    out[p] = finished(total, f);
  }
}

static void join(const uint8_t *in, map_t i, float ratio, const finish_t *f, map_t o, int at, uint8_t *out) {
  int p, c;
  for (p = 0; p < i.h * i.w; ++p) {
    for (c = 0; c < i.c; ++c) {
      out[(size_t)p * o.c + at + c] = finished((float)(in[(size_t)p * i.c + c] - i.zero) * ratio, f);
    }
  }
}

static void dequantize(const uint8_t *in, map_t i, float ratio, float *out) {
  int p;
  for (p = 0; p < i.h * i.w * i.c; ++p) out[p] = (float)(in[p] - i.zero) * ratio;
}

static void real_mean(const float *in, map_t i, float *out) {
  int c, p;
  for (c = 0; c < i.c; ++c) {
    double total = 0.0;
    for (p = 0; p < i.h * i.w; ++p) total += in[(size_t)p * i.c + c];
    out[c] = (float)(total / (i.h * i.w));
  }
}
