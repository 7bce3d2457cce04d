"""Kernels of the convolution by blocks."""

from sparseflow.ops.conv2d_block.space import OP, block_bytes, block_flops
from tests.ops.test_op import CPU, GPU, conv


def test_refusals_have_reasons():
    assert {c.kernel: c.refusal for c in OP.candidates(conv(), GPU)} == {"dense": None, "triton": None}
    assert "is a cpu" in OP.candidates(conv(), CPU)[1].refusal


def test_cost():
    layer = conv()
    assert block_flops(layer) == OP.flops(layer)
    assert block_bytes(layer) == OP.bytes(layer) + 4 * 64 * 64
