#include "cmamba/cmamba.hpp"

#include <cstring>
#include <stdexcept>

#include "event/kernels.hpp"

namespace sparseflow {

CMambaWeights::CMambaWeights(const CMambaSizes& given, const std::vector<uintptr_t>& addresses,
                             const std::vector<float>& epsilons)
    : sizes(given) {
  const size_t count = static_cast<size_t>(sizes.layers);
  if (addresses.size() != 6 + 16 * count || epsilons.size() != count + 1)
    throw std::invalid_argument("a forecaster has 6 addresses and 16 more a layer, and an epsilon more than layers");
  const uintptr_t* at = addresses.data();
  const auto next = [&] { return reinterpret_cast<const float*>(*at++); };
  embedding = next(), embedding_bias = next(), position = next();
  for (size_t i = 0; i < count; ++i) {
    CMambaLayer l{};
    for (const float** to : {&l.norm, &l.in_weight, &l.in_bias, &l.conv_weight, &l.conv_bias, &l.skip, &l.x_weight,
                             &l.dt_weight, &l.dt_bias, &l.a_log, &l.out_weight, &l.out_bias})
      *to = next();
    for (int which = 0; which < 2; ++which) l.up[which] = next(), l.down[which] = next();
    l.eps = epsilons[i];
    layers.push_back(l);
  }
  norm = next(), head = next(), head_bias = next();
  eps = epsilons.back();
}

const CMambaKernels& cmamba_kernels(const char* isa) {
  const char* const name = kernels(isa).name;
#ifdef SPARSEFLOW_X86
  if (!std::strcmp(name, "avx512")) return avx512_cmamba;
  if (!std::strcmp(name, "avx2")) return avx2_cmamba;
#endif
  static_cast<void>(name);
  return scalar_cmamba;
}

}  // namespace sparseflow
