// Drives a design through its ready/valid ports: words into memories, beats into streams, beats out, with random pauses.
//
// Usage: <program> STIMULI RESULTS PAUSES_IN PAUSES_OUT SEED MOST_CYCLES; pauses in percent of cycles.
// STIMULI holds sections {char name[8]; u32 beats; u32 bytes of a beat; the beats}; a beat's fields lie one after the other.
// RESULTS: u64 cycles until the last beat, u64 cycle of the first beat taken, u32 beats, u32 bytes of a beat,
// the beats, and the cycle (u64) of each. A run ends when `expect` beats have come out.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "sections.hpp"
#include "verilated.h"

// Takes the next n bytes of a beat for a pin; pins are little-endian, as the machine is.
template <class Pin>
void put(Pin &pin, const uint8_t *&bytes, size_t n = sizeof(Pin)) {
  std::memset(&pin, 0, sizeof(Pin));
  std::memcpy(&pin, bytes, n < sizeof(Pin) ? n : sizeof(Pin));
  bytes += n;
}

template <class Pin>
void get(const Pin &pin, std::vector<uint8_t> &to, size_t n = sizeof(Pin)) {
  const auto *from = reinterpret_cast<const uint8_t *>(&pin);
  to.insert(to.end(), from, from + n);
}

struct Memory {
  std::string section;
  CData &enable;
  std::function<void(const uint8_t *)> set;
};

struct Source {
  std::string section;
  CData &valid, &ready;
  std::function<void(const uint8_t *)> set;
  uint32_t next = 0;
  bool offered = false;
};

template <class Top>
struct Bench {
  Top &top;
  std::vector<Memory> memories;
  std::vector<Source> sources;
  std::function<void(std::vector<uint8_t> &)> take;

  int run(int argc, char **argv) {
    if (argc != 7) fail("expected six arguments");
    auto sections = read_sections(argv[1]);
    const unsigned pause_in = std::atoi(argv[3]), pause_out = std::atoi(argv[4]);
    const unsigned long long most = std::strtoull(argv[6], nullptr, 10);
    std::mt19937 random(std::atoi(argv[5]));
    uint32_t expect = 0;
    std::memcpy(&expect, sections["expect"].at(0), 4);

    auto tick = [&] {
      top.clk = 1;
      top.eval();
      top.clk = 0;
      top.eval();
    };
    top.clk = 0;
    top.rst = 1;
    top.m_ready = 0;
    for (auto &s : sources) s.valid = 0;
    for (auto &m : memories) m.enable = 0;
    for (int i = 0; i < 4; ++i) tick();
    for (auto &m : memories) {
      const Section &words = sections[m.section];
      for (uint32_t i = 0; i < words.beats; ++i) {
        m.enable = 1;
        m.set(words.at(i));
        tick();
      }
      m.enable = 0;
    }
    top.rst = 0;
    tick();

    std::vector<uint8_t> beats, now, held;
    std::vector<uint64_t> cycles;
    uint64_t cycle = 0, first = ~0ull;
    bool waiting = false;
    while (cycles.size() < expect) {
      if (cycle >= most) fail("the design is stuck or slower than its limit", cycle);
      for (auto &s : sources) {
        const Section &all = sections[s.section];
        if (!s.offered && s.next < all.beats && random() % 100 >= pause_in) {
          s.set(all.at(s.next));
          s.offered = true;
        }
        s.valid = s.offered;
      }
      top.m_ready = random() % 100 >= pause_out;
      top.eval();
      now.clear();
      take(now);
      if (waiting && (!top.m_valid || now != held)) fail("an output changed before it was taken", cycle);
      waiting = top.m_valid && !top.m_ready;
      held = now;
      if (top.m_valid && top.m_ready) {
        beats.insert(beats.end(), now.begin(), now.end());
        cycles.push_back(cycle);
      }
      for (auto &s : sources)
        if (s.valid && s.ready) {
          if (first == ~0ull) first = cycle;
          s.offered = false;
          ++s.next;
        }
      tick();
      ++cycle;
    }
    for (int i = 0; i < 64; ++i) {
      for (auto &s : sources) s.valid = 0;
      top.m_ready = 1;
      top.eval();
      if (top.m_valid) fail("more came out than went in", cycle + i);
      tick();
    }

    std::FILE *file = std::fopen(argv[2], "wb");
    if (!file) fail("cannot write the results");
    const uint32_t count = cycles.size(), bytes = now.size();
    std::fwrite(&cycle, 8, 1, file);
    std::fwrite(&first, 8, 1, file);
    std::fwrite(&count, 4, 1, file);
    std::fwrite(&bytes, 4, 1, file);
    std::fwrite(beats.data(), 1, beats.size(), file);
    std::fwrite(cycles.data(), 8, cycles.size(), file);
    if (std::fclose(file) != 0) fail("cannot write the results");
    return 0;
  }
};
