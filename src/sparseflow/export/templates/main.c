/* Predicts raw images: float32 numbers [N][C][H][W] as the network takes them, in this machine's byte order.
 *
 *   ./$name images.f32 [outputs.f32]
 *
 * prints the class of every image, and writes the outputs [N][$outputs] if a second file is named. */
#include <stdio.h>
#include <stdlib.h>

#include "$name.h"

int main(int argc, char **argv) {
  static float image[${NAME}_INPUTS], outputs[${NAME}_OUTPUTS];
  void *workspace = malloc(${NAME}_WORKSPACE);
  FILE *in, *out = NULL;
  int found = 0;
  if (argc < 2 || argc > 3 || workspace == NULL) {
    fprintf(stderr, "usage: %s images.f32 [outputs.f32]\n", argv[0]);
    return 2;
  }
  in = fopen(argv[1], "rb");
  if (argc == 3) out = fopen(argv[2], "wb");
  if (in == NULL || (argc == 3 && out == NULL)) {
    perror(in == NULL ? argv[1] : argv[2]);
    return 1;
  }
  while (fread(image, sizeof image, 1, in) == 1) {
    found = ${name}_predict(image, outputs, workspace);
    if (found < 0) {
      fprintf(stderr, "an image has NaN\n");
      return 1;
    }
    printf("%d\n", found);
    if (out != NULL && fwrite(outputs, sizeof outputs, 1, out) != 1) {
      perror(argv[2]);
      return 1;
    }
  }
  if (out != NULL && fclose(out) != 0) {
    perror(argv[2]);
    return 1;
  }
  free(workspace);
  return 0;
}
