import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sparseflow.nn.models.video_vit import VideoViT
from sparseflow.nn.models.video_vit.cost import block_bytes, block_flops, embed_flops

SIZES = {
    "img_size": 24, "num_frames": 4, "num_classes": 5, "embed_dim": 24, "depth": 2, "num_heads": 3, "mlp_ratio": 2.0,
    "patch_size": 8,
}  # fmt: skip


@pytest.mark.parametrize("sliced", [{}, {"block_heads": (2, 1), "block_hidden": (5, 30)}])
def test_flops_are_those_that_torch_counts(sliced):
    model = VideoViT(**SIZES, **sliced).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), torch.no_grad():
        model(torch.randn(1, 4, 3, 24, 24))
    args = model.args
    ours = embed_flops(args) + sum(block_flops(args, i, args.tokens) for i in range(2)) + 2 * 24 * 5
    assert counter.get_total_flops() == ours


def test_shares_scale_and_carry_gradients():
    args = VideoViT(**SIZES).args
    tokens, head = torch.tensor(18.0, requires_grad=True), torch.tensor(0.5, requires_grad=True)
    cost = block_flops(args, 0, tokens, head=head)
    cost.backward()
    assert tokens.grad > 0
    assert head.grad > 0
    whole = block_flops(args, 0, 18)
    assert block_flops(args, 0, 18, keep=0.5) == 0.5 * whole
    assert block_flops(args, 0, 18, head=0.0, channel=0.0) == 0


def test_bytes_count_weights_and_tensors():
    args = VideoViT(**SIZES).args
    none = block_bytes(args, 0, 0)
    assert none == 2 * (4 * 24 * 24 + 2 * 24 * 48)
    assert block_bytes(args, 0, 10) - none == 2 * 10 * (6 * 24 + 8 * 24 + 4 * 48)
    assert block_bytes(args, 0, 10, element_bytes=4) == 2 * block_bytes(args, 0, 10)
