"""Layers on this processor: times, and the memory that the allocator saw."""

import pytest
import torch
from torch import nn

from sparseflow.hardware.proxy import LayerSpec
from sparseflow.recipes.codesign._cpu_layers import measure_layers, peak_mb
from sparseflow.recipes.codesign.meter import ModelMeter


def test_a_larger_layer_takes_longer_and_more():
    small, large = (LayerSpec(name=str(c), kind="mlp", tokens=64, channels=c, mlp_ratio=4.0) for c in (32, 512))
    found = measure_layers([small, large], ModelMeter(5.0, 5.0, 1), rounds=3, window_s=0.01)
    assert [m.layer for m in found] == [small, large]
    assert found[1].lat_ms > found[0].lat_ms > 0
    assert found[1].mem_mb > found[0].mem_mb
    assert [m.power_w for m in found] == pytest.approx([5.0, 5.0], rel=0.1)


def test_memory_is_what_lives_at_once():
    class Chain(nn.Module):
        def forward(self, x):
            return torch.relu(torch.relu(torch.relu(x)))

    x = torch.zeros(250_000)
    # The input, and two of the three results: each is freed when the next is there.
    assert peak_mb((Chain(), (x,))) == pytest.approx(3.0, rel=0.01)
