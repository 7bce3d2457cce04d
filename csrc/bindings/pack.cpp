#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>

#include "bindings/bind.hpp"
#include "event/kernels.hpp"

using namespace sparseflow;
using P = std::pair<int64_t, int64_t>;

void bind_pack(nb::module_& m) {
  m.def(
      "pack_spikes",
      [](uintptr_t x, uintptr_t words, int64_t n, int64_t c, int64_t h, int64_t w, bool channels_last, int threads,
         const char* isa) {
        const Kernels& k = kernels(isa);
        PackCount count;
        {
          nb::gil_scoped_release release;
          count = k.pack(pointer<const float>(x), pointer<int32_t>(words), n, c, h, w, channels_last, threads);
        }
        return P(count.other, count.nonzero);
      },
      nb::arg("x"), nb::arg("words"), nb::arg("m"), nb::arg("c"), nb::arg("h"), nb::arg("w"), nb::arg("channels_last"),
      nb::arg("threads"), nb::arg("isa") = "auto");
  m.def(
      "unpack_spikes",
      [](uintptr_t words, uintptr_t x, int64_t n, int64_t c, int64_t h, int64_t w, bool channels_last, int threads,
         const char* isa) {
        const Kernels& k = kernels(isa);
        nb::gil_scoped_release release;
        k.unpack(pointer<const int32_t>(words), pointer<float>(x), n, c, h, w, channels_last, threads);
      },
      nb::arg("words"), nb::arg("x"), nb::arg("m"), nb::arg("c"), nb::arg("h"), nb::arg("w"), nb::arg("channels_last"),
      nb::arg("threads"), nb::arg("isa") = "auto");
  m.def(
      "count_spikes",
      [](uintptr_t words, int64_t size) {
        nb::gil_scoped_release release;
        return count_spikes(pointer<const int32_t>(words), size);
      },
      nb::arg("words"), nb::arg("size"));
  m.def(
      "or_pool2d",
      [](uintptr_t words, uintptr_t out, int64_t n, int64_t h, int64_t w, int64_t words_per_pixel, P kernel, P stride,
         P padding, P dilation, int64_t ho, int64_t wo, int threads) {
        nb::gil_scoped_release release;
        or_pool2d(pointer<const int32_t>(words), pointer<int32_t>(out), n, h, w, words_per_pixel,
                  {kernel.first, kernel.second}, {stride.first, stride.second}, {padding.first, padding.second},
                  {dilation.first, dilation.second}, ho, wo, threads);
      },
      nb::arg("words"), nb::arg("out"), nb::arg("m"), nb::arg("h"), nb::arg("w"), nb::arg("words_per_pixel"),
      nb::arg("kernel"), nb::arg("stride"), nb::arg("padding"), nb::arg("dilation"), nb::arg("ho"), nb::arg("wo"),
      nb::arg("threads"));
}
