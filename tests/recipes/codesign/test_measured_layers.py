"""Layers are spread, the test's are apart, and a built module is the layer that it stands for."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.recipes.codesign.measured_layers import SPACES, built, sampled, unseen


@pytest.mark.parametrize("kind", SPACES)
def test_a_sample_is_distinct_within_bounds_and_mixed_from_the_start(kind):
    space = SPACES[kind]
    layers = sampled(space, 300)
    assert len({s.name for s in layers}) == 300
    limits = dict(space.most_flops)
    assert all(s.flops <= limits[s.precision] and s.activation_bytes <= space.most_bytes for s in layers)
    for part in (layers[:100], layers):
        counts = Counter(s.kind for s in part)
        assert all(abs(counts[k] / len(part) - n / 100) < 0.05 for k, n in space.mix)


def test_the_same_seed_draws_the_same_layers():
    assert sampled(SPACES["cpu"], 20) == sampled(SPACES["cpu"], 20)
    assert sampled(SPACES["cpu"], 20) != sampled(SPACES["cpu"], 20, seed=1)
    assert sampled(SPACES["cpu"], 20) == sampled(SPACES["cpu"], 40)[:20]


def test_pairs_of_width_and_tokens_are_seen_or_unseen_as_a_whole():
    layers = sampled(SPACES["gpu"], 600)
    sides = {}
    for s in layers:
        sides.setdefault((s.kind, s.channels, s.tokens), set()).add(unseen(s))
    assert all(len(found) == 1 for found in sides.values())
    assert 0.1 < sum(map(unseen, layers)) / len(layers) < 0.3


@pytest.mark.parametrize("layer", [s for s in sampled(SPACES["cpu"], 60) if s.flops < 5e7], ids=lambda s: s.name)
def test_a_built_module_has_the_layers_weights_and_output(layer):
    module, inputs = built(layer, torch.device("cpu"))
    with torch.no_grad():
        out = module(*inputs)
    assert out.numel() * out.element_size() == pytest.approx(layer.output_bytes)
    matrices = sum(p.numel() * p.element_size() for p in module.parameters() if p.ndim >= 2)
    small = layer.attr("state", 0) * 4
    assert matrices - small == pytest.approx(layer.weight_bytes)
    assert {x.dtype for x in inputs} == {getattr(torch, layer.precision)}


def test_no_layers_are_refused():
    with pytest.raises(ConfigError, match="count"):
        sampled(SPACES["cpu"], 0)
    with pytest.raises(ConfigError, match="fewer"):
        sampled(replace(SPACES["cpu"], most_bytes=1.0), 3)
