#include "Vsf_scan.h"
#include "harness.hpp"

int main(int argc, char **argv) {
  Vsf_scan top;
  CData unused = 0;
  Bench<Vsf_scan> bench{top, {}, {}, {}};
  bench.memories.push_back({"t", top.t_we, [&](const uint8_t *b) { uint32_t at; put(at, b); top.t_addr = at; put(top.t_data, b, T_BYTES); }});
  bench.memories.push_back({"g", top.g_we, [&](const uint8_t *b) { uint32_t at; put(at, b); top.g_addr = at; put(top.g_data, b); }});
  bench.memories.push_back({"set", unused, [&](const uint8_t *b) {
    int32_t field[9];
    std::memcpy(field, b, sizeof field);
    top.set_table = 0;
    top.set_channels = field[0];
    top.set_t = field[1];
    top.set_j = field[2];
    top.set_m_h = field[3];
    top.set_m_d = field[4];
    top.set_m_o = field[5];
    top.set_s_y = field[6];
    top.set_s_o = field[7];
    top.set_bits = field[8];
  }});
  bench.sources.push_back({"b", top.b_valid, top.b_ready, [&](const uint8_t *b) { put(top.b_data, b, B_BYTES); }});
  bench.sources.push_back({"s", top.s_valid, top.s_ready, [&](const uint8_t *b) { put(top.s_data, b); }});
  bench.take = [&](std::vector<uint8_t> &to) { get(top.m_data, to); get(top.m_y, to); get(top.m_last, to); };
  return bench.run(argc, argv);
}
