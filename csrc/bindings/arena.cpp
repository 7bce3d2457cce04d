#include "nouns/arena.hpp"

#include <nanobind/ndarray.h>

#include <new>

#include "bindings/bind.hpp"

using namespace sparseflow;

void bind_arena(nb::module_& m) {
  m.def(
      "arena_empty",
      [](size_t floats) {
        void* const at = arena_take(floats * sizeof(float));
        if (!at) throw std::bad_alloc();
        const nb::capsule owner(at, [](void* piece) noexcept { arena_give(piece); });
        return nb::ndarray<nb::pytorch, float, nb::ndim<1>, nb::device::cpu>(at, {floats}, owner);
      },
      nb::arg("floats"));
  m.def("arena_free", &arena_free);
  m.def("arena_clear", &arena_clear);
}
