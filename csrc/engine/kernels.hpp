#pragma once
#include <cstdint>
#include <vector>

namespace sparseflow {

// Output channels of one block, and the sums of one vector of the packed weight.
constexpr int64_t kBlock = 64, kLane = 16;

// Codes of a batch in memory: channels last, channels rounded up to 4, a border around every image.
struct Map {
  uint8_t* at = nullptr;  // first pixel inside the border
  int64_t c, h, w, pixel, row, image;
};

// What becomes of a sum: table[clamp(rint((sum + bias) * multiplier)) + zero].
struct Finish {
  const float *bias, *multiplier;  // padded to whole blocks
  float low, high;                 // codes without the zero point
  int zero;
  const uint8_t* table;  // or null
  bool clamp;            // of real numbers
};

// How a layer runs over zeros: not looking, or skipping quads of channels that are 0 in 1, 2 or 4 pixels at once:
// neighbours, or those at one place of several images.
enum class Skip { never, one, two, four, two_across, four_across, best };

// Memory of one thread: lists of quads that are not zero, and how each layer lately went over zeros.
struct Lists {
  struct Choice {
    Skip skip = Skip::never;
    int64_t images = 0, left = 0;  // it holds for so many more chunks of so many images
  };
  std::vector<int32_t> places;
  std::vector<int64_t> runs;
  std::vector<Choice> choices;
};

struct ConvArgs {
  Map in, out;
  float* real;            // [images, ho, wo, cout] instead of out, or null
  const int8_t* weight;   // packed; see network.cpp
  const int32_t* offset;  // start of each sum, padded to whole blocks
  Finish finish;
  int64_t images, cout, ho, wo, kh, kw, sh, sw, ph, pw, dh, dw;
  bool clip;   // taps beside the image add nothing, as their code is 0
  bool small;  // no code is above 127
  Skip skip;
  int64_t number;  // of the step
};

struct DepthwiseArgs {
  Map in, out;
  const int16_t* weight;  // [kh, kw, channels padded to whole blocks]
  const int32_t* offset;
  Finish finish;
  int64_t images, ho, wo, kh, kw, sh, sw, dh, dw;
};

struct PoolArgs {
  Map in, out;
  int64_t images, kh, kw, sh, sw, ph, pw, dh, dw;
  // Averages only: rint(mean * ratio) as in Finish.
  bool include_padding;
  int64_t divisor;
  int in_zero;
  float ratio;
  Finish finish;
};

struct SumArgs {
  std::vector<Map> in;
  std::vector<int> zeros;
  std::vector<float> ratios;
  Map out;
  int64_t images;
  Finish finish;
};

struct QuantizeArgs {
  const float* in;  // [images, c, h, w]
  Map out;
  int64_t images;
  float inverse;
  Finish finish;
};

// One set of entry points per instruction set. Each call does one of `parts` parts of the work.
struct EngineKernels {
  const char* name;
  void (*conv)(const ConvArgs& a, int64_t part, int64_t parts, Lists& lists);
  void (*depthwise)(const DepthwiseArgs& a, int64_t part, int64_t parts);
  void (*max_pool)(const PoolArgs& a, int64_t part, int64_t parts);
  void (*average_pool)(const PoolArgs& a, int64_t part, int64_t parts);
  void (*mean)(const PoolArgs& a, int64_t part, int64_t parts);
  void (*sum)(const SumArgs& a, int64_t part, int64_t parts);
  // Copies channels of one map through a table.
  void (*move)(const Map& in, const Map& out, int64_t images, const uint8_t* table, int64_t part, int64_t parts);
  // Returns how many numbers are NaN; they become the smallest code.
  int64_t (*quantize)(const QuantizeArgs& a, int64_t part, int64_t parts);
};

extern const EngineKernels engine_scalar;
#ifdef SPARSEFLOW_X86
extern const EngineKernels engine_avx2, engine_avx512;
#endif

// The kernels of a named instruction set, or of the best one here for "auto"; throws std::invalid_argument.
const EngineKernels& engine_kernels(const char* isa);

}  // namespace sparseflow
