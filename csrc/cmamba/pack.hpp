#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cmamba/integer.hpp"

namespace sparseflow {

// A forecaster of `sparseflow forecast export`; src/sparseflow/export/fpga/README.md has the format. What is missing,
// extra, cut, or has other bytes than were written throws std::invalid_argument, which names the array or the file.
struct IntegerPack {
  CMambaSizes sizes{};
  IntegerArrays arrays;                      // those of weights.bin, matrices row by row
  std::vector<int32_t> readings, forecasts;  // the golden windows, with 16 fraction bits; empty if read from memory
  // Of each series its name, and the mean and deviation by which its readings were scaled; empty where the pack has none.
  std::vector<std::string> columns;
  std::vector<double> mean, deviation;

  // Reads a folder, and holds every file in it to its hash.
  static IntegerPack read(const std::string& folder);

  // Reads the contents of manifest.json and weights.bin; other files are not looked at.
  static IntegerPack parse(const char* manifest, size_t manifest_size, const char* weights, size_t weights_size);
};

}  // namespace sparseflow
