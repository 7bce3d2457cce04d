#pragma once
#include <nanobind/nanobind.h>

#include <cstdint>

namespace nb = nanobind;

void bind_geometry(nb::module_& m);
void bind_pack(nb::module_& m);
void bind_lif(nb::module_& m);
void bind_conv(nb::module_& m);
void bind_amx(nb::module_& m);
void bind_arena(nb::module_& m);
void bind_triseg(nb::module_& m);
void bind_engine(nb::module_& m);
void bind_scan(nb::module_& m);
void bind_cmamba(nb::module_& m);

// Tensors cross the boundary as addresses, which costs nanoseconds instead of a DLPack exchange.
template <class T>
T* pointer(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}
