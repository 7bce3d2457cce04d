#include <nanobind/stl/string.h>

#include "bindings/bind.hpp"
#include "triseg/lookup.hpp"

using namespace sparseflow;

void bind_triseg(nb::module_& m) {
  m.def(
      "lookup_bytes",
      [](uintptr_t codes, uintptr_t tables, uintptr_t out, int64_t maps, int64_t size, bool shared, int threads,
         const char* isa) {
        const LookupKernels& k = lookup_kernels(isa);
        const LookupArgs a{pointer<const uint8_t>(tables), maps, size, shared};
        nb::gil_scoped_release release;
        k.bytes(a, pointer<const uint8_t>(codes), pointer<uint8_t>(out), threads);
      },
      nb::arg("codes"), nb::arg("tables"), nb::arg("out"), nb::arg("maps"), nb::arg("size"), nb::arg("shared"),
      nb::arg("threads"), nb::arg("isa") = "auto");
  m.def(
      "lookup_floats",
      [](uintptr_t codes, uintptr_t tables, uintptr_t out, int64_t maps, int64_t size, bool shared, int threads,
         const char* isa) {
        const LookupKernels& k = lookup_kernels(isa);
        const LookupArgs a{pointer<const uint8_t>(tables), maps, size, shared};
        nb::gil_scoped_release release;
        return k.floats(a, pointer<const float>(codes), pointer<float>(out), threads);
      },
      nb::arg("codes"), nb::arg("tables"), nb::arg("out"), nb::arg("maps"), nb::arg("size"), nb::arg("shared"),
      nb::arg("threads"), nb::arg("isa") = "auto");
}
