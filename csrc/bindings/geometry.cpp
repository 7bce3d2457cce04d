#include "nouns/geometry.hpp"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings/bind.hpp"
#include "nouns/cpu.hpp"

using namespace sparseflow;

void bind_geometry(nb::module_& m) {
  using P = std::pair<int64_t, int64_t>;
  const P one(1, 1), zero(0, 0);
  nb::class_<ConvGeometry>(m, "ConvGeometry")
      .def(
          "__init__",
          [](ConvGeometry* self, int64_t n, int64_t c, int64_t h, int64_t w, int64_t cout, int64_t kh, int64_t kw, P s,
             P p, P d, int64_t groups) {
            new (self) ConvGeometry(n, c, h, w, cout, kh, kw, {s.first, s.second}, {p.first, p.second},
                                    {d.first, d.second}, groups);
          },
          nb::arg("m"), nb::arg("c"), nb::arg("h"), nb::arg("w"), nb::arg("cout"), nb::arg("kh"), nb::arg("kw"),
          nb::arg("stride") = one, nb::arg("padding") = zero, nb::arg("dilation") = one, nb::arg("groups") = 1)
      .def_ro("ho", &ConvGeometry::ho)
      .def_ro("wo", &ConvGeometry::wo);
  m.def("isa", [] { return std::string(isas().back()); });
  m.def("isas", [] {
    std::vector<std::string> names;
    for (const char* name : isas()) names.emplace_back(name);
    return names;
  });
}
