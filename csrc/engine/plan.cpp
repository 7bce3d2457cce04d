#include "engine/plan.hpp"

#include <cmath>
#include <cstring>
#include <stdexcept>

#include "nouns/json.hpp"

namespace sparseflow {

namespace {

constexpr int64_t kLargest = 1 << 20, kMostBytes = int64_t{1} << 31;

const char* const kRefused = "no valid plan: ";

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(kRefused + what); }

struct Piece {
  const uint8_t* data;
  int64_t bytes;
  std::string type;
  std::vector<int64_t> shape;
};

// A safetensors file: eight bytes of length, a JSON header, then the tensors.
class Archive {
 public:
  Archive(const uint8_t* data, size_t size) {
    uint64_t length = 0;
    if (size < 8) refuse("it has only " + std::to_string(size) + " bytes");
    for (int i = 7; i >= 0; --i) length = length << 8 | data[i];
    if (length > size - 8) refuse("its header is cut off");
    header_ = Json::parse(reinterpret_cast<const char*>(data) + 8, length);
    body_ = data + 8 + length;
    bytes_ = static_cast<int64_t>(size - 8 - length);
  }

  const Json& header() const { return header_; }

  Piece piece(const std::string& name, const char* type) const {
    if (name == "__metadata__" || !header_.has(name)) refuse("it has no tensor '" + name + "'");
    const Json& entry = header_.at(name);
    const auto& ends = entry.at("data_offsets").array();
    if (ends.size() != 2) refuse("tensor '" + name + "' has no two ends");
    const int64_t from = ends[0].integer(0, bytes_), to = ends[1].integer(from, bytes_);
    Piece found{body_ + from, to - from, entry.at("dtype").string(), {}};
    int64_t count = found.type == "F32" ? 4 : 1;
    for (const Json& n : entry.at("shape").array()) {
      found.shape.push_back(n.integer(1, kLargest));
      count *= found.shape.back();
      if (count > kMostBytes) refuse("tensor '" + name + "' is too large");
    }
    if (found.type != type) refuse("tensor '" + name + "' is " + found.type + ", expected " + type);
    if (count != found.bytes) refuse("tensor '" + name + "' has " + std::to_string(found.bytes) + " bytes");
    return found;
  }

  std::vector<float> floats(const std::string& name, int64_t count) const {
    const Piece p = piece(name, "F32");
    if (p.bytes != 4 * count) refuse("tensor '" + name + "' has other than " + std::to_string(count) + " elements");
    std::vector<float> found(static_cast<size_t>(count));
    std::memcpy(found.data(), p.data, static_cast<size_t>(p.bytes));
    for (const float x : found) {
      if (!std::isfinite(x)) refuse("tensor '" + name + "' is not finite");
    }
    return found;
  }

 private:
  Json header_;
  const uint8_t* body_;
  int64_t bytes_;
};

void pair(const Json& from, const char* key, int64_t low, int64_t& y, int64_t& x) {
  const auto& both = from.at(key).array();
  if (both.size() != 2) refuse(std::string(key) + " has no two numbers");
  y = both[0].integer(low, 4096);
  x = both[1].integer(low, 4096);
}

float finite(const Json& from) {
  const float x = static_cast<float>(from.number());
  if (!std::isfinite(x)) refuse("a number is not finite in float32");
  return x;
}

StepKind kind_of(const std::string& op) {
  static const char* const names[] = {"quantize", "layer",        "max_pool",   "sum",      "concat",
                                      "mean",     "average_pool", "dequantize", "real_mean"};
  for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
    if (op == names[i]) return static_cast<StepKind>(i);
  }
  refuse("step '" + op + "' is not known; this engine reads version " + std::to_string(kPlanVersion));
}

int64_t extent(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
  const int64_t reach = size + 2 * padding - dilation * (kernel - 1) - 1;
  return reach < 0 ? 0 : reach / stride + 1;
}

class Reader {
 public:
  Reader(const Archive& archive, const Json& program) : archive_(archive), program_(program) {}

