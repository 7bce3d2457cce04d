"""Kernels of the products."""

from sparseflow.ir import Layer
from sparseflow.ops.spike_matmul.space import OP
from tests.ops.test_op import CPU, GPU


def test_refusals_have_reasons():
    layer = Layer(name="a", op="matmul", operands=())
    assert OP.candidates(layer, GPU)[1].refusal is None
    assert "is a cpu" in OP.candidates(layer, CPU)[1].refusal
