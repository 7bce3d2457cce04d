"""Kernels of the training neuron."""

import dataclasses

from sparseflow.ir import Layer, Operand
from sparseflow.ops.fire.space import OP
from tests.ops.test_op import CPU, GPU

LAYER = Layer(name="f", op="fire", operands=tuple(Operand(role=r, shape=(4, 8)) for r in ("input", "output")))


def test_refusals_have_reasons():
    op = dataclasses.replace(OP, serves=("fire",))
    assert {c.kernel: c.refusal for c in op.candidates(LAYER, GPU)} == {"dense": None, "triton": None}
    assert "is a cpu" in op.candidates(LAYER, CPU)[1].refusal


def test_cost():
    assert OP.flops(LAYER, "triton") == OP.flops(LAYER) == 3 * 6 * 32
    assert OP.bytes(LAYER, "triton") == 5 * 4 * 32
    assert OP.bytes(Layer(name="f", op="fire", operands=())) == 0
