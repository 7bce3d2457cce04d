import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from sparseflow.errors import UnsupportedError
from sparseflow.ops.conv2d_spike.check import draw
from sparseflow.ops.lif import LIFParams, lif
from sparseflow.recipes.spike_bench.gpu import layer_cases
from sparseflow.recipes.spike_bench.gpu.layer_cases import Tally, compare, layer_case, random_case
from sparseflow.recipes.spike_bench.gpu.random_layers import draw_layer

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


def test_spikes_are_held_against_float32_and_float64_each_by_its_own_potential():
    params = LIFParams(kind="if", v_reset=None)
    # Float32 sums are off by 4e-5 here, so its potential lies on the other side of the threshold.
    x, single = torch.tensor([1.00002]).double().view(1, 1, 1), torch.tensor([0.99998]).view(1, 1, 1)
    right, as_float32 = torch.ones(1, 1, 1), torch.zeros(1, 1, 1)
    first = compare(x, right, params, None, "a", single)
    assert (first.clear_wrong, first.float32_wrong, first.float32_own) == (0, 1, 1)
    assert first.wrong == ("a: 0, 1",)
    other = compare(x, as_float32, params, None, "b", single)
    assert (other.clear_wrong, other.float32_wrong, other.float32_own) == (1, 0, 1)
    assert compare(x, right, params, None, "c", x.float()).wrong == ()


def test_neurons_with_the_same_currents_count_as_one():
    # Channel 0 has one current in all six pixels, channel 1 another in each.
    x = torch.stack([torch.full((6,), 0.7), torch.linspace(0.1, 3.0, 6)]).double().expand(4, 1, 2, 6).contiguous()
    spikes = lif(x.flatten(0, 1), LIFParams(), steps=4)[0].view(4, 1, 2, 6)
    spikes[2, 0, 0] = 1 - spikes[2, 0, 0]
    tally = compare(x, spikes, LIFParams(), None, "a")
    assert (tally.steps, tally.steps - tally.equal) == (48, 6)
    assert (tally.distinct, tally.distinct - tally.distinct_equal) == (28, 1)
    # One wrong pixel of six is as wrong as all: it cannot hide among its likes.
    spikes[2, 0, 0, 1:] = 1 - spikes[2, 0, 0, 1:]
    alone = compare(x, spikes, LIFParams(), None, "b")
    assert (alone.distinct, alone.distinct - alone.distinct_equal) == (28, 1)
    first = torch.arange(12.0).view(1, 2, 6) * 0.01
    assert compare(x, spikes, LIFParams(), first, "c").distinct == 48


def test_a_tally_comes_back_from_json():
    tally = Tally(steps=3, equal=2, reasons=("r",), worst=(0.5, "w"), wrong=("seed 1",))
    assert Tally.of(json.loads(json.dumps(asdict(tally)))) == tally
    tally.add(tally)
    assert (tally.steps, tally.wrong) == (6, ("seed 1", "seed 1"))


@pytest.mark.parametrize("seed", [5, 23, 109, 239])
def test_dense_float32_itself_is_never_unlike_float64_where_that_is_clear(seed):
    small = replace(draw_layer(seed), samples=1, size=tuple(min(n, 20) for n in draw_layer(seed).size))
    tally = random_case(small, "dense", "fp16", CPU)
    assert (tally.ran, tally.float32_own, tally.float32_wrong, tally.clear_wrong) == (1, 0, 0, 0)


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


@pytest.mark.parametrize("layer", [nn.Conv2d(5, 4, 3, padding=1), nn.Linear(5, 7)])
def test_references_of_a_few_images_at_a_time_give_the_tally_of_all(layer, monkeypatch):
    shape = (3, 11, 5, 6, 6) if isinstance(layer, nn.Conv2d) else (3, 11, 5)
    x = (torch.rand(shape) < 0.3).to(torch.uint8)
    whole = layer_case(layer, None, LIFParams(v_threshold=0.3), x, "dense", "fp16", "l")
    real, seen = layer_cases.compare, []

    def watch(currents, *rest):
        seen.append(currents.shape[1])
        return real(currents, *rest)

    monkeypatch.setattr(layer_cases, "compare", watch)
    monkeypatch.setattr(layer_cases, "CHUNK", 4 * whole.steps // 11)
    parts = layer_case(layer, None, LIFParams(v_threshold=0.3), x.float(), "dense", "fp16", "l")
    assert seen == [1, 4, 4, 2]
    assert replace(parts, distinct=whole.distinct, distinct_equal=whole.distinct_equal) == whole


def test_a_wrong_spike_of_a_late_image_is_counted(monkeypatch):
    layer, x = nn.Conv2d(5, 4, 3, padding=1), (torch.rand(3, 5, 5, 6, 6) < 0.3).float()
    real = layer_cases.unpack_counts
    monkeypatch.setattr(layer_cases, "CHUNK", 1)
    monkeypatch.setattr(layer_cases, "unpack_counts", lambda *given: 1 - real(*given))
    tally = layer_case(layer, None, LIFParams(v_threshold=0.3), x, "dense", "fp16", "l")
    assert (tally.ran, tally.equal, tally.worst) == (1, 0, (0.0, "l"))
    assert tally.clear_wrong == tally.clear > 0
    assert tally.wrong == (f"l: {tally.clear_wrong}, {tally.float32_wrong}",)


def test_a_kernel_that_refuses_many_images_gets_a_few(monkeypatch):
    layer, x = nn.Conv2d(5, 4, 3, padding=1), torch.ones(2, 20, 5, 4, 4)
    real = layer_cases.spike_layer

    def small(sources, packed, *, steps, **more):
        if len(sources[0].words) > 16:
            raise UnsupportedError("takes 16 maps")
        return real(sources, packed, steps=steps, **more)

    monkeypatch.setattr(layer_cases, "spike_layer", small)
    tally = layer_case(layer, None, LIFParams(), x, "dense", "fp16", "l")
    assert (tally.ran, tally.refused, tally.steps) == (1, 0, 2 * 8 * 4 * 16)
    monkeypatch.setattr(layer_cases, "FEW", 9)
    none = layer_case(layer, None, LIFParams(), x, "dense", "fp16", "l")
    assert (none.ran, none.refused) == (0, 1)
    assert none.reasons == ("l: takes 16 maps",) * 2


@pytest.mark.parametrize(
    ("layer", "x"), [(nn.Conv2d(4, 4, 3, groups=2), torch.ones(1, 1, 4, 5, 5)), (nn.Linear(4, 2), torch.rand(1, 1, 4))]
)
def test_layers_that_no_kernel_takes_are_refused(layer, x):
    assert layer_case(layer, None, LIFParams(), x, "dense", "fp16", "l").refused == 1
