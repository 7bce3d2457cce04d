"""The kernels of the scan go through the compiler for a GPU, with the layout that they are written for."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="needs triton")

COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from sparseflow.ops.selective_scan import _kernels as kernels

flags = dict(DIRECT=2, GATE=True, BIAS=True, START=1, STATE=True, SOFTPLUS=True, BACK=True, FIRST=True, LAST=1,
             N=16, BLOCK=32, AHEAD=2, CHUNK=1, FOLD=True)
for name, warps in (("local_ends", 1), ("carry_over", 4), ("forward_steps", 1), ("backward_steps", 1)):
    kernel = getattr(kernels, name)
    names = kernel.arg_names
    fixed = {n: v for n, v in (flags | dict(SHARED=name != "backward_steps")).items() if n in names}
    whole = {n for n in names if n in kernels.PLAIN or n in ("states", "bk", "ck")}
    types = {n: "constexpr" if n in fixed else "i32" if n in whole else "*fp32" for n in names}
    even = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if n not in fixed and n not in kernels.PLAIN}
    source = ASTSource(fn=kernel, signature=types, attrs=even,
                       constexprs={(names.index(n),): v for n, v in fixed.items()})
    done = compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})
    assert done.asm["cubin"]
    # One thread a channel: nothing goes through shared memory but the last sum of the gradient.
    print(name, done.metadata.shared)
"""


def test_kernels_compile_for_a_gpu(tmp_path):
    # The interpreter runs what the compiler refuses.
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    shared = dict(line.split() for line in done.stdout.splitlines())
    assert shared.keys() == {"local_ends", "carry_over", "forward_steps", "backward_steps"}
    assert shared["forward_steps"] == shared["local_ends"] == "0"
