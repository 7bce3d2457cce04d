from contextlib import nullcontext

import torch

from sparseflow.nn.models.video_vit import VideoViT
from sparseflow.recipes.video.speed import clips_per_s
from tests.video_runs import TINY


def test_networks_are_called_in_their_cast_and_a_larger_one_is_slower():
    torch.manual_seed(0)
    small, large = (VideoViT(24, 4, 3, **{**TINY, "depth": depth}).eval() for depth in (1, 12))
    entered = []

    def cast():
        entered.append(torch.is_grad_enabled())
        return nullcontext()

    found = clips_per_s({"small": small, "large": large}, torch.randn(4, 4, 3, 24, 24), cast=cast, repeats=3)
    assert list(found) == ["small", "large"]
    assert found["small"] > 2 * found["large"] > 0
    assert entered
    assert not any(entered)
