// Predicts the windows of a file: main WEIGHTS READINGS FORECASTS; int32 with 16 fraction bits, [windows][V][L] and [V][F].
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cmamba.hpp"

static std::vector<char> read(const char *path) {
  std::FILE *file = std::fopen(path, "rb");
  if (!file) {
    std::perror(path);
    std::exit(1);
  }
  std::vector<char> data;
  char part[65536];
  for (size_t n; (n = std::fread(part, 1, sizeof part, file)) > 0;) data.insert(data.end(), part, part + n);
  std::fclose(file);
  return data;
}

int main(int argc, char **argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s WEIGHTS READINGS FORECASTS\n", argv[0]);
    return 2;
  }
  const std::vector<char> weights = read(argv[1]), readings = read(argv[2]);
  const size_t window = sizeof(int32_t) * CMAMBA_V * CMAMBA_L;
  if (readings.size() % window) {
    std::fprintf(stderr, "%s holds no whole number of windows\n", argv[2]);
    return 1;
  }
  std::vector<int32_t> forecast(CMAMBA_V * CMAMBA_F);
  std::FILE *out = std::fopen(argv[3], "wb");
  if (!out) {
    std::perror(argv[3]);
    return 1;
  }
  for (size_t at = 0; at < readings.size(); at += window) {
    cmamba::predict(reinterpret_cast<const uint8_t *>(weights.data()),
                    reinterpret_cast<const int32_t *>(readings.data() + at), forecast.data());
    std::fwrite(forecast.data(), sizeof(int32_t), forecast.size(), out);
  }
  return std::fclose(out) ? 1 : 0;
}
