#pragma once

namespace sparseflow {

struct LIFConfig {
  enum Charge { IF, DIVIDE_INPUT, DIVIDE, MULTIPLY_INPUT, MULTIPLY };
  Charge charge;
  bool hard;
  float decay, threshold, reset;  // reset is 0 where the reset is soft
};

}  // namespace sparseflow
