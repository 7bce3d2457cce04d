"""Runs spike_event3.cu on a CPU, from its own text: only its instructions in assembly are replaced, one by one."""

import ctypes
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sparseflow.ops.spike_layer import _build, event3

# What the functions around one instruction each do.
BODIES = {
    "row": "return loaded<uint4>((u64)at);",
    "mma": "mma_m16n8k8(d, a0, a1, b);",
    "read": "if (at != 0xffffffffu) for (int i = 0; i < VW; ++i) x[i] = words[at + i];",
    "write": "if (go) *at = (u8)x;",
    "put": "if (go) memcpy((void*)(u64)at, &x, 8);",
    "take": "return loaded<uint4>(at);",
    "highest": "return 31 - __builtin_clz(x | 1);",
    "take_two": "return loaded<uint2>(at);",
    "take_one": "return loaded<u32>(at);",
    "hold": "memcpy((void*)(u64)to, from, bytes); *(u64*)(u64)arrived = 1;",
    "wait": "while (loaded<u64>(arrived) != 1) pause_here();",
    "turned": "return movmatrix_trans(x);",
    "reaches": "return x >= y ? 1.0f : 0.0f;",
}
REPLACED = (
    (r"extern __shared__ __align__\(128\) u8 held\[\];", "u8* held = my_block().memory + DYNAMIC;"),
    (
        r"__shared__ (?:__align__\(\d+\) )?(\w+) (\w+)((?:\[[^\]]*\])*);",
        r'using T_\2 = \1 \3; T_\2& \2 = *(T_\2*)shared_place("\2", sizeof(T_\2));',
    ),
    (r'asm volatile\("mbarrier.init[^;]*;" ::"r"\(arrived\) : "memory"\);', "*(u64*)(u64)arrived = 0;"),
    (r'asm volatile\("fence[^;]*;" ::: "memory"\);', ""),
    (r'asm volatile\("" : ("\+\w"\(\w+\)(, )?)*\);', ""),
    (r"typedef unsigned (int u32|long long u64|char u8);", ""),
)
MAIN = """
static Params given;
static void enter() { spike_event3(given); fibres[current].done = true; pause_here(); }
extern "C" void run(const Params* params, int grid, int threads) {
  given = *params, gridDim.x = grid, threads_of_block = threads;
  for (first_block = 0; first_block < grid; ++first_block) {
    blocks.assign(1, Block()), fibres.assign(threads, Fibre());
    const int kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT;
    for (Block& b : blocks) {
      b.memory = (u8*)mmap(0, SHARED, PROT_READ | PROT_WRITE, kind, -1, 0);
      memset(b.memory, 0xee, SHARED);
    }
    for (size_t i = 0; i < fibres.size(); ++i) {
      Fibre& f = fibres[i];
      f.thread = i, f.block = first_block, f.stack.resize(STACK);
      getcontext(&f.context);
      f.context.uc_stack.ss_sp = f.stack.data(), f.context.uc_stack.ss_size = STACK, f.context.uc_link = nullptr;
      makecontext(&f.context, enter, 0);
    }
    for (bool left = true; left;) {
      left = false;
      for (size_t i = 0; i < fibres.size(); ++i)
        if (!fibres[i].done) left = true, resume(i);
    }
    for (Block& b : blocks) munmap(b.memory, SHARED);
  }
}
extern "C" void* room(size_t bytes) {
  const size_t all = ((bytes + PAGE - 1) / PAGE + 1) * PAGE;
  u8* at = (u8*)mmap(0, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(at + all - PAGE, PAGE, PROT_NONE);
  return at + all - PAGE - (bytes + 15) / 16 * 16;
}
"""


def converted(text: str) -> str:
    """Return the kernel's text as C++."""
    for name, body in BODIES.items():
        start = re.search(r"__device__ __forceinline__ [\w ]+?\b" + name + r"\([^{]*\{", text)
        assert start is not None, name
        depth, end = 1, start.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        text = text[: start.end()] + body + "}" + text[end:]
    for pattern, by in REPLACED:
        text = re.sub(pattern, by, text)
    assert not re.search(r"\basm\b", text)
    return text


