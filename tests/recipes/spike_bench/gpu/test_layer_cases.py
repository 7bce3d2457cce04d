import math

import pytest
import torch
from torch import nn

from sparseflow.ops.conv2d_spike.check import draw
from sparseflow.ops.lif import LIFParams, lif
from sparseflow.recipes.spike_bench.gpu import layer_cases
from sparseflow.recipes.spike_bench.gpu.layer_cases import Tally, compare, layer_case, random_case

CPU = torch.device("cpu")


def test_equal_spikes_count_as_equal_and_flipped_ones_as_wrong():
    x = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0)) + 0.7
    spikes = lif(x.flatten(0, 1), LIFParams(), steps=4)[0].view(4, 2, 3)
    same = compare(x, spikes, LIFParams(), None, "a")
    assert (same.steps, same.equal, same.clear_wrong) == (24, 24, 0)
    flipped = spikes.clone()
    flipped[2, 1, 1] = 1 - flipped[2, 1, 1]
    other = compare(x, flipped, LIFParams(), None, "b")
    assert (other.steps - other.equal, other.clear_wrong) == (1, 1)
    assert other.worst == (23 / 24, "b")


def test_a_potential_at_the_threshold_is_not_clear_then_or_later():
    x = torch.tensor([2.0, 0.3]).view(2, 1, 1)
    tally = compare(x, torch.tensor([0.0, 0.0]).view(2, 1, 1), LIFParams(), None, "a")
    assert tally.steps - tally.equal == 1
    assert (tally.clear, tally.clear_wrong) == (0, 0)


@pytest.mark.parametrize("seed", range(10))
def test_the_dense_kernel_agrees_on_random_layers(seed):
    tally = random_case(draw(seed), "dense", "fp16", CPU)
    assert tally.refused or tally.clear_wrong == 0
    assert tally.unsteady == 0


def test_random_layers_cover_second_sources_counts_and_identities(monkeypatch):
    seen = []
    real = layer_cases.pack_layer

    def watch(weights, *args, identity, planes, **more):
        seen.append((len(weights), identity, max(planes)))
        return real(weights, *args, identity=identity, planes=planes, **more)

    monkeypatch.setattr(layer_cases, "pack_layer", watch)
    for seed in range(10):
        random_case(draw(seed), "dense", "fp16", CPU)
    assert {sources for sources, _, _ in seen} == {1, 2}
    assert {identity for _, identity, _ in seen} == {True, False}
    assert {planes for _, _, planes in seen} == {1, 2}


def test_what_a_kernel_refuses_is_counted_with_its_reason():
    tally = random_case(draw(0), "nonsense", "fp16", CPU)
    assert (tally.refused, tally.ran) == (1, 0)
    assert "nonsense" in tally.reasons[0]
    total = Tally()
    total.add(tally)
    assert math.isnan(total.agreement)


@pytest.mark.parametrize("layer", [nn.Conv2d(5, 4, 3, stride=2, padding=1), nn.Linear(5, 7)])
@pytest.mark.parametrize("top", [1, 3])
def test_layers_of_spikes_and_of_counts_agree(layer, top):
    x = torch.randint(0, top + 1, (3, 2, 5, 7, 7) if isinstance(layer, nn.Conv2d) else (3, 2, 5)).float()
    tally = layer_case(layer, None, LIFParams(v_threshold=0.3), x, "dense", "fp16", "l")
    assert tally.ran == 1
    assert tally.equal == tally.steps > 0


@pytest.mark.parametrize(
    ("layer", "x"), [(nn.Conv2d(4, 4, 3, groups=2), torch.ones(1, 1, 4, 5, 5)), (nn.Linear(4, 2), torch.rand(1, 1, 4))]
)
def test_layers_that_no_kernel_takes_are_refused(layer, x):
    assert layer_case(layer, None, LIFParams(), x, "dense", "fp16", "l").refused == 1