  Plan run() {
    if (program_.at("version").integer(0, 1 << 30) != kPlanVersion) {
      refuse("its version is other than " + std::to_string(kPlanVersion));
    }
    const auto& input = program_.at("input").array();
    if (input.size() != 3) refuse("the input has other than three sizes");
    for (int i = 0; i < 3; ++i) plan_.input[i] = input[static_cast<size_t>(i)].integer(1, kLargest);
    for (const Json& v : program_.at("values").array()) values(v);
    made_.assign(plan_.values.size(), false);
    for (const Json& s : program_.at("steps").array()) step(s);
    plan_.output = value(program_.at("output"));
    if (!plan_.values[static_cast<size_t>(plan_.output)].real) refuse("the output is no real number");
    return std::move(plan_);
  }

 private:
  void values(const Json& v) {
    const auto& shape = v.at("shape").array();
    if (shape.size() != 3) refuse("a value has other than three sizes");
    PlanValue made{shape[0].integer(1, kLargest), shape[1].integer(1, kLargest), shape[2].integer(1, kLargest),
                   static_cast<int>(v.at("zero").integer(0, 255)), v.at("real").boolean()};
    if (made.c * made.h > kMostBytes || made.size() > kMostBytes) refuse("a value is too large");
    plan_.values.push_back(made);
  }

  int value(const Json& j) const {
    const auto id = static_cast<size_t>(j.integer(0, static_cast<int64_t>(plan_.values.size()) - 1));
    if (!made_[id]) refuse("a value is read before it is made");
    return static_cast<int>(id);
  }

  const PlanValue& of(int id) const { return plan_.values[static_cast<size_t>(id)]; }

  void step(const Json& j) {
    PlanStep s{};
    s.kind = kind_of(j.at("op").string());
    for (const Json& i : j.at("inputs").array()) s.inputs.push_back(value(i));
    const auto out = static_cast<size_t>(j.at("output").integer(0, static_cast<int64_t>(plan_.values.size()) - 1));
    if (made_[out]) refuse("a value is made twice");
    s.output = static_cast<int>(out);
    const size_t wanted = s.kind == StepKind::quantize ? 0 : 1;
    const bool many = s.kind == StepKind::sum || s.kind == StepKind::concat;
    if (many ? s.inputs.empty() : s.inputs.size() != wanted) refuse("a step has a wrong number of inputs");
    for (const int i : s.inputs) {
      if (of(i).real != (s.kind == StepKind::real_mean)) refuse("a step reads real numbers for codes, or codes for them");
    }
    const bool real = s.kind == StepKind::dequantize || s.kind == StepKind::real_mean;
    if (s.kind != StepKind::layer && of(s.output).real != real) refuse("a step makes real numbers for codes, or codes");
    bounds(j, s);
    fields(j, s);
    shapes(s);
    made_[out] = true;
    plan_.steps.push_back(std::move(s));
  }

  void bounds(const Json& j, PlanStep& s) const {
    const PlanValue& out = of(s.output);
    if (out.real) {
      s.clamp = s.kind == StepKind::layer && !j.at("clamp").is_null();
      if (s.clamp) s.high = j.at("clamp").at("high").is_null() ? INFINITY : finite(j.at("clamp").at("high"));
      return;
    }
    if (s.kind == StepKind::max_pool) {
      if (out.zero != of(s.inputs[0]).zero) refuse("a max-pool changes the zero point");
      return;
    }
    const int64_t low = j.at("low").integer(0, 255), high = j.at("high").integer(low, 255);
    s.low = static_cast<float>(low - out.zero);
    s.high = static_cast<float>(high - out.zero);
    if (!j.at("table").is_null()) {
      const Piece p = archive_.piece(j.at("table").string(), "U8");
      if (p.bytes != 256) refuse("a table has other than 256 codes");
      s.table.assign(p.data, p.data + 256);
    }
  }

  void fields(const Json& j, PlanStep& s) const {
    switch (s.kind) {
      case StepKind::quantize:
      case StepKind::sum:
      case StepKind::concat:
      case StepKind::mean:
      case StepKind::average_pool:
      case StepKind::dequantize: {
        for (const Json& r : j.at("ratios").array()) s.ratios.push_back(finite(r));
        const size_t wanted = s.inputs.empty() ? 1 : s.inputs.size();
        if (s.ratios.size() != wanted) refuse("a step has a wrong number of ratios");
        break;
      }
      default:
        break;
    }
    const bool window = s.kind == StepKind::max_pool || s.kind == StepKind::average_pool;
    if (!window && s.kind != StepKind::layer) return;
    pair(j, "stride", 1, s.sh, s.sw);
    pair(j, "padding", 0, s.ph, s.pw);
    pair(j, "dilation", 1, s.dh, s.dw);
    if (window) {
      pair(j, "kernel", 1, s.kh, s.kw);
      if (2 * s.ph > s.kh * s.dh || 2 * s.pw > s.kw * s.dw) refuse("a pool's padding is above half its window");
      if (s.kind == StepKind::average_pool) {
        s.include_padding = j.at("include_padding").boolean();
        s.divisor = j.at("divisor").integer(0, kLargest);
        if (s.dh != 1 || s.dw != 1) refuse("an average pool has dilation");
      }
      return;
    }
    layer(j, s);
  }

