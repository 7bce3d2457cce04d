#include "Vsf_matvec.h"
#include "harness.hpp"

int main(int argc, char **argv) {
  Vsf_matvec top;
  Bench<Vsf_matvec> bench{top, {}, {}, {}};
  bench.memories.push_back({"w", top.w_we, [&](const uint8_t *b) { uint32_t at; put(at, b); top.w_addr = at; put(top.w_data, b, W_BYTES); }});
  bench.memories.push_back({"p", top.p_we, [&](const uint8_t *b) { uint32_t at; put(at, b); top.p_addr = at; put(top.p_data, b, P_BYTES); }});
  bench.sources.push_back({"cmd", top.cmd_valid, top.cmd_ready, [&](const uint8_t *b) {
    uint32_t field[5];
    std::memcpy(field, b, sizeof field);
    top.cmd_w = field[0];
    top.cmd_p = field[1];
    top.cmd_tiles = field[2];
    top.cmd_blocks = field[3];
    top.cmd_bits = field[4];
  }});
  bench.sources.push_back({"s", top.s_valid, top.s_ready, [&](const uint8_t *b) { put(top.s_data, b, S_BYTES); }});
  bench.take = [&](std::vector<uint8_t> &to) { get(top.m_data, to, M_BYTES); get(top.m_last, to); get(top.m_bits, to); };
  return bench.run(argc, argv);
}
