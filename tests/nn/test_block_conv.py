"""The block convolution is torch's, with the same parameters."""

import pytest
import torch
from torch import nn

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.nn.block_conv import BlockConv2d


@torch.no_grad()
@pytest.mark.parametrize("shape", [(3, 4, 9, 11), (2, 3, 4, 9, 11), (0, 4, 9, 11)])
@pytest.mark.parametrize("padding", [(1, 2), "same"])
def test_is_the_convolution_that_it_was_made_from(shape: tuple[int, ...], padding: object) -> None:
    conv = nn.Conv2d(4, 5, 3, padding=padding, dilation=2)  # type: ignore[arg-type]
    made = BlockConv2d.from_dense(conv, 8)
    assert list(made.state_dict()) == list(conv.state_dict())
    assert made.weight is conv.weight
    x = (torch.rand(shape) < 0.2).float()
    want = conv(x.flatten(0, 1) if x.dim() == 5 else x).reshape(made(x).shape)
    torch.testing.assert_close(made(x), want)
    assert "block_size=8" in repr(made)


def test_sizes_and_paddings_that_it_refuses() -> None:
    with pytest.raises(ConfigError, match="block_size is 5"):
        BlockConv2d(1, 1, 3, block_size=5)
    with pytest.raises(UnsupportedError, match="reflect"):
        BlockConv2d.from_dense(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), 4)


def test_gradients_are_those_of_the_convolution() -> None:
    conv = nn.Conv2d(2, 3, 3)
    x = torch.rand(1, 2, 8, 8, requires_grad=True)
    BlockConv2d.from_dense(conv, 4)(x).square().sum().backward()
    mine, x.grad = x.grad, None
    conv(x).square().sum().backward()
    torch.testing.assert_close(mine, x.grad)


@pytest.mark.gpu
@torch.no_grad()
def test_both_stages_run_on_a_gpu() -> None:
    conv = nn.Conv2d(40, 33, 3, padding=1).cuda()
    x = (torch.rand(2, 2, 40, 17, 19, device="cuda") < 0.05).float()
    want = conv(x.flatten(0, 1)).view(2, 2, 33, 17, 19)
    torch.testing.assert_close(BlockConv2d.from_dense(conv, 8)(x), want, atol=1e-3, rtol=1e-3)
