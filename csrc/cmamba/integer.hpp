#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cmamba/cmamba.hpp"

namespace sparseflow {

// A linear layer with its requantisation; inputs are codes + 128, which the bias takes back.
struct IntegerLinear {
  int64_t inputs = 0, outputs = 0;
  std::vector<int8_t> weight;         // panels of 64 outputs: [inputs / 4][64][4], zeros where there are fewer
  std::vector<int32_t> bias;          // less 128 times the weights of the output
  std::vector<int64_t> multiplier, shift;  // padded to whole panels
  int32_t limit = 0;

  IntegerLinear() = default;
  // From a matrix [outputs, inputs] and what belongs to each output. Sums wrap at 32 bits.
  IntegerLinear(const std::vector<int8_t>& weight, std::vector<int32_t> bias, std::vector<int64_t> multiplier,
                std::vector<int64_t> shift, int32_t limit, int64_t inputs, int64_t outputs);
};

struct IntegerLayer {
  int64_t eps = 1;
  std::vector<int64_t> norm_multiplier, norm_shift;
  int32_t norm_limit = 0;
  IntegerLinear in, x, dt, out;
  std::vector<int8_t> act, silu;
  std::vector<uint16_t> delta;
  std::vector<int16_t> decay;  // [256][states]
  void set_decay(const std::vector<int16_t>& of_states, int64_t states);  // from [states][256]
  int t = 0, j = 0, y_shift = 0, scan_shift = 1;
  int64_t state = 0, skip = 0, scan_multiplier = 0;
  int32_t scan_limit = 0;
  int64_t pool_multiplier[2] = {}, pool_shift[2] = {1, 1};
  int32_t pool_limit = 0;
  IntegerLinear up[2][2], down[2];  // scale and shift; after mean and after maximum
  std::vector<int8_t> gelu[2];
  std::vector<int16_t> gate[2];
};

// An array of `lowering.lower`: its type as NumPy names it, and its numbers, little end first.
struct IntegerArray {
  std::string type, bytes;
};
using IntegerArrays = std::map<std::string, IntegerArray>;

struct IntegerWeights {
  CMambaSizes sizes;
  int64_t standardize = 0;
  int32_t standardize_limit = 0;
  IntegerLinear embedding, head;
  std::vector<int16_t> positions;
  std::vector<uint16_t> rsqrt;
  std::vector<IntegerLayer> layers;
  int32_t act_bias = 0, act_limit = 0;
  int64_t act_multiplier = 0, act_shift = 1;
  std::vector<int8_t> act;

  // Throws std::invalid_argument that names an array which is missing, of another type or size, or holds numbers with
  // which the arithmetic would leave its tables or its 32 bits.
  IntegerWeights(const CMambaSizes& sizes, const IntegerArrays& arrays);
};

// One set of entry points per instruction set; all give the same bits.
struct IntegerKernels {
  // Readings [batch, series, length] to forecasts [batch, series, forecast], both with 16 fraction bits.
  void (*forward)(const IntegerWeights& net, const int32_t* x, int32_t* y, int64_t batch, int threads);
  // One layer: codes + 128 [rows, inputs] to requantised sums [rows, outputs]. By itself for tests, as the next.
  void (*linear)(const IntegerLinear& layer, const uint8_t* x, int32_t* y, int64_t rows);
  // The scan of a layer, codes + 128: x, p, z, out [sequences, steps, channels], bcd [.., 2 states + channels].
  void (*scan)(const IntegerLayer& layer, int64_t states, int64_t channels, const uint8_t* x, const uint8_t* p,
               const uint8_t* z, const uint8_t* bcd, uint8_t* out, int64_t sequences, int64_t steps);
};

extern const IntegerKernels scalar_integer;
#ifdef SPARSEFLOW_X86
extern const IntegerKernels avx2_integer, avx512_integer;
#endif

// The kernels of a named instruction set of `integer_isas`, or of the best one here for "auto".
const IntegerKernels& integer_kernels(const char* isa);

}  // namespace sparseflow
