#pragma once
#include <cstdint>

#include "nouns/geometry.hpp"
#include "nouns/neuron.hpp"

namespace sparseflow {

struct PackCount {
  int64_t other, nonzero;
};

struct LIFArgs {
  const float *x, *v0;
  float* spikes;
  int32_t* words;
  float* v;
  int64_t steps, n, c, h, w;
  bool channels_last, repeat;
  LIFConfig config;
};

struct ConvArgs {
  const int32_t* words;  // or
  const float* x;
  const float *rows, *bias, *residual;
  const int32_t* residual_words;
  float* out;  // or
  int32_t* words_out;
  const float* v0;
  float* v;
  bool x_channels_last, channels_last;
  int64_t steps;
  LIFConfig config;
};

// One set of entry points per instruction set; each lives in its own translation unit.
struct Kernels {
  const char* name;
  PackCount (*pack)(const float* x, int32_t* words, int64_t m, int64_t c, int64_t h, int64_t w, bool channels_last,
                    int threads);
  void (*unpack)(const int32_t* words, float* x, int64_t m, int64_t c, int64_t h, int64_t w, bool channels_last,
                 int threads);
  void (*lif)(const LIFArgs& args, int threads);
  void (*lif_pack)(const LIFArgs& args, int threads);
  void (*conv)(const ConvArgs& args, const ConvGeometry& geometry, int threads);
  void (*conv_lif)(const ConvArgs& args, const ConvGeometry& geometry, int threads);
};

extern const Kernels scalar_kernels;
#ifdef SPARSEFLOW_X86
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
#endif

// The kernels of a named instruction set, or of the best one here for "auto".
const Kernels& kernels(const char* isa);

int64_t rows_size(int64_t cout, int64_t cin_g, int64_t kh, int64_t kw, int64_t groups);
void pack_rows(const float* weight, float* rows, int64_t cout, int64_t cin_g, int64_t kh, int64_t kw, int64_t groups);
int64_t count_spikes(const int32_t* words, int64_t size);
void or_pool2d(const int32_t* words, int32_t* out, int64_t m, int64_t h, int64_t w, int64_t words_per_pixel, Pair kernel,
               Pair stride, Pair padding, Pair dilation, int64_t ho, int64_t wo, int threads);

}  // namespace sparseflow
