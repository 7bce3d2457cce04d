#pragma once
#include <cstdint>
#include <vector>

namespace sparseflow {

// Sizes of a forecaster; nn/models/cmamba/args.py says what each is.
struct CMambaSizes {
  bool official;
  int64_t series, length, padding, patch, stride, patches, width, layers, inner, states, rank, taps, hidden, forecast;
};

// Weights where torch keeps them, dense and with the inputs of an output side by side. Null where there is none.
struct CMambaLayer {
  const float* norm;
  const float *in_weight, *in_bias;
  const float *conv_weight, *conv_bias, *skip;  // of the first design
  const float *x_weight, *dt_weight, *dt_bias, *a_log, *out_weight, *out_bias;
  const float *up[2], *down[2];  // of the MLPs along the series, scale and shift
  float eps;
};

struct CMambaWeights {
  // The addresses in the order of the fields below, those of each layer in the order of its own.
  CMambaWeights(const CMambaSizes& sizes, const std::vector<uintptr_t>& addresses, const std::vector<float>& epsilons);

  CMambaSizes sizes;
  const float *embedding, *embedding_bias, *position;
  std::vector<CMambaLayer> layers;
  const float *norm, *head, *head_bias;  // the norm of the first design
  float eps;                             // of the instance norm, or of that norm
};

// One set of entry points per instruction set; each lives in its own translation unit.
struct CMambaKernels {
  // [batch, series, length] to [batch, series, forecast]. Results do not depend on threads or on the rest of a batch.
  void (*forward)(const CMambaWeights& net, const float* x, float* y, int64_t batch, int threads);
};

extern const CMambaKernels scalar_cmamba;
#ifdef SPARSEFLOW_X86
extern const CMambaKernels avx2_cmamba, avx512_cmamba;
#endif

// The kernels of a named instruction set, or of the best one here for "auto".
const CMambaKernels& cmamba_kernels(const char* isa);

}  // namespace sparseflow
