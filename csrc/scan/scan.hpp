#pragma once
#include <cstdint>

namespace sparseflow {

// Floats whose rows of one sequence and step lie `row` elements apart; a row itself is dense.
struct Rows {
  const float* at;
  int64_t row;
};

struct ScanArgs {
  int64_t batch, steps, channels, states;
  Rows x, dt, b, c, direct, gate;  // direct.row == 0: one number a channel; direct.at and gate.at may be null
  const float* rate;               // log2(e) A: [states] if shared, else [states, channels]
  const float *bias, *start;       // [channels], [batch, channels, states]; may be null
  bool shared, softplus;
};

struct ScanGrads {
  Rows y;             // gradient of the output
  const float* last;  // gradient of the last state, or null
  float *x, *dt, *b, *c;
  float *direct, *gate;  // null where the operand is
  float* start;          // [batch, channels, states], or null
  int64_t groups;        // sequences are dealt to so many groups; sums over sequences come one a group:
  float *rate, *direct_sum, *bias;  // [groups, states, channels] of A, [groups, channels], [groups, channels]
};

// One set of entry points per instruction set; each lives in its own translation unit.
struct ScanKernels {
  // Writes y [batch, steps, channels], and the last state [batch, channels, states] unless null.
  void (*forward)(const ScanArgs& args, float* y, float* state, int threads);
  void (*backward)(const ScanArgs& args, const ScanGrads& grads, int threads);
};

extern const ScanKernels scalar_scan;
#ifdef SPARSEFLOW_X86
extern const ScanKernels avx2_scan, avx512_scan;
#endif

// The kernels of a named instruction set, or of the best one here for "auto".
const ScanKernels& scan_kernels(const char* isa);

}  // namespace sparseflow
