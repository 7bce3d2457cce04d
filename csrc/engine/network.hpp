#pragma once
#include <memory>
#include <mutex>
#include <vector>

#include "engine/kernels.hpp"
#include "engine/plan.hpp"

namespace sparseflow {

// What a call may also ask for.
struct RunOptions {
  const char* isa = "auto";
  Skip skip = Skip::best;
  int probe = -1;             // a value of the plan whose codes are wanted too
  uint8_t* probed = nullptr;  // [images, c, h, w]
};

// A plan made ready to run: weights packed, buffers laid out. Safe to call from several threads.
class Network {
 public:
  explicit Network(Plan plan);
  ~Network();

  const Plan& plan() const { return plan_; }

  // Computes `n` images [n, c, h, w] to real outputs [n, size]; throws std::invalid_argument for NaN in them.
  // Results do not depend on threads, instruction set or skipping.
  void run(const float* images, float* out, int64_t n, int threads, const RunOptions& options = {}) const;

 private:
  struct Ready;
  struct Workspace;
  struct Piece;

  void lay_out();
  void prepare(const PlanStep& step);
  void pack(const PlanStep& step, Ready& to) const;
  Map map(int value, uint8_t* memory) const;
  Finish finish(size_t step) const;
  int64_t step(size_t i, const EngineKernels& k, const Piece& piece, int64_t part, int64_t parts) const;
  void fill_border(int value, uint8_t* memory, int64_t images, int64_t part, int64_t parts) const;
  void pass(const EngineKernels& k, const Piece& piece, int64_t part, int64_t parts, int64_t& bad) const;
  void output(const Piece& piece) const;
  void probe(const Piece& piece) const;
  std::unique_ptr<Workspace> take(int64_t images) const;
  void give(std::unique_ptr<Workspace> done) const;

  Plan plan_;
  std::vector<Ready> ready_;
  struct Place {
    int64_t border_y = 0, border_x = 0, pixel = 0, row = 0, bytes = 0;  // bytes of one image
    int buffer = -1;
  };
  std::vector<Place> places_;    // by value
  std::vector<int64_t> buffers_;  // bytes an image; values whose lives do not overlap share one
  int64_t chunk_ = 1;             // images that are computed at once
  mutable std::mutex lock_;
  mutable std::vector<std::unique_ptr<Workspace>> free_;
};

}  // namespace sparseflow
