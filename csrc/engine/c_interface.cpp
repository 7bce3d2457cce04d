#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

#include "engine/engine.h"
#include "engine/network.hpp"

struct sparseflow_network {
  sparseflow::Network network;
};

namespace {

void tell(const std::exception& e, char* reason, size_t size) {
  if (size > 0) std::snprintf(reason, size, "%s", e.what());
}

}  // namespace

sparseflow_network* sparseflow_load(const char* path, char* reason, size_t size) {
  try {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(std::string("cannot read ") + path);
    const std::string data{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    return new sparseflow_network{
        sparseflow::Network(sparseflow::Plan::parse(reinterpret_cast<const uint8_t*>(data.data()), data.size()))};
  } catch (const std::exception& e) {
    tell(e, reason, size);
    return nullptr;
  }
}

void sparseflow_sizes(const sparseflow_network* network, int64_t sizes[4]) {
  const sparseflow::Plan& plan = network->network.plan();
  std::memcpy(sizes, plan.input, sizeof plan.input);
  sizes[3] = plan.values[static_cast<size_t>(plan.output)].size();
}

int sparseflow_run(const sparseflow_network* network, const float* images, float* outputs, int64_t n, int threads,
                   char* reason, size_t size) {
  try {
    network->network.run(images, outputs, n, threads);
    return 0;
  } catch (const std::exception& e) {
    tell(e, reason, size);
    return 1;
  }
}

void sparseflow_free(sparseflow_network* network) { delete network; }
