"""Kernels of the segment function."""

import dataclasses

from sparseflow.ir import FLOAT16, Layer, Operand, Precision
from sparseflow.ops import get
from sparseflow.ops.triseg import OP, cpp
from tests.ops.test_op import CPU, GPU


def site(precision=None, **attrs):
    extra = {} if precision is None else {"precision": precision}
    x, y = (Operand(role=role, shape=shape, **extra) for role, shape in (("input", (2, 8)), ("output", (6, 8))))
    return Layer(name="s", op="triseg", operands=(x, y), attrs=tuple(attrs.items()))


def refusals(layer, target):
    return {c.kernel: c.refusal for c in dataclasses.replace(OP, serves=("triseg",)).candidates(layer, target)}


def test_it_is_registered():
    assert get("triseg") is OP


def test_refusals_have_reasons():
    found = refusals(site(), CPU)
    assert "is a cpu" in found.pop("triton")
    assert found == {"dense": None, "cpp": cpp.ABSENT}
    assert refusals(site(Precision(kind="uint", bits=8)), CPU)["cpp"] == cpp.ABSENT
    assert "the layer has float16" in refusals(site(FLOAT16), CPU)["cpp"]
    assert "is a gpu" in refusals(site(), GPU)["cpp"]
    assert refusals(site(), GPU)["triton"] is None


def test_cost():
    assert OP.flops(site()) == 3 * 48
    assert OP.bytes(site(maps=3), "cpp") == 4 * (16 + 48) + 3 * 256
    assert OP.bytes(site(Precision(kind="uint", bits=8))) == 16 + 48 + 256
    assert OP.bytes(Layer(name="s", op="triseg", operands=())) == 0
