#include "capi/forecaster.h"

#include <cmath>
#include <cstdio>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "cmamba/pack.hpp"
#include "nouns/integer_isa.hpp"

#ifndef SPARSEFLOW_VERSION
#define SPARSEFLOW_VERSION "unknown"
#endif

using namespace sparseflow;

struct sparseflow_forecaster {
  sparseflow_forecaster(IntegerPack pack, const char* isa)
      : net(pack.sizes, pack.arrays),
        kernels(integer_kernels(isa)),
        readings(std::move(pack.readings)),
        forecasts(std::move(pack.forecasts)),
        columns(std::move(pack.columns)),
        mean(std::move(pack.mean)),
        deviation(std::move(pack.deviation)) {}

  const IntegerWeights net;
  const IntegerKernels& kernels;
  const std::vector<int32_t> readings, forecasts;  // the golden windows
  const std::vector<std::string> columns;
  const std::vector<double> mean, deviation;
};

namespace {

constexpr int32_t kMost = (1 << 24) - 1;
constexpr int kMostThreads = 1024;

thread_local char message[1024] = "";
const std::string empty;

template <class T>
const T& at(const std::vector<T>& values, int64_t i, const T& otherwise) {
  return i >= 0 && i < static_cast<int64_t>(values.size()) ? values[static_cast<size_t>(i)] : otherwise;
}

struct BadArgument : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

void demand(bool good, const char* what) {
  if (!good) throw BadArgument(what);
}

template <class Body>
int guarded(const Body& body) noexcept {
  const auto tell = [](int status, const char* what) {
    std::snprintf(message, sizeof message, "%s", what);
    return status;
  };
  try {
    body();
    return SPARSEFLOW_OK;
  } catch (const std::bad_alloc&) {
    return tell(SPARSEFLOW_NO_MEMORY, "there is not enough memory");
  } catch (const BadArgument& e) {
    return tell(SPARSEFLOW_BAD_ARGUMENT, e.what());
  } catch (const std::invalid_argument& e) {
    return tell(SPARSEFLOW_BAD_PACK, e.what());
  } catch (const std::exception& e) {
    return tell(SPARSEFLOW_FAILED, e.what());
  } catch (...) {
    return tell(SPARSEFLOW_FAILED, "something else than an exception of the standard library was thrown");
  }
}

const char* checked(const char* isa) {
  try {
    return integer_isa(isa ? isa : "auto");
  } catch (const std::invalid_argument& e) {
    throw BadArgument(e.what());
  }
}

void check_call(const sparseflow_forecaster* forecaster, bool pointers, int64_t windows, int threads) {
  demand(forecaster, "there is no forecaster");
  demand(windows >= 0, "the number of windows is negative");
  demand(pointers || windows == 0, "readings or forecasts are a null pointer");
  demand(threads >= 1 && threads <= kMostThreads, "threads are not from 1 to 1024");
}

// Halves to even in every rounding mode of the program; within +-2^24 - 1.
int32_t code_of(double reading) {
  demand(std::isfinite(reading), "a reading is not finite");
  const double scaled = reading * 65536.0;
  if (scaled >= kMost) return kMost;
  if (scaled <= -kMost) return -kMost;
  const double below = std::floor(scaled), rest = scaled - below;
  const int32_t code = static_cast<int32_t>(below);
  return code + (rest > 0.5 || (rest == 0.5 && (code & 1)));
}

}  // namespace

int sparseflow_forecaster_abi(void) { return SPARSEFLOW_FORECASTER_ABI; }

const char* sparseflow_forecaster_version(void) { return SPARSEFLOW_VERSION; }

const char* sparseflow_forecaster_isas(void) {
  static char names[64] = "";
  static const bool made = [] {
    size_t used = 0;
    for (const char* name : integer_isas())
      used += static_cast<size_t>(std::snprintf(names + used, sizeof names - used, "%s%s", used ? " " : "", name));
    return true;
  }();
  static_cast<void>(made);
  return names;
}

const char* sparseflow_forecaster_error(void) { return message; }

