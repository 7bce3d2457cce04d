"""Kernels of the neuron."""

from sparseflow.ir import Layer, Operand, Precision
from sparseflow.ops._library import ABSENT
from sparseflow.ops.lif.space import OP
from tests.ops.test_op import CPU, GPU


def neuron(precision=None):
    extra = {} if precision is None else {"precision": precision}
    operands = tuple(Operand(role=role, shape=(4, 2, 8), **extra) for role in ("input", "output"))
    return Layer(name="n", op="lif", operands=operands)


def refusals(layer, target):
    return {c.kernel: c.refusal for c in OP.candidates(layer, target)}


def test_candidates():
    found = refusals(neuron(), CPU)
    assert "is a cpu" in found.pop("triton")
    assert found == {"dense": None, "cpp": ABSENT}
    assert refusals(neuron(), GPU)["triton"] is None
    assert "a gpu" in refusals(neuron(), GPU)["cpp"]
    assert "float64" in refusals(neuron(Precision(kind="float", bits=64)), CPU)["cpp"]


def test_cost():
    assert OP.flops(neuron()) == 6 * 64
    assert OP.bytes(neuron()) == 2 * 4 * 64
