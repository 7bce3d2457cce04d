"""Kernels of the linear layer."""

from sparseflow.ir import Layer, Operand
from sparseflow.ops.conv2d_spike.space import OP as CONV
from sparseflow.ops.linear_spike.space import OP
from tests.ops.test_op import CPU


def test_it_has_the_kernels_of_the_convolution():
    assert [k.name for k in OP.kernels] == [k.name for k in CONV.kernels]
    x = Operand(role="input", shape=(4, 64), density=0.25, structure="spikes")
    weight, out = Operand(role="weight", shape=(10, 64)), Operand(role="output", shape=(4, 10))
    layer = Layer(name="fc", op="linear", operands=(x, weight, out))
    assert OP.flops(layer) == 2 * 4 * 64 * 10
    assert OP.flops(layer, "event") == 4 * 64 * 10 / 4
    assert {c.kernel for c in OP.candidates(layer, CPU)} == {k.name for k in CONV.kernels}
