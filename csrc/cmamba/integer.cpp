#include "cmamba/integer.hpp"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "nouns/integer_isa.hpp"

namespace sparseflow {

namespace {

constexpr int64_t kPanel = 64, kInt32 = 2147483647;
constexpr int32_t kByte = 127, kShort = 32767, kForecast = (1 << 26) - 1;

template <class T>
constexpr const char* kName = nullptr;
template <>
constexpr const char* kName<int8_t> = "int8";
template <>
constexpr const char* kName<uint8_t> = "uint8";
template <>
constexpr const char* kName<int16_t> = "int16";
template <>
constexpr const char* kName<uint16_t> = "uint16";
template <>
constexpr const char* kName<int32_t> = "int32";
template <>
constexpr const char* kName<int64_t> = "int64";

class Reader {
 public:
  explicit Reader(const IntegerArrays& arrays) : arrays_(arrays) {}

  template <class T>
  std::vector<T> take(const std::string& name, int64_t count) const {
    const auto found = arrays_.find(name);
    if (found == arrays_.end()) throw std::invalid_argument("the integers of the network lack " + name);
    const auto& [type, bytes] = found->second;
    if (type != kName<T>) throw std::invalid_argument(name + " is of type " + type + "; expected " + kName<T>);
    if (bytes.size() != static_cast<size_t>(count) * sizeof(T))
      throw std::invalid_argument(name + " has " + std::to_string(bytes.size()) + " bytes; expected " +
                                  std::to_string(static_cast<size_t>(count) * sizeof(T)));
    std::vector<T> values(static_cast<size_t>(count));
    if (count) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  template <class T>
  T one(const std::string& name) const {
    return take<T>(name, 1)[0];
  }
  // The largest code of a result, which is `most` or less: codes of 8 bits are places in tables.
  int32_t limit(const std::string& path, int32_t most) const {
    const int32_t found = one<int32_t>(path + ".limit");
    if (found < 1 || found > most)
      throw std::invalid_argument(path + ".limit is " + std::to_string(found) + "; expected 1 to " + std::to_string(most));
    return found;
  }
  // Shifts of 1 to 62, widened.
  std::vector<int64_t> shifts(const std::string& name, int64_t count) const {
    std::vector<int64_t> wide;
    for (const uint8_t s : take<uint8_t>(name, count)) {
      if (s < 1 || s > 62) throw std::invalid_argument(name + " holds a shift outside 1 to 62");
      wide.push_back(s);
    }
    return wide;
  }
  std::vector<int64_t> multipliers(const std::string& name, int64_t count) const {
    const std::vector<int32_t> found = take<int32_t>(name, count);
    return {found.begin(), found.end()};
  }

 private:
  const IntegerArrays& arrays_;
};

// A layer whose sums fit 32 bits whatever the codes.
IntegerLinear pack(const std::string& path, const std::vector<int8_t>& weight, std::vector<int32_t> bias,
                   std::vector<int64_t> multiplier, std::vector<int64_t> shift, int32_t limit, int64_t inputs,
                   int64_t outputs) {
  for (int64_t o = 0; o < outputs; ++o) {
    int64_t reach = std::abs(int64_t{bias[static_cast<size_t>(o)]});
    for (int64_t i = 0; i < inputs; ++i) reach += kByte * std::abs(weight[static_cast<size_t>(o * inputs + i)]);
    if (reach > kInt32) throw std::invalid_argument("sums of " + path + " may reach beyond 32 bits");
  }
  return {weight, std::move(bias), std::move(multiplier), std::move(shift), limit, inputs, outputs};
}

IntegerLinear linear(const Reader& from, const std::string& path, int64_t inputs, int64_t outputs, int32_t most) {
  return pack(path, from.take<int8_t>(path + ".weight", inputs * outputs), from.take<int32_t>(path + ".bias", outputs),
              from.multipliers(path + ".multiplier", outputs), from.shifts(path + ".shift", outputs),
              from.limit(path, most), inputs, outputs);
}

template <class T>
std::vector<T> half(const std::vector<T>& both, int which) {
  const auto middle = both.begin() + static_cast<std::ptrdiff_t>(both.size() / 2);
  return which ? std::vector<T>(middle, both.end()) : std::vector<T>(both.begin(), middle);
}

void read_gdd(const Reader& from, const std::string& path, const CMambaSizes& s, IntegerLayer& l) {
  const std::vector<int64_t> multiplier = from.multipliers(path + "pool.multiplier", 2);
  const std::vector<int64_t> shift = from.shifts(path + "pool.shift", 2);
  for (int i = 0; i < 2; ++i) {
    l.pool_multiplier[i] = multiplier[static_cast<size_t>(i)], l.pool_shift[i] = shift[static_cast<size_t>(i)];
    const std::string fc = path + (i ? "fc_sf" : "fc_sc"), add = path + (i ? "add_shift" : "add_scale");
    const std::vector<int8_t> up = from.take<int8_t>(fc + ".0.weight", s.hidden * s.series);
    const std::vector<int64_t> by = from.multipliers(fc + ".0.multiplier", 2 * s.hidden);
    const std::vector<int64_t> at = from.shifts(fc + ".0.shift", 2 * s.hidden);
    for (int q = 0; q < 2; ++q)
      l.up[i][q] = pack(fc + ".0", up, std::vector<int32_t>(static_cast<size_t>(s.hidden)), half(by, q), half(at, q),
                        from.limit(fc + ".0", kByte), s.series, s.hidden);
    // What follows mean and maximum meets in one sum, so one layer reads both side by side.
    const std::vector<int8_t> down = from.take<int8_t>(fc + ".2.weight", s.series * s.hidden);
    std::vector<int8_t> twice;
    for (int64_t v = 0; v < s.series; ++v)
      for (int q = 0; q < 2; ++q) twice.insert(twice.end(), down.begin() + v * s.hidden, down.begin() + (v + 1) * s.hidden);
    l.down[i] = pack(fc + ".2", twice, from.take<int32_t>(add + ".bias", s.series),
                     from.multipliers(add + ".multiplier", s.series), from.shifts(add + ".shift", s.series),
                     from.limit(add, kByte), 2 * s.hidden, s.series);
    l.gelu[i] = from.take<int8_t>(fc + ".1.table", 256);
    l.gate[i] = from.take<int16_t>(path + (i ? "gate.shift" : "gate.scale"), 256);
  }
  l.pool_limit = from.limit(path + "pool", kByte);
}

IntegerLayer read_layer(const Reader& from, const std::string& block, const CMambaSizes& s) {
  IntegerLayer l;
  const std::string mixer = block + "mixer.", scan = mixer + "scan";
  l.eps = from.one<int64_t>(block + "norm.eps");
  if (l.eps < 1 || l.eps > int64_t{1} << 46) throw std::invalid_argument(block + "norm.eps is not from 1 to 2^46");
  l.norm_multiplier = from.multipliers(block + "norm.multiplier", s.width);
  l.norm_shift = from.shifts(block + "norm.shift", s.width);
  const size_t padded = static_cast<size_t>((s.width + kPanel - 1) / kPanel * kPanel);
  l.norm_multiplier.resize(padded, 0), l.norm_shift.resize(padded, 1);
  l.norm_limit = from.limit(block + "norm", kByte);
  l.in = linear(from, mixer + "in_proj", s.width, 2 * s.inner, kByte);
  l.x = linear(from, mixer + "x_proj", s.inner, s.rank + 2 * s.states + s.inner, kByte);
  l.dt = linear(from, mixer + "dt_proj", s.rank, s.inner, kByte);
  l.out = linear(from, mixer + "out_proj", s.inner, s.width, kShort);
  l.act = from.take<int8_t>(mixer + "act.table", 256);
  l.silu = from.take<int8_t>(scan + ".silu", 256);
  l.delta = from.take<uint16_t>(scan + ".delta", 256);
  l.set_decay(from.take<int16_t>(scan + ".decay", s.states * 256), s.states);
  l.t = from.one<uint8_t>(scan + ".t"), l.j = from.one<uint8_t>(scan + ".j");
  if (l.t > 8 || l.j > 8) throw std::invalid_argument(scan + " has shifts beyond 8");
  l.state = from.one<int32_t>(scan + ".state"), l.skip = from.one<int32_t>(scan + ".skip");
  l.y_shift = static_cast<int>(from.shifts(scan + ".y.shift", 1)[0]);
  l.scan_multiplier = from.one<int32_t>(scan + ".multiplier");
  l.scan_shift = static_cast<int>(from.shifts(scan + ".shift", 1)[0]);
  l.scan_limit = from.limit(scan, kByte);
  read_gdd(from, block + "GDDMLP.", s, l);
  return l;
}

}  // namespace

IntegerLinear::IntegerLinear(const std::vector<int8_t>& from, std::vector<int32_t> biases,
                             std::vector<int64_t> multipliers, std::vector<int64_t> shifts, int32_t most, int64_t in,
                             int64_t out)
    : inputs(in), outputs(out), limit(most) {
  const int64_t panels = (outputs + kPanel - 1) / kPanel, quads = (inputs + 3) / 4;
  weight.assign(static_cast<size_t>(panels * quads * 4 * kPanel), 0);
  for (int64_t o = 0; o < outputs; ++o) {
    int64_t sum = 0;
    for (int64_t i = 0; i < inputs; ++i) {
      const int8_t w = from[static_cast<size_t>(o * inputs + i)];
      weight[static_cast<size_t>(((o / kPanel * quads + i / 4) * kPanel + o % kPanel) * 4 + i % 4)] = w;
      sum += w;
    }
    int32_t& b = biases[static_cast<size_t>(o)];
    b = static_cast<int32_t>(static_cast<uint32_t>(b) - static_cast<uint32_t>(128 * sum));
  }
  const size_t padded = static_cast<size_t>(panels * kPanel);
  biases.resize(padded, 0), multipliers.resize(padded, 0), shifts.resize(padded, 1);
  bias = std::move(biases), multiplier = std::move(multipliers), shift = std::move(shifts);
}

void IntegerLayer::set_decay(const std::vector<int16_t>& of_states, int64_t states) {
  decay.resize(of_states.size());
  for (int64_t n = 0; n < states; ++n)
    for (int64_t c = 0; c < 256; ++c)
      decay[static_cast<size_t>(c * states + n)] = of_states[static_cast<size_t>(n * 256 + c)];
}

IntegerWeights::IntegerWeights(const CMambaSizes& given, const IntegerArrays& arrays)
    : sizes(given) {
  const CMambaSizes& s = sizes;
  if (!s.official || s.length > 4096) throw std::invalid_argument("only the published network of at most 4096 readings");
  if (s.width > 32768 || s.states > 512) throw std::invalid_argument("only widths to 32768 and 512 states of a channel");
  const Reader from(arrays);
  standardize = from.one<int32_t>("standardize.multiplier");
  standardize_limit = from.limit("standardize", kByte);
  embedding = linear(from, "patch_embedding.value_embedding", s.patch, s.width, kShort);
  positions = from.take<int16_t>("patch_embedding.position_embedding.pe", s.patches * s.width);
  rsqrt = from.take<uint16_t>("rsqrt.table", 193);
  for (size_t i = 0; i < rsqrt.size(); ++i)
    if (rsqrt[i] != std::nearbyint(32768 / std::sqrt((static_cast<double>(i) + 64.5) / 64)))
      throw std::invalid_argument("rsqrt.table is not that of the arithmetic");
  for (int64_t i = 0; i < s.layers; ++i)
    layers.push_back(read_layer(from, "encoder.layers." + std::to_string(i) + ".", s));
  act_multiplier = from.one<int32_t>("encoder.act.in.multiplier");
  act_shift = from.shifts("encoder.act.in.shift", 1)[0];
  act_limit = from.limit("encoder.act.in", kByte);
  act_bias = from.one<int32_t>("encoder.act.in.bias");
  if (std::abs(int64_t{act_bias}) > 1 << 30) throw std::invalid_argument("encoder.act.in.bias is beyond 2^30");
  act = from.take<int8_t>("encoder.act.table", 256);
  head = linear(from, "head.linear", s.width * s.patches, s.forecast, kForecast);
}

const IntegerKernels& integer_kernels(const char* isa) {
  const char* const name = integer_isa(isa);
#ifdef SPARSEFLOW_X86
  if (!std::strcmp(name, "avx512")) return avx512_integer;
  if (!std::strcmp(name, "avx2")) return avx2_integer;
#endif
  static_cast<void>(name);
  return scalar_integer;
}

}  // namespace sparseflow
