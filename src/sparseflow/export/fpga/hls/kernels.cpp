// Runs one kernel over the vectors of a file of sections: kernels matvec|scan STIMULI RESULTS; results are int32.
#include <algorithm>
#include <cstring>

#include "sections.hpp"
#include "sf_matvec.hpp"
#include "sf_scan.hpp"

using Sections = std::map<std::string, Section>;

template <class T>
const T *of(Sections &sections, const char *name) {
  return reinterpret_cast<const T *>(sections[name].data.data());
}

static std::vector<int32_t> matvec(Sections &s) {
  const int32_t *set = of<int32_t>(s, "set");
  const int inputs = set[0], outputs = set[1], limit = set[2];
  std::vector<int32_t> found(size_t(s["x"].beats) * outputs);
  for (uint32_t i = 0; i < s["x"].beats; ++i)
    sf_matvec<8, 8>(of<int8_t>(s, "tiles"), of<int32_t>(s, "bias"), of<int32_t>(s, "factor"), of<uint8_t>(s, "shift"),
                    inputs, outputs, limit, of<int8_t>(s, "x") + size_t(i) * inputs, found.data() + size_t(i) * outputs);
  return found;
}

template <int STATES>
std::vector<int32_t> scan(Sections &s) {
  const int32_t *set = of<int32_t>(s, "set");
  const int many = set[0], steps = set[1], channels = set[2];
  const sf_scan_tables tables = {of<uint16_t>(s, "delta"), of<int16_t>(s, "decay"), of<int8_t>(s, "silu"), set[4], set[5],
                                 set[6], set[7], set[8], set[9], set[10], set[11]};
  std::vector<int32_t> found;
  std::vector<int16_t> h(channels * STATES), y(channels);
  std::vector<int8_t> out(channels);
  for (int i = 0; i < many * steps; ++i) {
    if (i % steps == 0) std::fill(h.begin(), h.end(), int16_t(0));
    const size_t at = size_t(i) * channels, state = size_t(i) * STATES;
    sf_scan_step<STATES>(tables, channels, of<int8_t>(s, "p") + at, of<int8_t>(s, "x") + at, of<int8_t>(s, "d") + at,
                         of<int8_t>(s, "z") + at, of<int8_t>(s, "b") + state, of<int8_t>(s, "c") + state, h.data(),
                         out.data(), y.data());
    found.insert(found.end(), out.begin(), out.end());
    found.insert(found.end(), y.begin(), y.end());
  }
  return found;
}

int main(int argc, char **argv) {
  if (argc != 4) fail("expected three arguments");
  Sections sections = read_sections(argv[2]);
  std::vector<int32_t> found;
  if (!std::strcmp(argv[1], "matvec")) {
    found = matvec(sections);
  } else {
    switch (of<int32_t>(sections, "set")[3]) {
      case 2: found = scan<2>(sections); break;
      case 4: found = scan<4>(sections); break;
      case 8: found = scan<8>(sections); break;
      case 16: found = scan<16>(sections); break;
      default: fail("a scan has 2, 4, 8 or 16 states here");
    }
  }
  std::FILE *file = std::fopen(argv[3], "wb");
  if (!file) fail("cannot write the results");
  std::fwrite(found.data(), sizeof(int32_t), found.size(), file);
  return std::fclose(file) ? 1 : 0;
}
