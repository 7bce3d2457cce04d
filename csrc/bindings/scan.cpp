#include "scan/scan.hpp"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>

#include "bindings/bind.hpp"

using namespace sparseflow;

namespace {

using Given = std::pair<uintptr_t, int64_t>;

Rows rows(const Given& given) { return {pointer<const float>(given.first), given.second}; }

}  // namespace

void bind_scan(nb::module_& m) {
  nb::class_<ScanArgs>(m, "Scan")
      .def(
          "__init__",
          [](ScanArgs* self, int64_t batch, int64_t steps, int64_t channels, int64_t states, const Given& x,
             const Given& dt, const Given& b, const Given& c, const Given& direct, const Given& gate, uintptr_t rate,
             uintptr_t bias, uintptr_t start, bool shared, bool softplus) {
            new (self) ScanArgs{batch,       steps,          channels,  states,
                                rows(x),     rows(dt),       rows(b),   rows(c),
                                rows(direct), rows(gate),    pointer<const float>(rate),
                                pointer<const float>(bias), pointer<const float>(start), shared, softplus};
          },
          nb::arg("batch"), nb::arg("steps"), nb::arg("channels"), nb::arg("states"), nb::arg("x"), nb::arg("dt"),
          nb::arg("b"), nb::arg("c"), nb::arg("direct"), nb::arg("gate"), nb::arg("rate"), nb::arg("bias"),
          nb::arg("start"), nb::arg("shared"), nb::arg("softplus"));
  m.def(
      "scan",
      [](const ScanArgs& a, uintptr_t y, uintptr_t state, int threads, const char* isa) {
        const ScanKernels& k = scan_kernels(isa);
        nb::gil_scoped_release release;
        k.forward(a, pointer<float>(y), pointer<float>(state), threads);
      },
      nb::arg("scan"), nb::arg("y"), nb::arg("state"), nb::arg("threads"), nb::arg("isa") = "auto");
  m.def(
      "scan_backward",
      [](const ScanArgs& a, const Given& grad_y, uintptr_t grad_state, uintptr_t x, uintptr_t dt, uintptr_t b,
         uintptr_t c, uintptr_t direct, uintptr_t gate, uintptr_t start, int64_t groups, uintptr_t rate,
         uintptr_t direct_sum, uintptr_t bias, int threads, const char* isa) {
        const ScanKernels& k = scan_kernels(isa);
        const ScanGrads g{rows(grad_y),           pointer<const float>(grad_state),
                          pointer<float>(x),      pointer<float>(dt),
                          pointer<float>(b),      pointer<float>(c),
                          pointer<float>(direct), pointer<float>(gate),
                          pointer<float>(start),  groups,
                          pointer<float>(rate),   pointer<float>(direct_sum),
                          pointer<float>(bias)};
        nb::gil_scoped_release release;
        k.backward(a, g, threads);
      },
      nb::arg("scan"), nb::arg("grad_y"), nb::arg("grad_state"), nb::arg("x"), nb::arg("dt"), nb::arg("b"),
      nb::arg("c"), nb::arg("direct"), nb::arg("gate"), nb::arg("start"), nb::arg("groups"), nb::arg("rate"),
      nb::arg("direct_sum"), nb::arg("bias"), nb::arg("threads"), nb::arg("isa") = "auto");
}
