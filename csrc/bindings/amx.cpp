#include "amx/amx.hpp"

#include <nanobind/stl/pair.h>

#include "bindings/bind.hpp"

using namespace sparseflow;

void bind_amx(nb::module_& m) {
  m.def("tiles_refusal", &tiles_refusal);
  m.def(
      "tiles_size",
      [](int64_t cout, int64_t cin, int64_t kh, int64_t kw) { return TileLayout{cout, cin, kh * kw}.bytes(); },
      nb::arg("cout"), nb::arg("cin"), nb::arg("kh"), nb::arg("kw"));
  m.def(
      "pack_tiles",
      [](uintptr_t weight, uintptr_t tiles, int64_t cout, int64_t cin, int64_t kh, int64_t kw) {
        nb::gil_scoped_release release;
        pack_tiles(pointer<const float>(weight), pointer<int8_t>(tiles), cout, cin, kh * kw);
      },
      nb::arg("weight"), nb::arg("tiles"), nb::arg("cout"), nb::arg("cin"), nb::arg("kh"), nb::arg("kw"));
#ifdef SPARSEFLOW_AMX
  m.def(
      "tile_conv_words",
      [](uintptr_t words, uintptr_t tiles, uintptr_t bias, uintptr_t residual, uintptr_t out,
         const ConvGeometry& geometry, bool channels_last, int threads) {
        ConvArgs a{};
        a.words = pointer<const int32_t>(words), a.bias = pointer<const float>(bias);
        a.residual = pointer<const float>(residual), a.out = pointer<float>(out), a.channels_last = channels_last;
        nb::gil_scoped_release release;
        tile_conv(a, nullptr, pointer<const int8_t>(tiles), geometry, threads);
      },
      nb::arg("words"), nb::arg("tiles"), nb::arg("bias"), nb::arg("residual"), nb::arg("out"), nb::arg("geometry"),
      nb::arg("channels_last"), nb::arg("threads"));
  m.def(
      "pack_counts",
      [](uintptr_t x, uintptr_t counts, int64_t n, int64_t c, int64_t h, int64_t w, bool channels_last, int threads) {
        nb::gil_scoped_release release;
        const ByteCount seen =
            pack_counts(pointer<const float>(x), pointer<uint8_t>(counts), n, c, h, w, channels_last, threads);
        return std::pair<int64_t, int64_t>(seen.other, seen.largest);
      },
      nb::arg("x"), nb::arg("counts"), nb::arg("m"), nb::arg("c"), nb::arg("h"), nb::arg("w"), nb::arg("channels_last"),
      nb::arg("threads"));
  m.def(
      "tile_conv_counts",
      [](uintptr_t counts, uintptr_t tiles, uintptr_t bias, uintptr_t out, const ConvGeometry& geometry,
         bool channels_last, int threads) {
        ConvArgs a{};
        a.bias = pointer<const float>(bias), a.out = pointer<float>(out), a.channels_last = channels_last;
        nb::gil_scoped_release release;
        tile_conv(a, pointer<const uint8_t>(counts), pointer<const int8_t>(tiles), geometry, threads);
      },
      nb::arg("counts"), nb::arg("tiles"), nb::arg("bias"), nb::arg("out"), nb::arg("geometry"),
      nb::arg("channels_last"), nb::arg("threads"));
  m.def(
      "tile_conv_lif",
      [](uintptr_t words, uintptr_t tiles, uintptr_t bias, uintptr_t residual, uintptr_t residual_words, uintptr_t v0,
         uintptr_t words_out, uintptr_t v, const ConvGeometry& geometry, int64_t steps, const LIFConfig& config,
         int threads) {
        ConvArgs a{};
        a.words = pointer<const int32_t>(words), a.bias = pointer<const float>(bias);
        a.residual = pointer<const float>(residual), a.residual_words = pointer<const int32_t>(residual_words);
        a.v0 = pointer<const float>(v0), a.words_out = pointer<int32_t>(words_out), a.v = pointer<float>(v);
        a.steps = steps, a.config = config, a.channels_last = true;
        nb::gil_scoped_release release;
        tile_conv_lif(a, pointer<const int8_t>(tiles), geometry, threads);
      },
      nb::arg("words"), nb::arg("tiles"), nb::arg("bias"), nb::arg("residual"), nb::arg("residual_words"),
      nb::arg("v0"), nb::arg("words_out"), nb::arg("v"), nb::arg("geometry"), nb::arg("steps"), nb::arg("config"),
      nb::arg("threads"));
#endif
}
