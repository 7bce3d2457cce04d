/* Predicts raw images with a plan file: float32 numbers [N][C][H][W], normalised as in training.
 *
 *   cmake -S examples/engine -B build/engine && cmake --build build/engine
 *   build/engine/predict alexnet.plan.safetensors images.f32 [outputs.f32]
 *
 * prints the class of every image, and writes the outputs if a third file is named. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/engine.h"

enum { BATCH = 64, THREADS = 2 };

static int fail(const char *reason) {
  fprintf(stderr, "%s\n", reason);
  return 1;
}

int main(int argc, char **argv) {
  char reason[256] = "";
  int64_t sizes[4], image;
  sparseflow_network *network;
  float *images, *outputs;
  FILE *in, *out = NULL;
  size_t n;
  if (argc < 3 || argc > 4) return fail("usage: predict PLAN images.f32 [outputs.f32]") + 1;
  network = sparseflow_load(argv[1], reason, sizeof reason);
  if (network == NULL) return fail(reason);
  sparseflow_sizes(network, sizes);
  image = sizes[0] * sizes[1] * sizes[2];
  images = malloc((size_t)(BATCH * image) * sizeof *images);
  outputs = malloc((size_t)(BATCH * sizes[3]) * sizeof *outputs);
  in = fopen(argv[2], "rb");
  if (argc == 4) out = fopen(argv[3], "wb");
  if (images == NULL || outputs == NULL) return fail("no memory");
  if (in == NULL || (argc == 4 && out == NULL)) return fail("a file cannot be opened");
  while ((n = fread(images, (size_t)image * sizeof *images, BATCH, in)) > 0) {
    if (sparseflow_run(network, images, outputs, (int64_t)n, THREADS, reason, sizeof reason)) return fail(reason);
    for (size_t i = 0; i < n; ++i) {
      const float *const one = outputs + (int64_t)i * sizes[3];
      int64_t best = 0;
      for (int64_t c = 1; c < sizes[3]; ++c) {
        if (one[c] > one[best]) best = c;
      }
      printf("%d\n", (int)best);
    }
    if (out != NULL && fwrite(outputs, (size_t)sizes[3] * sizeof *outputs, n, out) != n) return fail("cannot write");
  }
  if (out != NULL && fclose(out) != 0) return fail("cannot write");
  fclose(in);
  free(images);
  free(outputs);
  sparseflow_free(network);
  return 0;
}
