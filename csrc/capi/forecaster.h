/* A forecaster of time series in integers for C and C++: reads a pack of `sparseflow forecast export` and predicts, bit
 * for bit as the reference in Python does. No Python, no torch, nothing but the C++ runtime.
 *
 * csrc/capi/CMakeLists.txt builds and installs it; examples/cpp_forecast uses it. The ABI is plain C, and functions are
 * only ever added to it: a program built for one number of SPARSEFLOW_FORECASTER_ABI runs with any library whose
 * sparseflow_forecaster_abi() is not smaller. No exception leaves a function.
 *
 * A forecaster does not change once it is open, so it may be used from several threads at once; messages belong to the
 * thread that called. Results depend neither on threads nor on the instruction set nor on what else is in a batch. */
#ifndef SPARSEFLOW_FORECASTER_H
#define SPARSEFLOW_FORECASTER_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define SPARSEFLOW_API
#else
#define SPARSEFLOW_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define SPARSEFLOW_FORECASTER_ABI 1

typedef struct sparseflow_forecaster sparseflow_forecaster;

enum {
  SPARSEFLOW_OK = 0,
  SPARSEFLOW_BAD_ARGUMENT = 1, /* a null pointer, a negative count, a reading that is no number */
  SPARSEFLOW_BAD_PACK = 2,     /* a file or an array is missing, damaged or of another kind; the message names it */
  SPARSEFLOW_NO_MEMORY = 3,
  SPARSEFLOW_FAILED = 4
};

/* What the library is: the number of its ABI, the version of the project that it comes from, and the instruction sets
 * that it has kernels for on this machine, slowest first and with spaces between, as "scalar avx2 avx512". */
SPARSEFLOW_API int sparseflow_forecaster_abi(void);
SPARSEFLOW_API const char *sparseflow_forecaster_version(void);
SPARSEFLOW_API const char *sparseflow_forecaster_isas(void);

/* What went wrong in the last call of this thread that failed; "" before the first. Valid until the next such call. */
SPARSEFLOW_API const char *sparseflow_forecaster_error(void);

/* Reads a pack from its folder and holds every file in it to its hash. `isa` is "auto" (or null) or one of the
 * instruction sets above. On success *forecaster is to be given to _close, on failure it is null. */
SPARSEFLOW_API int sparseflow_forecaster_open(const char *folder, const char *isa, sparseflow_forecaster **forecaster);

/* The same from the contents of manifest.json and weights.bin, which it copies; no other file is looked at. */
SPARSEFLOW_API int sparseflow_forecaster_open_memory(const void *manifest, size_t manifest_size, const void *weights,
                                                     size_t weights_size, const char *isa,
                                                     sparseflow_forecaster **forecaster);

/* Lets go of a forecaster; null is fine. */
SPARSEFLOW_API void sparseflow_forecaster_close(sparseflow_forecaster *forecaster);

/* Series of a window, readings of each, and values forecast for each; 0 without a forecaster. */
SPARSEFLOW_API int64_t sparseflow_forecaster_series(const sparseflow_forecaster *forecaster);
SPARSEFLOW_API int64_t sparseflow_forecaster_readings(const sparseflow_forecaster *forecaster);
SPARSEFLOW_API int64_t sparseflow_forecaster_horizon(const sparseflow_forecaster *forecaster);

/* Of one series from 0: its name, and the mean and deviation of its readings in the training; "", 0 and 1 where the pack
 * does not say, or there is no such series. The network sees (x - mean) / deviation, and forecasts in that unit. */
SPARSEFLOW_API const char *sparseflow_forecaster_name(const sparseflow_forecaster *forecaster, int64_t series);
SPARSEFLOW_API double sparseflow_forecaster_mean(const sparseflow_forecaster *forecaster, int64_t series);
SPARSEFLOW_API double sparseflow_forecaster_deviation(const sparseflow_forecaster *forecaster, int64_t series);

/* Forecasts windows. `readings` is [windows][series][readings], scaled as above, `forecasts` [windows][series][horizon]
 * in the same unit. Readings are rounded to 2^-16, halves to even, and held within +-256; one
 * that is not finite is refused. `threads` of OpenMP at most, 1 to 1024; a library built without it uses one. */
SPARSEFLOW_API int sparseflow_forecaster_predict(const sparseflow_forecaster *forecaster, const double *readings,
                                                 double *forecasts, int64_t windows, int threads);

/* The same on integers with 16 fraction bits, for machines without floating point; |reading| < 2^24. */
SPARSEFLOW_API int sparseflow_forecaster_predict_codes(const sparseflow_forecaster *forecaster, const int32_t *readings,
                                                       int32_t *forecasts, int64_t windows, int threads);

/* Forecasts the windows that the pack was written with, and counts the numbers unlike those in it: *unlike of *numbers.
 * Both are 0 for a pack from memory, which has none. */
SPARSEFLOW_API int sparseflow_forecaster_check(const sparseflow_forecaster *forecaster, int threads, int64_t *numbers,
                                               int64_t *unlike);

#ifdef __cplusplus
}
#endif
#endif
