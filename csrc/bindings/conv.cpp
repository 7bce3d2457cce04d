#include <nanobind/stl/string.h>

#include "bindings/bind.hpp"
#include "event/kernels.hpp"

using namespace sparseflow;

void bind_conv(nb::module_& m) {
  m.def("rows_size", &rows_size, nb::arg("cout"), nb::arg("cin_per_group"), nb::arg("kh"), nb::arg("kw"),
        nb::arg("groups"));
  m.def(
      "pack_rows",
      [](uintptr_t weight, uintptr_t rows, int64_t cout, int64_t cin_g, int64_t kh, int64_t kw, int64_t groups) {
        nb::gil_scoped_release release;
        pack_rows(pointer<const float>(weight), pointer<float>(rows), cout, cin_g, kh, kw, groups);
      },
      nb::arg("weight"), nb::arg("rows"), nb::arg("cout"), nb::arg("cin_per_group"), nb::arg("kh"), nb::arg("kw"),
      nb::arg("groups"));
  m.def(
      "conv_words",
      [](uintptr_t words, uintptr_t rows, uintptr_t bias, uintptr_t residual, uintptr_t out, const ConvGeometry& geometry,
         bool channels_last, int threads, const char* isa) {
        const Kernels& k = kernels(isa);
        ConvArgs a{};
        a.words = pointer<const int32_t>(words), a.rows = pointer<const float>(rows);
        a.bias = pointer<const float>(bias), a.residual = pointer<const float>(residual), a.out = pointer<float>(out);
        a.channels_last = channels_last;
        nb::gil_scoped_release release;
        k.conv(a, geometry, threads);
      },
      nb::arg("words"), nb::arg("rows"), nb::arg("bias"), nb::arg("residual"), nb::arg("out"), nb::arg("geometry"),
      nb::arg("channels_last"), nb::arg("threads"), nb::arg("isa") = "auto");
  m.def(
      "conv_values",
      [](uintptr_t x, uintptr_t rows, uintptr_t bias, uintptr_t residual, uintptr_t out, const ConvGeometry& geometry,
         bool x_channels_last, bool channels_last, int threads, const char* isa) {
        const Kernels& k = kernels(isa);
        ConvArgs a{};
        a.x = pointer<const float>(x), a.rows = pointer<const float>(rows), a.bias = pointer<const float>(bias);
        a.residual = pointer<const float>(residual), a.out = pointer<float>(out);
        a.x_channels_last = x_channels_last, a.channels_last = channels_last;
        nb::gil_scoped_release release;
        k.conv(a, geometry, threads);
      },
      nb::arg("x"), nb::arg("rows"), nb::arg("bias"), nb::arg("residual"), nb::arg("out"), nb::arg("geometry"),
      nb::arg("x_channels_last"), nb::arg("channels_last"), nb::arg("threads"), nb::arg("isa") = "auto");
  m.def(
      "conv_lif",
      [](uintptr_t words, uintptr_t rows, uintptr_t bias, uintptr_t residual, uintptr_t residual_words, uintptr_t v0,
         uintptr_t words_out, uintptr_t v, const ConvGeometry& geometry, int64_t steps, const LIFConfig& config,
         int threads, const char* isa) {
        const Kernels& k = kernels(isa);
        ConvArgs a{};
        a.words = pointer<const int32_t>(words), a.rows = pointer<const float>(rows);
        a.bias = pointer<const float>(bias), a.residual = pointer<const float>(residual);
        a.residual_words = pointer<const int32_t>(residual_words), a.v0 = pointer<const float>(v0);
        a.words_out = pointer<int32_t>(words_out), a.v = pointer<float>(v), a.steps = steps, a.config = config;
        a.channels_last = true;
        nb::gil_scoped_release release;
        k.conv_lif(a, geometry, threads);
      },
      nb::arg("words"), nb::arg("rows"), nb::arg("bias"), nb::arg("residual"), nb::arg("residual_words"), nb::arg("v0"),
      nb::arg("words_out"), nb::arg("v"), nb::arg("geometry"), nb::arg("steps"), nb::arg("config"), nb::arg("threads"),
      nb::arg("isa") = "auto");
}
