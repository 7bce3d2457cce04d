#include "engine/network.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace sparseflow {

namespace {

constexpr int64_t kSlack = 128;            // bytes behind a buffer that a vector may read
constexpr int64_t kCache = int64_t{1} << 20;  // of the codes of one chunk of images
constexpr int64_t kMostImages = 24, kSix = 6;  // tiles of six pixels go over images

int64_t up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

size_t index(int64_t i) { return static_cast<size_t>(i); }

// Vectors of weights must not cross cache lines.
template <class T>
struct Aligned {
  using value_type = T;
  Aligned() = default;
  template <class U>
  explicit Aligned(const Aligned<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t{64})); }
  void deallocate(T* at, size_t) { ::operator delete(at, std::align_val_t{64}); }
  bool operator==(const Aligned&) const { return true; }
  bool operator!=(const Aligned&) const { return false; }
};

template <class T>
using AlignedVector = std::vector<T, Aligned<T>>;

// Images of a chunk, at most `most`, so that the threads finish together and few places in tiles stay empty.
int64_t chunk_size(int64_t n, int64_t most, int64_t threads) {
  const auto cost = [](int64_t images) {
    const int64_t whole = std::min(up(images, 4), up(images, 6));  // tiles have four or six pixels
    return 0.5 + static_cast<double>(images < 4 ? images + 1 : whole);
  };
  int64_t best = 1;
  double least = 1e300;
  for (int64_t size = 1; size <= most; ++size) {
    const int64_t chunks = (n + size - 1) / size, rounds = (chunks + threads - 1) / threads;
    const int64_t tail = chunks - (rounds - 1) * threads == 1 ? n - (chunks - 1) * size : size;
    const double total = static_cast<double>(rounds - 1) * cost(size) + cost(tail);
    if (total <= least) best = size, least = total;
  }
  return best;
}

bool is_depthwise(const PlanStep& s, const PlanValue& in, const PlanValue& out) {
  return s.groups > 1 && s.groups == in.c && in.c == out.c && !out.real;
}

}  // namespace

struct Network::Ready {
  AlignedVector<int8_t> weight;
  AlignedVector<int16_t> taps;  // of a depthwise layer
  AlignedVector<int32_t> offset;
  AlignedVector<float> bias, multiplier;
  bool depthwise = false, small = false;
  std::vector<std::vector<uint8_t>> maps;  // tables of a concatenation, by input
};

struct Network::Workspace {
  int64_t images = 0;
  std::vector<uint8_t*> buffers;
  std::vector<Lists> lists;
  std::vector<std::vector<float>> reals;  // by value

  ~Workspace() {
    for (uint8_t* b : buffers) std::free(b);
  }
};

// One chunk of images on its way.
struct Network::Piece {
  const float* images;
  float* out;
  int64_t n;
  Workspace* space;
  Skip skip;
  int probe;
  uint8_t* probed;
};

Network::Network(Plan plan) : plan_(std::move(plan)) {
  lay_out();
  for (const PlanStep& s : plan_.steps) prepare(s);
}

Network::~Network() = default;

