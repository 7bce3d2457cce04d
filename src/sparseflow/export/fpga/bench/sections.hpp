// Files of named sections: {char name[8]; u32 beats; u32 bytes of a beat; the beats}, one behind the other.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

struct Section {
  uint32_t beats = 0, bytes = 0;
  std::vector<uint8_t> data;
  const uint8_t *at(uint32_t i) const { return data.data() + size_t(i) * bytes; }
};

[[noreturn]] inline void fail(const char *what, unsigned long long cycle = 0) {
  std::fprintf(stderr, "%s (cycle %llu)\n", what, cycle);
  std::exit(3);
}

inline std::map<std::string, Section> read_sections(const char *path) {
  std::FILE *file = std::fopen(path, "rb");
  if (!file) fail("cannot open the stimuli");
  std::map<std::string, Section> sections;
  char name[9] = {};
  while (std::fread(name, 8, 1, file) == 1) {
    Section s;
    if (std::fread(&s.beats, 4, 1, file) != 1 || std::fread(&s.bytes, 4, 1, file) != 1) fail("the stimuli are cut");
    s.data.resize(size_t(s.beats) * s.bytes);
    if (!s.data.empty() && std::fread(s.data.data(), s.data.size(), 1, file) != 1) fail("the stimuli are cut");
    sections[name] = std::move(s);
  }
  std::fclose(file);
  return sections;
}