class Machine:
    """Kernels built into a folder, and run.

    Args:
        folder: where to build.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def library(self, made: tuple[tuple[str, int], ...]) -> ctypes.CDLL:
        """Return the kernel of a set of defines, built."""
        path = self.folder / f"k{abs(hash(made))}.so"
        if not path.exists():
            text = "".join(f"#define {name} {value}\n" for name, value in made) + '#include "warp_machine.hpp"\n'
            source = path.with_suffix(".cpp")
            source.write_text(text + converted(_build.source({}, event3.NAME)) + MAIN)
            command = ["g++", "-O1", "-std=c++20", "-w", "-shared", "-fPIC", f"-I{Path(__file__).parent}"]
            subprocess.run([*command, "-o", str(path), str(source)], check=True)
        library = ctypes.CDLL(str(path))
        library.room.restype, library.room.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        return library

    def launch(
        self,
        made: tuple[tuple[str, int], ...],
        params: event3.Params,
        tensors: Mapping[str, Tensor | None],
        *,
        grid: int,
        threads: int,
    ) -> None:
        """Run a launch on tensors, which take the places of the addresses of these names, and get what is written."""
        library, places = self.library(made), {}
        mine = event3.Params.from_buffer_copy(params)
        for name, tensor in tensors.items():
            if tensor is None:
                continue
            assert tensor.is_contiguous()
            size = tensor.numel() * tensor.element_size()
            places[name] = library.room(max(16, size))
            ctypes.memmove(places[name], tensor.data_ptr(), size)
            setattr(mine, name, places[name])
        library.run(ctypes.byref(mine), grid, threads)
        for name, at in places.items():
            tensor = tensors[name]
            ctypes.memmove(tensor.data_ptr(), at, tensor.numel() * tensor.element_size())


def spike_layer(machine, source, packed, monkeypatch, *, steps, tune=(), v0=None, add=None, keep_v=True, processors=3):
    """What `event.spike_layer` returns, run by the machine."""
    channels, params = packed.out_channels, packed.params
    words = source.words
    m, height, width, count = words.shape
    n, taps = m // steps, packed.tensors["taps"]
    planes = 1 if add is None else add[1] + 1
    made = event3.configure(
        pixels=n * height * width,
        channels=channels,
        steps=steps,
        count=count,
        wide=next(w for w in (4, 2, 1) if count % w == 0),
        halves=taps.shape[1],
        add=planes - 1,
        out_planes=planes,
        reset=0 if params.v_reset is None else 1 if params.v_reset == 0 else 2,
        v0=v0 is not None,
        keep_v=keep_v,
        held=event3.holds(count, taps.shape[1]),
        processors=processors,
        tune=tune,
    )
    y = torch.full((m, height, width, planes * -(-channels // 32)), 7, dtype=torch.int32)
    v = torch.zeros(n, height, width, channels)
    start = None if v0 is None else v0.permute(0, 2, 3, 1).contiguous().float()
    tensors = {
        **{"words": words, "weights": taps, "constants": packed.tensors["constants"], "v0": start, "v": v, "out": y},
        **{"add": None if add is None else add[0]},
    }

    class Driver:
        def cuLaunchKernel(self, handle, grid, _x, _y, threads, *rest):
            given = ctypes.cast(rest[4], ctypes.POINTER(ctypes.c_void_p))[0]
            params = event3.Params.from_buffer_copy(ctypes.string_at(given, ctypes.sizeof(event3.Params)))
            machine.launch(made, params, tensors, grid=grid, threads=threads)
            return 0

    monkeypatch.setattr(event3, "processors", lambda _: processors)
    monkeypatch.setattr(_build, "driver", Driver)
    monkeypatch.setattr(event3, "_handle", lambda *_: None)
    event3.launch(0, 0, made, event3.Call((0,) * 8, 0, height, width, count, steps, n * height * width, channels))
    return y, v.permute(0, 3, 1, 2), dict(made)
