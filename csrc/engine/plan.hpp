#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace sparseflow {

constexpr int kPlanVersion = 1;

// What one image has at one place of the network: codes of 0 to 255, or real numbers.
struct PlanValue {
  int64_t c, h, w;
  int zero;   // the code of 0
  bool real;  // float32 instead of codes
  int64_t size() const { return c * h * w; }
};

enum class StepKind { quantize, layer, max_pool, sum, concat, mean, average_pool, dequantize, real_mean };

struct PlanStep {
  StepKind kind;
  std::vector<int> inputs;  // values; none for quantize
  int output;
  float low = 0.f, high = 0.f;  // codes without the zero point; of a real layer the ends of its clamp
  bool clamp = true;
  std::vector<uint8_t> table;  // 256 codes, or none
  std::vector<float> ratios;   // one an input; of quantize 1/scale, of dequantize scale
  // layers and pools
  int64_t kh = 1, kw = 1, sh = 1, sw = 1, ph = 0, pw = 0, dh = 1, dw = 1, groups = 1;
  std::vector<int8_t> weight;  // [cout, cin / groups, kh, kw]
  std::vector<float> bias, multiplier;
  bool integer_bias = false;
  bool include_padding = true;  // average_pool
  int64_t divisor = 0;          // average_pool: 0 for the size of the window
};

// A network as it lies in a plan file; docs in src/sparseflow/export/README.md.
struct Plan {
  std::vector<PlanValue> values;
  std::vector<PlanStep> steps;
  int64_t input[3];
  int output;

  // Reads a plan file's bytes and checks every size in it; throws std::invalid_argument.
  static Plan parse(const uint8_t* data, size_t size);
};

}  // namespace sparseflow
