"""Kernels of entropies and the registered operator."""

import torch

from sparseflow.ir import Layer, Operand
from sparseflow.ops import get
from sparseflow.ops.window_entropy import OP
from tests.ops.test_op import CPU, GPU


def layer():
    roles = {"input": (2, 4, 9, 8), "output": (2, 7, 9)}
    return Layer(name="h", op="window_entropy", operands=tuple(Operand(role=r, shape=s) for r, s in roles.items()))


def test_it_is_registered():
    assert get("window_entropy") is OP


def test_refusals_and_cost():
    found = {c.kernel: c.refusal for c in OP.candidates(layer(), CPU)}
    assert found["dense"] is None
    assert "is a cpu" in found["triton"]
    assert all(c.refusal is None for c in OP.candidates(layer(), GPU))
    assert OP.bytes(layer(), "triton") == 4 * (2 * 2 * 4 * 9 * 8 + 2 * 7 * 9)
    assert OP.flops(layer()) > 0


def test_shapes_are_known_without_a_device():
    x, members = torch.empty(2, 4, 9, 8, device="meta"), torch.empty(3, 9, device="meta")
    time, space = torch.ops.sparseflow.window_entropy.default(x, [0, 4, 1, 2], members, 1.0, True)
    assert time.shape == (2, 2, 9)
    assert space.shape == (2, 4, 3)
