#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <cmath>

#include "bindings/bind.hpp"
#include "event/kernels.hpp"

using namespace sparseflow;

namespace {

LIFConfig make_config(const std::string& kind, double decay, double threshold, std::optional<double> reset,
                      bool decay_input) {
  LIFConfig config{};
  if (kind == "if")
    config.charge = LIFConfig::IF;
  else if (kind == "lif")
    config.charge = decay_input ? LIFConfig::DIVIDE_INPUT : LIFConfig::DIVIDE;
  else if (kind == "plif")
    config.charge = decay_input ? LIFConfig::MULTIPLY_INPUT : LIFConfig::MULTIPLY;
  else
    throw std::invalid_argument("neuron kind is '" + kind + "'; expected if, lif or plif");
  config.decay = static_cast<float>(decay);
  // A division by a power of two and the multiplication by its inverse round alike, and the latter is 8 times faster.
  int exponent;
  const bool divides = config.charge == LIFConfig::DIVIDE_INPUT || config.charge == LIFConfig::DIVIDE;
  if (divides && std::frexp(config.decay, &exponent) == 0.5f && std::abs(exponent) < 64) {
    config.charge = decay_input ? LIFConfig::MULTIPLY_INPUT : LIFConfig::MULTIPLY;
    config.decay = 1.f / config.decay;
  }
  config.hard = reset.has_value();
  config.threshold = static_cast<float>(threshold);
  config.reset = static_cast<float>(reset.value_or(0.0));
  return config;
}

}  // namespace

void bind_lif(nb::module_& m) {
  nb::class_<LIFConfig>(m, "LIFConfig")
      .def(
          "__init__",
          [](LIFConfig* self, const std::string& kind, double decay, double threshold, std::optional<double> reset,
             bool decay_input) { new (self) LIFConfig(make_config(kind, decay, threshold, reset, decay_input)); },
          nb::arg("kind"), nb::arg("decay"), nb::arg("v_threshold"), nb::arg("v_reset").none(), nb::arg("decay_input"));
  m.def(
      "lif",
      [](uintptr_t x, uintptr_t v0, uintptr_t spikes, uintptr_t v, int64_t steps, int64_t n, int64_t x_stride,
         const LIFConfig& config, int threads, const char* isa) {
        const Kernels& k = kernels(isa);
        LIFArgs a{};
        a.x = pointer<const float>(x), a.v0 = pointer<const float>(v0), a.spikes = pointer<float>(spikes);
        a.v = pointer<float>(v), a.steps = steps, a.n = n, a.repeat = x_stride == 0, a.config = config;
        nb::gil_scoped_release release;
        k.lif(a, threads);
      },
      nb::arg("x"), nb::arg("v0"), nb::arg("spikes"), nb::arg("v"), nb::arg("steps"), nb::arg("n"), nb::arg("x_stride"),
      nb::arg("config"), nb::arg("threads"), nb::arg("isa") = "auto");
  m.def(
      "lif_pack",
      [](uintptr_t x, uintptr_t v0, uintptr_t words, uintptr_t v, int64_t steps, int64_t n, int64_t c, int64_t h,
         int64_t w, bool channels_last, bool repeat, const LIFConfig& config, int threads, const char* isa) {
        const Kernels& k = kernels(isa);
        LIFArgs a{};
        a.x = pointer<const float>(x), a.v0 = pointer<const float>(v0), a.words = pointer<int32_t>(words);
        a.v = pointer<float>(v), a.steps = steps, a.n = n, a.c = c, a.h = h, a.w = w;
        a.channels_last = channels_last, a.repeat = repeat, a.config = config;
        nb::gil_scoped_release release;
        k.lif_pack(a, threads);
      },
      nb::arg("x"), nb::arg("v0"), nb::arg("words"), nb::arg("v"), nb::arg("steps"), nb::arg("n"), nb::arg("c"),
      nb::arg("h"), nb::arg("w"), nb::arg("channels_last"), nb::arg("repeat"), nb::arg("config"), nb::arg("threads"),
      nb::arg("isa") = "auto");
}
