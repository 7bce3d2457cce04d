#include "Vsf_slim_step.h"
#include "harness.hpp"

int main(int argc, char **argv) {
  Vsf_slim_step top;
  Bench<Vsf_slim_step> bench{top, {}, {}, {}};
  bench.memories.push_back({"w", top.w_we, [&](const uint8_t *b) { uint32_t at; put(at, b); top.w_addr = at; put(top.w_data, b, W_BYTES); }});
  bench.memories.push_back({"p", top.p_we, [&](const uint8_t *b) { uint32_t at; put(at, b); top.p_addr = at; put(top.p_data, b, P_BYTES); }});
  bench.memories.push_back({"t", top.t_we, [&](const uint8_t *b) { uint32_t at; put(at, b); top.t_addr = at; put(top.t_data, b, 2); }});
  bench.sources.push_back({"cmd", top.cmd_valid, top.cmd_ready, [&](const uint8_t *b) { top.cmd_first = *b; }});
  bench.sources.push_back({"s", top.s_valid, top.s_ready, [&](const uint8_t *b) { put(top.s_data, b, S_BYTES); }});
  bench.take = [&](std::vector<uint8_t> &to) { get(top.m_data, to, M_BYTES); get(top.m_last, to); };
  return bench.run(argc, argv);
}