// Gives each value a border as wide as the padding of its readers, and a buffer.
void Network::lay_out() {
  const size_t count = plan_.values.size();
  places_.resize(count);
  std::vector<size_t> last(count, 0);
  for (size_t i = 0; i < plan_.steps.size(); ++i) {
    const PlanStep& s = plan_.steps[i];
    for (const int v : s.inputs) {
      last[index(v)] = i;
      if (s.kind != StepKind::layer) continue;
      Place& p = places_[index(v)];
      p.border_y = std::max(p.border_y, s.ph);
      p.border_x = std::max(p.border_x, s.pw);
    }
  }
  std::vector<int> waiting;  // buffers that nobody needs any more
  int64_t most = 1;
  for (size_t i = 0; i < plan_.steps.size(); ++i) {
    const PlanStep& s = plan_.steps[i];
    const PlanValue& v = plan_.values[index(s.output)];
    Place& p = places_[index(s.output)];
    p.pixel = up(v.c, 4);
    p.row = (v.w + 2 * p.border_x) * p.pixel;
    p.bytes = v.real ? 0 : (v.h + 2 * p.border_y) * p.row;
    if (!v.real) {
      const auto fits = [&](int b) { return buffers_[index(b)] >= p.bytes; };
      const auto found = std::find_if(waiting.begin(), waiting.end(), fits);
      if (found != waiting.end()) {
        p.buffer = *found;
        waiting.erase(found);
      } else if (!waiting.empty()) {
        p.buffer = waiting.back();
        waiting.pop_back();
        buffers_[index(p.buffer)] = p.bytes;
      } else {
        p.buffer = static_cast<int>(buffers_.size());
        buffers_.push_back(p.bytes);
      }
    }
    int64_t alive = p.bytes;
    for (const int in : s.inputs) alive += places_[index(in)].bytes;
    most = std::max(most, alive);
    for (const int in : s.inputs) {
      const int b = places_[index(in)].buffer;
      if (b >= 0 && last[index(in)] == i && std::find(waiting.begin(), waiting.end(), b) == waiting.end()) {
        waiting.push_back(b);
      }
    }
  }
  chunk_ = std::min(kMostImages, std::max(kSix, kCache / most / kSix * kSix));
}

void Network::prepare(const PlanStep& s) {
  ready_.emplace_back();
  Ready& r = ready_.back();
  if (s.kind == StepKind::layer) pack(s, r);
  if (s.kind != StepKind::concat) return;
  const PlanValue& out = plan_.values[index(s.output)];
  for (size_t i = 0; i < s.inputs.size(); ++i) {
    const int zero = plan_.values[index(s.inputs[i])].zero;
    std::vector<uint8_t> map(256);
    for (int code = 0; code < 256; ++code) {
      const float steps = static_cast<float>(code - zero) * s.ratios[i];
      const float inside = std::min(s.high, std::max(s.low, steps));
      const uint8_t found = static_cast<uint8_t>(static_cast<int>(std::nearbyintf(inside)) + out.zero);
      map[index(code)] = s.table.empty() ? found : s.table[found];
    }
    r.maps.push_back(std::move(map));
  }
}

// Blocks of 64 output channels; in a block, for each quad of input bytes, 4 weights of each of its channels.
// A quad is 4 input channels of one tap; taps of a row follow one another, as the pixels of a row do in memory.
void Network::pack(const PlanStep& s, Ready& to) const {
  const PlanValue &in = plan_.values[index(s.inputs[0])], &out = plan_.values[index(s.output)];
  const Place& place = places_[index(s.inputs[0])];
  const int64_t taps = s.kh * s.kw, per_group = in.c / s.groups, padded = up(out.c, kBlock), lanes = up(out.c, kLane);
  const auto weight = [&](int64_t m, int64_t c, int64_t tap) -> int {
    const int64_t own = c - m / (out.c / s.groups) * per_group;
    return own < 0 || own >= per_group ? 0 : s.weight[index((m * per_group + own) * taps + tap)];
  };
  to.bias.assign(index(padded), 0.f);
  to.multiplier.assign(index(padded), 0.f);
  to.offset.assign(index(padded), 0);
  std::copy(s.multiplier.begin(), s.multiplier.end(), to.multiplier.begin());
  for (int64_t m = 0; m < out.c; ++m) {
    int64_t sum = 0;
    for (int64_t i = 0; i < per_group * taps; ++i) sum += s.weight[index(m * per_group * taps + i)];
    sum *= -in.zero;
    if (s.integer_bias) {
      sum += static_cast<int64_t>(s.bias[index(m)]);
    } else {
      to.bias[index(m)] = s.bias[index(m)];
    }
    to.offset[index(m)] = static_cast<int32_t>(sum);
  }
  to.depthwise = is_depthwise(s, in, out);
  if (to.depthwise) {
    to.taps.assign(index(taps * padded), 0);
    for (int64_t t = 0; t < taps; ++t) {
      for (int64_t m = 0; m < out.c; ++m) to.taps[index(t * padded + m)] = s.weight[index(m * taps + t)];
    }
    return;
  }
  const int64_t quads = taps * place.pixel / 4;
  to.weight.assign(index(quads * lanes * 4), 0);
  for (int64_t m = 0; m < out.c; ++m) {
    const int64_t from = m / kBlock * kBlock, wide = std::min(kBlock, lanes - from);
    for (int64_t q = 0; q < quads; ++q) {
      for (int64_t i = 0; i < 4; ++i) {
        const int64_t tap = 4 * q / place.pixel, c = 4 * q % place.pixel + i;
        if (c >= in.c) continue;
        to.weight[index(from * quads * 4 + (q * wide + m - from) * 4 + i)] = static_cast<int8_t>(weight(m, c, tap));
      }
    }
  }
  // Codes above 127 come from a step that may make them, or from its table.
  to.small = true;
  int made = s.inputs[0];
  for (bool carried = true; carried;) {
    carried = false;
    for (const PlanStep& one : plan_.steps) {
      if (one.output != made) continue;
      if (one.kind == StepKind::max_pool) {
        made = one.inputs[0];
        carried = true;
      } else if (one.table.empty()) {
        to.small = one.high + static_cast<float>(in.zero) <= 127.f;
      } else {
        to.small = *std::max_element(one.table.begin(), one.table.end()) <= 127;
      }
      break;
    }
  }
}

