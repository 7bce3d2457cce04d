#include "cmamba/cmamba.hpp"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <stdexcept>
#include <string>

#include "cmamba/integer.hpp"

#include "bindings/bind.hpp"

using namespace sparseflow;

namespace {

enum Changed { kNothing, kHooks, kForward, kModules };

// Made once: hashing names would take longer than all else.
struct Names {
  PyObject* const modules = PyUnicode_InternFromString("_modules");
  PyObject* const hooks = PyUnicode_InternFromString("_forward_hooks");
  PyObject* const pre_hooks = PyUnicode_InternFromString("_forward_pre_hooks");
  PyObject* const forward = PyUnicode_InternFromString("forward");
};

bool holds(PyObject* dict, PyObject* values) {
  if (!dict || !PyDict_Check(dict) || PyDict_Size(dict) != PyTuple_Size(values)) return false;
  PyObject* value;
  Py_ssize_t at = 0;
  for (Py_ssize_t i = 0; PyDict_Next(dict, &at, nullptr, &value); ++i)
    if (value != PyTuple_GetItem(values, i)) return false;
  return true;
}

// Whether torch modules, given by their attributes, still have these children, no hooks and the forward of their class.
// Only children are asked for of the first.
Changed changed(const nb::list& attributes, const nb::list& children) {
  static const Names names;
  Changed found = kNothing;
  for (size_t i = 0; i < attributes.size(); ++i) {
    PyObject* const own = nb::object(attributes[i]).ptr();
    if (!holds(PyDict_GetItem(own, names.modules), nb::object(children[i]).ptr())) return kModules;
    if (i == 0) continue;
    for (PyObject* const name : {names.hooks, names.pre_hooks}) {
      PyObject* const hooks = PyDict_GetItem(own, name);
      if (!hooks || PyObject_Size(hooks) != 0) found = kHooks;
    }
    if (PyDict_GetItem(own, names.forward)) found = kForward;
  }
  return found;
}

template <class T>
std::vector<T> numbers(const nb::bytes& from, int64_t count, const char* what) {
  if (from.size() != static_cast<size_t>(count) * sizeof(T))
    throw std::invalid_argument(std::string(what) + " has " + std::to_string(from.size()) + " bytes; expected " +
                                std::to_string(static_cast<size_t>(count) * sizeof(T)));
  std::vector<T> found(static_cast<size_t>(count));
  if (count) std::memcpy(found.data(), from.c_str(), from.size());
  return found;
}

std::vector<int64_t> shifts(const nb::bytes& from, int64_t count) {
  const std::vector<uint8_t> found = numbers<uint8_t>(from, count, "shift");
  for (const uint8_t s : found)
    if (s < 1 || s > 62) throw std::invalid_argument("a shift is not from 1 to 62");
  return {found.begin(), found.end()};
}

void within(int64_t value, int64_t low, int64_t high, const char* what) {
  if (value < low || value > high)
    throw std::invalid_argument(std::string(what) + " is not from " + std::to_string(low) + " to " + std::to_string(high));
}

struct Scan {
  IntegerLayer layer;
  int64_t states, channels;
};

void bind_layers(nb::module_& m) {
  nb::class_<IntegerLinear>(m, "IntegerLinear")
      .def(
          "__init__",
          [](IntegerLinear* self, const nb::bytes& weight, const nb::bytes& bias, const nb::bytes& multiplier,
             const nb::bytes& shift, int32_t limit, int64_t inputs, int64_t outputs) {
            within(inputs, 0, 65536, "inputs"), within(outputs, 0, 65536, "outputs"), within(limit, 1, INT32_MAX, "limit");
            const std::vector<int32_t> by = numbers<int32_t>(multiplier, outputs, "multiplier");
            new (self) IntegerLinear(numbers<int8_t>(weight, inputs * outputs, "weight"),
                                     numbers<int32_t>(bias, outputs, "bias"), {by.begin(), by.end()},
                                     shifts(shift, outputs), limit, inputs, outputs);
          },
          nb::arg("weight"), nb::arg("bias"), nb::arg("multiplier"), nb::arg("shift"), nb::arg("limit"),
          nb::arg("inputs"), nb::arg("outputs"))
      .def(
          "run",
          [](const IntegerLinear& self, uintptr_t x, uintptr_t y, int64_t rows, const char* isa) {
            const IntegerKernels& k = integer_kernels(isa);
            nb::gil_scoped_release release;
            k.linear(self, pointer<const uint8_t>(x), pointer<int32_t>(y), rows);
          },
          nb::arg("x"), nb::arg("y"), nb::arg("rows"), nb::arg("isa") = "auto");
  nb::class_<Scan>(m, "IntegerScan")
      .def(
          "__init__",
          [](Scan* self, const nb::bytes& delta, const nb::bytes& decay, const nb::bytes& silu, int t, int j,
             int64_t state, int64_t skip, int y_shift, int64_t multiplier, int shift, int32_t limit, int64_t states,
             int64_t channels) {
            within(t, 0, 8, "t"), within(j, 0, 8, "j"), within(y_shift, 1, 62, "y_shift"), within(shift, 1, 62, "shift");
            within(state, INT32_MIN, INT32_MAX, "state"), within(skip, INT32_MIN, INT32_MAX, "skip");
            within(multiplier, INT32_MIN, INT32_MAX, "multiplier"), within(limit, 1, 127, "limit");
            within(states, 1, 512, "states"), within(channels, 1, 32768, "channels");
            IntegerLayer l;
            l.delta = numbers<uint16_t>(delta, 256, "delta"), l.silu = numbers<int8_t>(silu, 256, "silu");
            l.set_decay(numbers<int16_t>(decay, states * 256, "decay"), states);
            l.t = t, l.j = j, l.state = state, l.skip = skip, l.y_shift = y_shift;
            l.scan_multiplier = multiplier, l.scan_shift = shift, l.scan_limit = limit;
            new (self) Scan{std::move(l), states, channels};
          },
          nb::arg("delta"), nb::arg("decay"), nb::arg("silu"), nb::arg("t"), nb::arg("j"), nb::arg("state"),
          nb::arg("skip"), nb::arg("y_shift"), nb::arg("multiplier"), nb::arg("shift"), nb::arg("limit"),
          nb::arg("states"), nb::arg("channels"))
      .def(
          "run",
          [](const Scan& self, uintptr_t x, uintptr_t p, uintptr_t z, uintptr_t bcd, uintptr_t out, int64_t sequences,
             int64_t steps, const char* isa) {
            const IntegerKernels& k = integer_kernels(isa);
            nb::gil_scoped_release release;
            k.scan(self.layer, self.states, self.channels, pointer<const uint8_t>(x), pointer<const uint8_t>(p),
                   pointer<const uint8_t>(z), pointer<const uint8_t>(bcd), pointer<uint8_t>(out), sequences, steps);
          },
          nb::arg("x"), nb::arg("p"), nb::arg("z"), nb::arg("bcd"), nb::arg("out"), nb::arg("sequences"),
          nb::arg("steps"), nb::arg("isa") = "auto");
}

}  // namespace

