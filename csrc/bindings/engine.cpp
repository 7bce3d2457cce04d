#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <stdexcept>

#include "bindings/bind.hpp"
#include "engine/network.hpp"
#include "nouns/integer_isa.hpp"

using namespace sparseflow;

namespace {

Skip skip_of(const char* name) {
  static const char* const names[] = {"never", "one", "two", "four", "two_across", "four_across", "best"};
  for (int i = 0; i < 7; ++i) {
    if (!std::strcmp(name, names[i])) return static_cast<Skip>(i);
  }
  throw std::invalid_argument(std::string("no way to skip zeros is called '") + name + "'");
}

}  // namespace

void bind_engine(nb::module_& m) {
  m.def("engine_isas", [] {
    std::vector<std::string> names;
    for (const char* name : integer_isas()) names.emplace_back(name);
    return names;
  });
  nb::class_<Network>(m, "Network")
      .def("__init__",
           [](Network* self, nb::bytes plan) {
             new (self) Network(Plan::parse(static_cast<const uint8_t*>(plan.data()), plan.size()));
           })
      .def(
          "run",
          [](const Network& self, uintptr_t images, uintptr_t out, int64_t n, int threads, const char* isa,
             const char* skip, int probe, uintptr_t probed) {
            const RunOptions options{isa, skip_of(skip), probe, pointer<uint8_t>(probed)};
            nb::gil_scoped_release release;
            self.run(pointer<const float>(images), pointer<float>(out), n, threads, options);
          },
          nb::arg("images"), nb::arg("out"), nb::arg("n"), nb::arg("threads"), nb::arg("isa") = "auto",
          nb::arg("skip") = "best", nb::arg("probe") = -1, nb::arg("probed") = 0);
}
