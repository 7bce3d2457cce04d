"""The kernels of the scan go through the compiler for a GPU, with the layout that they are written for."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="needs triton")

COMPILE = """
import sys
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver


class Driver:
    def get_current_device(self):
        return 0

    def get_current_stream(self, device=None):
        return 0

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)


class Compiled:
    def __init__(self, kernel):
        self.kernel = kernel

    def __getitem__(self, grid):
        return lambda *args, **options: self.compile(args, options, grid)

    def compile(self, args, options, grid):
        done = self.kernel.warmup(*args, grid=grid, **options)
        assert done.asm["cubin"]
        print(self.kernel.__name__, done.metadata.shared)


driver.set_active(Driver())
from sparseflow.ops.selective_scan import _kernels, triton
from tests.ops.selective_scan.scan_cases import CASES, operands

for name in _kernels.__all__:
    setattr(_kernels, name, Compiled(getattr(_kernels, name)))
triton.CHUNK, triton.AHEAD, triton.FAR = 1, 1, 1
triton.SHORTEST = {"forward": 8, "backward": 8}
case, steps = sys.argv[1], int(sys.argv[2])
given = operands(2, steps, 72, dtype=torch.float32, **CASES[case])
triton.forward(given, case == "state")
triton.backward(given, given.x, torch.zeros(2, 72, 16) if case == "state" else None)
"""


@pytest.mark.parametrize(("case", "steps"), [("cmamba", 40), ("bare", 40), ("state", 5)])
def test_kernels_compile_for_a_gpu(case, steps, tmp_path):
    # The interpreter runs what the compiler refuses, such as a pointer that is missing in a branch not taken.
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COMPILE, case, str(steps)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [line.split() for line in done.stdout.splitlines()]
    names = {name for name, _ in found}
    assert {"forward_steps", "backward_steps"} <= names
    assert ({"local_ends", "carry_over"} <= names) == (steps == 40)
    # One thread a channel: nothing goes through shared memory but the last sum of the gradient over channels.
    assert {name for name, shared in found if shared != "0"} <= {"backward_steps"}
