#include "bindings/bind.hpp"

NB_MODULE(_native, m) {
  m.doc() = "CPU kernels on raw pointers; the contract is in _native.pyi";
  bind_geometry(m);
  bind_pack(m);
  bind_lif(m);
  bind_conv(m);
  bind_amx(m);
  bind_arena(m);
  bind_triseg(m);
  bind_engine(m);
  bind_scan(m);
  bind_cmamba(m);
}