Map Network::map(int value, uint8_t* memory) const {
  const PlanValue& v = plan_.values[index(value)];
  const Place& p = places_[index(value)];
  return {memory + p.border_y * p.row + p.border_x * p.pixel, v.c, v.h, v.w, p.pixel, p.row, p.bytes};
}

Finish Network::finish(size_t i) const {
  const PlanStep& s = plan_.steps[i];
  return {ready_[i].bias.data(), ready_[i].multiplier.data(), s.low, s.high, plan_.values[index(s.output)].zero,
          s.table.empty() ? nullptr : s.table.data(), s.clamp};
}

void Network::fill_border(int value, uint8_t* memory, int64_t images, int64_t part, int64_t parts) const {
  const PlanValue& v = plan_.values[index(value)];
  const Place& p = places_[index(value)];
  if (p.border_y + p.border_x == 0) return;
  const int64_t above = p.border_y * p.row, beside = p.border_x * p.pixel;
  for (int64_t n = images * part / parts; n < images * (part + 1) / parts; ++n) {
    uint8_t* const at = memory + n * p.bytes;
    std::memset(at, v.zero, index(above));
    for (int64_t y = 0; y < v.h; ++y) {
      std::memset(at + above + y * p.row, v.zero, index(beside));
      std::memset(at + above + (y + 1) * p.row - beside, v.zero, index(beside));
    }
    std::memset(at + above + v.h * p.row, v.zero, index(above));
  }
}

