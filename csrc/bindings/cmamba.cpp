#include "cmamba/cmamba.hpp"

#include <nanobind/stl/vector.h>

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
  nb::class_<IntegerWeights>(m, "IntegerCMamba")
      .def(
          "__init__",
          [](IntegerWeights* self, const CMambaSizes& sizes, const nb::dict& arrays) {
            std::map<std::string, std::string> bytes;
            for (const auto& [name, array] : arrays) {
              const nb::bytes given = nb::cast<nb::bytes>(array);
              bytes.emplace(nb::cast<nb::str>(name).c_str(), std::string(given.c_str(), given.size()));
            }
            new (self) IntegerWeights(sizes, bytes);
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