  void layer(const Json& j, PlanStep& s) const {
    const PlanValue &in = of(s.inputs[0]), &out = of(s.output);
    s.groups = j.at("groups").integer(1, kLargest);
    s.integer_bias = j.at("integer_bias").boolean();
    const Piece w = archive_.piece(j.at("weight").string(), "I8");
    if (w.shape.size() != 4 || w.shape[0] != out.c || in.c % s.groups || out.c % s.groups ||
        w.shape[1] != in.c / s.groups) {
      refuse("a weight's shape does not fit its layer");
    }
    s.kh = w.shape[2];
    s.kw = w.shape[3];
    s.weight.resize(static_cast<size_t>(w.bytes));
    std::memcpy(s.weight.data(), w.data, static_cast<size_t>(w.bytes));
    if (w.bytes / out.c > INT32_MAX / (255 * 128)) refuse("a layer has too many weights for sums of 32 bits");
    s.bias = archive_.floats(j.at("bias").string(), out.c);
    s.multiplier = archive_.floats(j.at("multiplier").string(), out.c);
    for (const float b : s.bias) {
      if (s.integer_bias && (b != std::nearbyintf(b) || std::fabs(b) > 1e9f)) refuse("a bias is no whole number");
    }
  }

  void shapes(const PlanStep& s) const {
    const PlanValue& out = of(s.output);
    int64_t c = 0, h = 0, w = 0;
    if (s.kind == StepKind::quantize) {
      c = plan_.input[0], h = plan_.input[1], w = plan_.input[2];
    } else {
      const PlanValue& in = of(s.inputs[0]);
      c = in.c, h = in.h, w = in.w;
    }
    switch (s.kind) {
      case StepKind::layer:
        c = out.c;
        h = extent(h, s.kh, s.sh, s.ph, s.dh);
        w = extent(w, s.kw, s.sw, s.pw, s.dw);
        break;
      case StepKind::max_pool:
      case StepKind::average_pool:
        // The file's own size decides between rounding down and up; every window must hold a pixel.
        if (out.h < 1 || (out.h - 1) * s.sh - s.ph >= h || (out.w - 1) * s.sw - s.pw >= w) refuse("a pool's size");
        h = out.h, w = out.w;
        break;
      case StepKind::mean:
      case StepKind::real_mean:
        h = w = 1;
        break;
      case StepKind::sum:
      case StepKind::concat:
        if (s.kind == StepKind::concat) c = 0;
        for (const int i : s.inputs) {
          if (s.kind == StepKind::concat) c += of(i).c;
          if (of(i).h != h || of(i).w != w || (s.kind == StepKind::sum && of(i).c != c)) refuse("inputs of other sizes");
        }
        break;
      default:
        break;
    }
    if (out.c != c || out.h != h || out.w != w) refuse("a value has another size than its step makes");
  }

  const Archive& archive_;
  const Json& program_;
  Plan plan_;
  std::vector<bool> made_;
};

}  // namespace

namespace {

Plan read(const uint8_t* data, size_t size) {
  const Archive archive(data, size);
  if (!archive.header().has("__metadata__") || !archive.header().at("__metadata__").has("int8_net")) {
    refuse("it is a safetensors file without a network ('int8_net' in its metadata)");
  }
  const std::string& text = archive.header().at("__metadata__").at("int8_net").string();
  const Json program = Json::parse(text.data(), text.size());
  return Reader(archive, program).run();
}

}  // namespace

Plan Plan::parse(const uint8_t* data, size_t size) {
  try {
    return read(data, size);
  } catch (const std::invalid_argument& e) {
    if (!std::strncmp(e.what(), kRefused, std::strlen(kRefused))) throw;
    refuse(e.what());
  }
}

}  // namespace sparseflow