int64_t Network::step(size_t i, const EngineKernels& k, const Piece& piece, int64_t part, int64_t parts) const {
  const PlanStep& s = plan_.steps[i];
  const Ready& r = ready_[i];
  Workspace& w = *piece.space;
  const PlanValue& out = plan_.values[index(s.output)];
  const auto memory = [&](int v) { return w.buffers[index(places_[index(v)].buffer)]; };
  const auto at = [&](int v) { return map(v, memory(v)); };
  float* const real = out.real ? (s.output == plan_.output && out.h * out.w == 1 ? piece.out
                                                                                  : w.reals[index(s.output)].data())
                               : nullptr;
  if (!out.real) fill_border(s.output, memory(s.output), piece.n, part, parts);
  const int zero = s.inputs.empty() ? 0 : plan_.values[index(s.inputs[0])].zero;
  switch (s.kind) {
    case StepKind::quantize:
      return k.quantize({piece.images, at(s.output), piece.n, s.ratios[0], finish(i)}, part, parts);
    case StepKind::layer:
      if (r.depthwise) {
        Map from = at(s.inputs[0]);
        from.at -= s.ph * from.row + s.pw * from.pixel;
        k.depthwise({from, at(s.output), r.taps.data(), r.offset.data(), finish(i), piece.n, out.h, out.w,
                     s.kh, s.kw, s.sh, s.sw, s.dh, s.dw},
                    part, parts);
      } else {
        ConvArgs a{at(s.inputs[0]), real ? Map{} : at(s.output), real, r.weight.data(), r.offset.data(), finish(i),
                   piece.n, out.c, out.h, out.w, s.kh, s.kw, s.sh, s.sw, s.ph, s.pw, s.dh, s.dw, zero == 0, r.small,
                   piece.skip, static_cast<int64_t>(i)};
        k.conv(a, part, parts, w.lists[index(part)]);
      }
      return 0;
    case StepKind::max_pool:
    case StepKind::average_pool:
    case StepKind::mean: {
      const float ratio = s.ratios.empty() ? 1.f : s.ratios[0];
      const PoolArgs a{at(s.inputs[0]), at(s.output), piece.n, s.kh, s.kw, s.sh, s.sw, s.ph, s.pw, s.dh, s.dw,
                       s.include_padding, s.divisor, zero, ratio, finish(i)};
      (s.kind == StepKind::mean ? k.mean : s.kind == StepKind::max_pool ? k.max_pool : k.average_pool)(a, part, parts);
      return 0;
    }
    case StepKind::sum: {
      SumArgs a{{}, {}, s.ratios, at(s.output), piece.n, finish(i)};
      for (const int in : s.inputs) {
        a.in.push_back(at(in));
        a.zeros.push_back(plan_.values[index(in)].zero);
      }
      k.sum(a, part, parts);
      return 0;
    }
    case StepKind::concat: {
      Map to = at(s.output);
      for (size_t j = 0; j < s.inputs.size(); ++j) {
        const Map from = at(s.inputs[j]);
        k.move(from, to, piece.n, r.maps[j].data(), part, parts);
        to.at += from.c;
      }
      return 0;
    }
    case StepKind::dequantize:
    case StepKind::real_mean:
      break;
  }
  if (part != 0) return 0;
  if (s.kind == StepKind::dequantize) {
    const Map m = at(s.inputs[0]);
    for (int64_t p = 0; p < piece.n * m.h * m.w; ++p) {
      const int64_t n = p / (m.h * m.w), y = p / m.w % m.h, x = p % m.w;
      const uint8_t* const codes = m.at + n * m.image + y * m.row + x * m.pixel;
      for (int64_t c = 0; c < m.c; ++c) real[p * m.c + c] = static_cast<float>(codes[c] - zero) * s.ratios[0];
    }
    return 0;
  }
  const PlanValue& in = plan_.values[index(s.inputs[0])];
  const float* const from = w.reals[index(s.inputs[0])].data();
  for (int64_t n = 0; n < piece.n; ++n) {
    for (int64_t c = 0; c < in.c; ++c) {
      double total = 0.0;
      for (int64_t p = 0; p < in.h * in.w; ++p) total += from[index((n * in.h * in.w + p) * in.c + c)];
      real[n * in.c + c] = static_cast<float>(total / static_cast<double>(in.h * in.w));
    }
  }
  return 0;
}

// A real map lies with channels last; callers get it with channels first.
void Network::output(const Piece& piece) const {
  const PlanValue& v = plan_.values[index(plan_.output)];
  if (v.h * v.w == 1) return;
  const float* const from = piece.space->reals[index(plan_.output)].data();
  for (int64_t n = 0; n < piece.n; ++n) {
    for (int64_t c = 0; c < v.c; ++c) {
      for (int64_t p = 0; p < v.h * v.w; ++p) {
        piece.out[(n * v.c + c) * v.h * v.w + p] = from[index((n * v.h * v.w + p) * v.c + c)];
      }
    }
  }
}

void Network::probe(const Piece& piece) const {
  const Map m = map(piece.probe, piece.space->buffers[index(places_[index(piece.probe)].buffer)]);
  uint8_t* to = piece.probed;
  for (int64_t n = 0; n < piece.n; ++n) {
    for (int64_t c = 0; c < m.c; ++c) {
      for (int64_t y = 0; y < m.h; ++y) {
        for (int64_t x = 0; x < m.w; ++x) *to++ = m.at[n * m.image + y * m.row + x * m.pixel + c];
      }
    }
  }
}

