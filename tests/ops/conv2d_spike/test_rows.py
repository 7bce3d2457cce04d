"""Packed weights carry no gradient and are copies."""

import torch

from sparseflow.ops.conv2d_spike import kernel_of, pack_weight


def test_packing_copies_and_detaches():
    weight = torch.ones(2, 3, 1, 1, requires_grad=True)
    for kernel in ("auto", "dense"):
        rows = pack_weight(weight, kernel=kernel)
        assert not rows.requires_grad
        before = rows.clone()
        with torch.no_grad():
            weight.add_(1)
        assert torch.equal(rows, before)
        assert kernel_of(rows) in ("event", "dense")


def test_layout_of_the_weight_does_not_matter():
    weight = torch.randn(8, 4, 3, 3)
    last = weight.contiguous(memory_format=torch.channels_last)
    assert torch.equal(pack_weight(weight), pack_weight(last))