int sparseflow_forecaster_open(const char* folder, const char* isa, sparseflow_forecaster** forecaster) {
  if (forecaster) *forecaster = nullptr;
  return guarded([&] {
    demand(folder && forecaster, "the folder, or the place for the forecaster, is a null pointer");
    const char* const kernels = checked(isa);
    *forecaster = new sparseflow_forecaster(IntegerPack::read(folder), kernels);
  });
}

int sparseflow_forecaster_open_memory(const void* manifest, size_t manifest_size, const void* weights,
                                      size_t weights_size, const char* isa, sparseflow_forecaster** forecaster) {
  if (forecaster) *forecaster = nullptr;
  return guarded([&] {
    demand(manifest && weights && forecaster, "manifest, weights, or the place for the forecaster, is a null pointer");
    const char* const kernels = checked(isa);
    *forecaster = new sparseflow_forecaster(
        IntegerPack::parse(static_cast<const char*>(manifest), manifest_size, static_cast<const char*>(weights),
                           weights_size),
        kernels);
  });
}

void sparseflow_forecaster_close(sparseflow_forecaster* forecaster) { delete forecaster; }

int64_t sparseflow_forecaster_series(const sparseflow_forecaster* f) { return f ? f->net.sizes.series : 0; }

int64_t sparseflow_forecaster_readings(const sparseflow_forecaster* f) { return f ? f->net.sizes.length : 0; }

int64_t sparseflow_forecaster_horizon(const sparseflow_forecaster* f) { return f ? f->net.sizes.forecast : 0; }

const char* sparseflow_forecaster_name(const sparseflow_forecaster* f, int64_t series) {
  return f ? at(f->columns, series, empty).c_str() : "";
}

double sparseflow_forecaster_mean(const sparseflow_forecaster* f, int64_t series) {
  return f ? at(f->mean, series, 0.0) : 0.0;
}

double sparseflow_forecaster_deviation(const sparseflow_forecaster* f, int64_t series) {
  return f ? at(f->deviation, series, 1.0) : 1.0;
}

int sparseflow_forecaster_predict(const sparseflow_forecaster* forecaster, const double* readings, double* forecasts,
                                  int64_t windows, int threads) {
  return guarded([&] {
    check_call(forecaster, readings && forecasts, windows, threads);
    const CMambaSizes& s = forecaster->net.sizes;
    std::vector<int32_t> in(static_cast<size_t>(windows * s.series * s.length));
    std::vector<int32_t> out(static_cast<size_t>(windows * s.series * s.forecast));
    for (size_t i = 0; i < in.size(); ++i) in[i] = code_of(readings[i]);
    forecaster->kernels.forward(forecaster->net, in.data(), out.data(), windows, threads);
    for (size_t i = 0; i < out.size(); ++i) forecasts[i] = out[i] / 65536.0;
  });
}

int sparseflow_forecaster_predict_codes(const sparseflow_forecaster* forecaster, const int32_t* readings,
                                        int32_t* forecasts, int64_t windows, int threads) {
  return guarded([&] {
    check_call(forecaster, readings && forecasts, windows, threads);
    const CMambaSizes& s = forecaster->net.sizes;
    for (int64_t i = 0; i < windows * s.series * s.length; ++i)
      demand(readings[i] >= -kMost && readings[i] <= kMost, "a reading is beyond 24 bits");
    forecaster->kernels.forward(forecaster->net, readings, forecasts, windows, threads);
  });
}

int sparseflow_forecaster_check(const sparseflow_forecaster* forecaster, int threads, int64_t* numbers,
                                int64_t* unlike) {
  return guarded([&] {
    check_call(forecaster, numbers && unlike, 1, threads);
    const std::vector<int32_t>& want = forecaster->forecasts;
    std::vector<int32_t> found(want.size());
    const int64_t window = forecaster->net.sizes.series * forecaster->net.sizes.length;
    forecaster->kernels.forward(forecaster->net, forecaster->readings.data(), found.data(),
                                static_cast<int64_t>(forecaster->readings.size()) / window, threads);
    *numbers = static_cast<int64_t>(want.size()), *unlike = 0;
    for (size_t i = 0; i < want.size(); ++i) *unlike += found[i] != want[i];
  });
}