std::unique_ptr<Network::Workspace> Network::take(int64_t images) const {
  {
    const std::lock_guard<std::mutex> hold(lock_);
    for (auto& one : free_) {
      if (one->images < images) continue;
      std::unique_ptr<Workspace> found = std::move(one);
      one = std::move(free_.back());
      free_.pop_back();
      return found;
    }
  }
  auto made = std::make_unique<Workspace>();
  made->images = images;
  for (const int64_t bytes : buffers_) {
    const auto size = index(up(bytes * images + kSlack, 64));
    void* const at = std::aligned_alloc(64, size);
    if (at == nullptr) throw std::bad_alloc();
    std::memset(at, 0, size);
    made->buffers.push_back(static_cast<uint8_t*>(at));
  }
  made->reals.resize(plan_.values.size());
  for (size_t v = 0; v < plan_.values.size(); ++v) {
    if (plan_.values[v].real) made->reals[v].resize(index(plan_.values[v].size() * images));
  }
  return made;
}

void Network::give(std::unique_ptr<Workspace> done) const {
  const std::lock_guard<std::mutex> hold(lock_);
  if (free_.size() < 16) free_.push_back(std::move(done));
}

void Network::pass(const EngineKernels& k, const Piece& piece, int64_t part, int64_t parts, int64_t& bad) const {
  for (size_t i = 0; i < plan_.steps.size(); ++i) {
    bad += step(i, k, piece, part, parts);
    const bool wanted = piece.probe >= 0 && plan_.steps[i].output == piece.probe;
    if (parts > 1) {
#pragma omp barrier
      if (wanted) {
        if (part == 0) probe(piece);
#pragma omp barrier
      }
    } else if (wanted) {
      probe(piece);
    }
  }
}

void Network::run(const float* images, float* out, int64_t n, int threads, const RunOptions& options) const {
  const EngineKernels& k = engine_kernels(options.isa);
  const int64_t pixels = plan_.input[0] * plan_.input[1] * plan_.input[2];
  const int64_t outputs = plan_.values[index(plan_.output)].size();
  const int64_t probed = options.probe < 0 ? 0 : plan_.values.at(index(options.probe)).size();
  if (options.probe >= 0 && (plan_.values[index(options.probe)].real || options.probed == nullptr)) {
    throw std::invalid_argument("only codes can be read on the way");
  }
  const int64_t wanted = std::max(1, threads);
  const int64_t size = chunk_size(n, chunk_, wanted);
  const int64_t chunks = (n + size - 1) / size;
  const auto piece = [&](int64_t from, int64_t count, Workspace* space) {
    return Piece{images + from * pixels, out + from * outputs, count, space, options.skip, options.probe,
                 options.probed + from * probed};
  };
  int64_t bad = 0;
  // Enough images keep every thread at work on its own; few ones are computed by all threads together.
  if (n < wanted && n > 0) {
    std::unique_ptr<Workspace> space = take(n);
    space->lists.resize(index(std::max<int64_t>(wanted, static_cast<int64_t>(space->lists.size()))));
    const Piece all = piece(0, n, space.get());
#pragma omp parallel num_threads(static_cast<int>(wanted)) reduction(+ : bad)
    {
#ifdef _OPENMP
      pass(k, all, omp_get_thread_num(), omp_get_num_threads(), bad);
#else
      pass(k, all, 0, 1, bad);
#endif
    }
    output(all);
    give(std::move(space));
  } else if (n > 0) {
#pragma omp parallel for num_threads(static_cast<int>(std::min(wanted, chunks))) schedule(dynamic) reduction(+ : bad)
    for (int64_t c = 0; c < chunks; ++c) {
      std::unique_ptr<Workspace> space = take(size);
      if (space->lists.empty()) space->lists.resize(1);
      const Piece one = piece(c * size, std::min(size, n - c * size), space.get());
      pass(k, one, 0, 1, bad);
      output(one);
      give(std::move(space));
    }
  }
  if (bad != 0) throw std::invalid_argument(std::to_string(bad) + " elements of the images are NaN");
}

}  // namespace sparseflow
