"""Kernels of the products."""

from sparseflow.ir import Layer, Operand
from sparseflow.ops.spike_matmul.space import OP
from tests.ops.test_op import CPU, GPU


def test_refusals_have_reasons():
    layer = Layer(name="a", op="matmul", operands=())
    assert OP.candidates(layer, GPU)[1].refusal is None
    assert "is a cpu" in OP.candidates(layer, CPU)[1].refusal


def test_cost():
    x = Operand(role="input", shape=(4, 64), structure="spikes")
    layer = Layer(
        name="a", op="matmul", operands=(x, Operand(role="other", shape=(64, 8)), Operand(role="output", shape=(4, 8)))
    )
    assert OP.flops(layer, "triton") == OP.flops(layer) == 2 * 4 * 8 * 64
    assert OP.bytes(layer, "triton") == 4 * 64 / 8 + 4 * (64 * 8 + 4 * 8)
