"""Kernels of the convolution of codes."""

import dataclasses

from sparseflow.ir import Layer, Operand, Precision
from sparseflow.ops import get
from sparseflow.ops.conv2d_codes import OP
from tests.ops.test_op import CPU, GPU

BYTE = Precision(kind="uint", bits=8)


def layer() -> Layer:
    shapes = (("input", (2, 3, 8, 8)), ("weight", (4, 3, 3, 3)), ("output", (2, 4, 6, 6)))
    return Layer(name="c", op="conv2d", operands=tuple(Operand(role=r, shape=s, precision=BYTE) for r, s in shapes))


def test_it_is_registered_and_says_why_not() -> None:
    assert get("conv2d_codes") is OP
    for target, word in ((CPU, "is a cpu"), (GPU, None)):
        found = dataclasses.replace(OP, serves=("conv2d",)).candidates(layer(), target)
        reason = {c.kernel: c.refusal for c in found}["triton"]
        assert reason is None if word is None else word in str(reason)


def test_cost() -> None:
    assert OP.bytes(layer(), "triton") == 2 * 3 * 64 + 4 * 27 + 2 * 4 * 36
    assert OP.flops(layer()) == 2 * 2 * 4 * 36 * 27
