/* The engine of integer networks for C and C++: reads a plan file and predicts. No Python, no torch.
 *
 * Build plan.cpp, network.cpp, kernels.cpp, scalar.cpp, c_interface.cpp and, of nouns/, json.cpp and integer_isa.cpp as
 * C++17 with -ffp-contract=off (and -fopenmp for threads); on x86 add avx2.cpp and avx512.cpp with their flags and
 * -DSPARSEFLOW_X86, as examples/engine/CMakeLists.txt does. */
#ifndef SPARSEFLOW_ENGINE_H
#define SPARSEFLOW_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sparseflow_network sparseflow_network;

/* Reads a plan file; NULL on failure, with the reason in `reason` (cut to `size` bytes, its end included). */
sparseflow_network *sparseflow_load(const char *path, char *reason, size_t size);

/* Channels, height and width of an image, and the numbers of an output. */
void sparseflow_sizes(const sparseflow_network *network, int64_t sizes[4]);

/* Computes n images [n][channels][height][width] to outputs [n][size]; 0, or 1 with a reason.
 * May be called from several threads; results do not depend on `threads`. */
int sparseflow_run(const sparseflow_network *network, const float *images, float *outputs, int64_t n, int threads,
                   char *reason, size_t size);

void sparseflow_free(sparseflow_network *network);

#ifdef __cplusplus
}
#endif
#endif