void bind_cmamba(nb::module_& m) {
  m.def(
      "changed", [](const nb::list& attributes, const nb::list& children) { return int(changed(attributes, children)); },
      nb::arg("attributes"), nb::arg("children"));
  nb::class_<CMambaSizes>(m, "CMambaSizes")
      .def(
          "__init__",
          [](CMambaSizes* self, bool official, int64_t series, int64_t length, int64_t padding, int64_t patch,
             int64_t stride, int64_t patches, int64_t width, int64_t layers, int64_t inner, int64_t states,
             int64_t rank, int64_t taps, int64_t hidden, int64_t forecast) {
            new (self) CMambaSizes{official, series, length, padding, patch, stride, patches, width,
                                   layers,   inner,  states, rank,    taps,  hidden, forecast};
          },
          nb::arg("official"), nb::arg("series"), nb::arg("length"), nb::arg("padding"), nb::arg("patch"),
          nb::arg("stride"), nb::arg("patches"), nb::arg("width"), nb::arg("layers"), nb::arg("inner"),
          nb::arg("states"), nb::arg("rank"), nb::arg("taps"), nb::arg("hidden"), nb::arg("forecast"));
  m.def(
      "cmamba",
      [](const CMambaSizes& sizes, const std::vector<uintptr_t>& weights, const std::vector<float>& epsilons,
         uintptr_t x, uintptr_t y, int64_t batch, int threads, const char* isa) {
        const CMambaKernels& k = cmamba_kernels(isa);
        const CMambaWeights net(sizes, weights, epsilons);
        nb::gil_scoped_release release;
        k.forward(net, pointer<const float>(x), pointer<float>(y), batch, threads);
      },
      nb::arg("sizes"), nb::arg("weights"), nb::arg("epsilons"), nb::arg("x"), nb::arg("y"), nb::arg("batch"),
      nb::arg("threads"), nb::arg("isa") = "auto");
  bind_layers(m);
  nb::class_<IntegerWeights>(m, "IntegerCMamba")
      .def(
          "__init__",
          [](IntegerWeights* self, const CMambaSizes& sizes, const nb::dict& arrays) {
            IntegerArrays given;
            for (const auto& [name, array] : arrays) {
              const auto [type, bytes] = nb::cast<std::pair<nb::str, nb::bytes>>(array);
              given.emplace(nb::cast<nb::str>(name).c_str(),
                            IntegerArray{type.c_str(), std::string(bytes.c_str(), bytes.size())});
            }
            new (self) IntegerWeights(sizes, given);
          },
          nb::arg("sizes"), nb::arg("arrays"))
      .def(
          "run",
          [](const IntegerWeights& self, uintptr_t x, uintptr_t y, int64_t batch, int threads, const char* isa) {
            const IntegerKernels& k = integer_kernels(isa);
            nb::gil_scoped_release release;
            k.forward(self, pointer<const int32_t>(x), pointer<int32_t>(y), batch, threads);
          },
          nb::arg("x"), nb::arg("y"), nb::arg("batch"), nb::arg("threads"), nb::arg("isa") = "auto");
}
